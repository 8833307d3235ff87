from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from cloud_service.access.action_log import BEGINNING, Entry, LoggedAction, detail_json, follow, verify


def chain(length: int) -> list[LoggedAction]:
    made: list[LoggedAction] = []
    for place in range(length):
        entry = Entry(1_800_000_000_000 + place, "ada", "admin", "gate.tighten", "电站-7", detail_json({"alpha": 0.05}))
        made.append(follow(made[-1] if made else None, entry))
    return made


def test_a_chain_as_it_was_written_is_whole() -> None:
    actions = chain(5)
    verdict = verify(actions)
    assert (verdict.count, verdict.head, verdict.problem) == (5, actions[-1].hash, "")
    assert verify([]).head == BEGINNING and not verify([], BEGINNING).problem


def test_anyone_can_compute_the_hash_from_what_is_documented() -> None:
    first = chain(1)[0]
    fields = {
        "seq": 1,
        "at_unix_ms": 1_800_000_000_000,
        "actor": "ada",
        "role": "admin",
        "action": "gate.tighten",
        "subject": "电站-7",
        "detail": '{"alpha":0.05}',
        "previous_hash": "0" * 64,
    }
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert first.hash == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: replace(entry, at_unix_ms=7),
        lambda entry: replace(entry, actor="eve"),
        lambda entry: replace(entry, role="viewer"),
        lambda entry: replace(entry, action="gate.loosen"),
        lambda entry: replace(entry, subject=""),
        lambda entry: replace(entry, detail='{"alpha": 0.05}'),
    ],
)
def test_a_change_to_any_field_is_found_at_its_entry(change: Callable[[Entry], Entry]) -> None:
    actions = chain(5)
    actions[2] = replace(actions[2], entry=change(actions[2].entry))
    verdict = verify(actions)
    assert verdict.problem == "entry 3 was changed" and verdict.count == 2


def test_an_entry_that_was_rehashed_breaks_the_next_one() -> None:
    actions = chain(5)
    actions[2] = follow(actions[1], replace(actions[2].entry, actor="eve"))
    assert verify(actions).problem == "entry 4 does not follow the entry before it"


def test_a_missing_entry_is_named() -> None:
    actions = chain(5)
    assert verify(actions[:2] + actions[3:]).problem == "entry 3 is missing: entry 4 stands in its place"
    assert verify(actions[1:]).problem == "entry 1 is missing: entry 2 stands in its place"


def test_an_end_that_was_cut_off_is_found_by_a_head_noted_elsewhere() -> None:
    actions = chain(5)
    assert not verify(actions[:4]).problem
    assert "cut off or written anew" in verify(actions[:4], actions[4].hash).problem
    assert not verify(actions, actions[2].hash).problem


def test_a_chain_written_anew_is_found_by_a_head_noted_elsewhere() -> None:
    noted = chain(5)[-1].hash
    forged: list[LoggedAction] = []
    for action in chain(5):
        forged.append(follow(forged[-1] if forged else None, replace(action.entry, actor="eve")))
    assert not verify(forged).problem and verify(forged, noted).problem
