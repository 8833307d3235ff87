"""The log of actions as a chain of hashes: each entry's hash covers the one before it. Pure.

Whoever changes, removes or inserts an entry breaks the chain from there on. Whoever owns the database could still write
the whole chain anew, or cut its end off: a head (the newest hash) noted elsewhere tells of that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from shared.documents import sha256

BEGINNING = "0" * 64
"""The hash before the first entry."""


@dataclass(frozen=True)
class Entry:
    """What someone did. `detail` is JSON; `at_unix_ms` in ms since 1970-01-01 UTC."""

    at_unix_ms: int
    actor: str
    role: str
    action: str
    subject: str
    detail: str = "{}"


@dataclass(frozen=True)
class LoggedAction:
    """An entry in its place: `seq` counts from 1 without a gap."""

    seq: int
    entry: Entry
    previous_hash: str
    hash: str


def detail_json(detail: object) -> str:
    """The one text of `detail`, an object of JSON."""
    return json.dumps(detail, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def hash_of(seq: int, entry: Entry, previous_hash: str) -> str:
    """SHA-256 of the canonical JSON (sorted keys, no spaces, UTF-8) of all fields; `detail` as the text it is."""
    fields = {"seq": seq, **asdict(entry), "previous_hash": previous_hash}
    return sha256(detail_json(fields).encode())


def follow(last: LoggedAction | None, entry: Entry) -> LoggedAction:
    """`entry` in its place after `last`."""
    seq, previous = (last.seq + 1, last.hash) if last else (1, BEGINNING)
    return LoggedAction(seq, entry, previous, hash_of(seq, entry, previous))


@dataclass(frozen=True)
class Verdict:
    """`count` entries were read up to `head`. `problem`: what is wrong with the first broken entry, or empty."""

    count: int
    head: str
    problem: str = ""


def verify(actions: Iterable[LoggedAction], noted_head: str | None = None) -> Verdict:
    """Walk the chain in order. `noted_head`: a hash noted earlier, which must be one of the chain's."""
    head, count, is_found = BEGINNING, 0, noted_head in (None, BEGINNING)
    for action in actions:
        problem = _problem(action, count + 1, head)
        if problem:
            return Verdict(count, head, problem)
        head, count = action.hash, count + 1
        is_found = is_found or head == noted_head
    if not is_found:
        return Verdict(count, head, f"no entry has the hash {noted_head}: the log was cut off or written anew")
    return Verdict(count, head)


def _problem(action: LoggedAction, seq: int, previous_hash: str) -> str:
    if action.seq != seq:
        return f"entry {seq} is missing: entry {action.seq} stands in its place"
    if action.previous_hash != previous_hash:
        return f"entry {seq} does not follow the entry before it"
    if action.hash != hash_of(seq, action.entry, previous_hash):
        return f"entry {seq} was changed"
    return ""
