"""Where an update's state outlives a power cut: two files that are written in turn, each with its checksum.

A write goes to a file of its own, which is synced and then takes the older one's name, so that the newer is whole at
every moment. Where it is not (a bad disk), the one before it is taken.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path

from edge_agent.update.disk import Disk, disk_errors
from edge_agent.update.machine import STATE_FORMAT, UpdateState
from shared.documents import DocumentError, canonical_fields, format_of, read_document, sha256

_log = logging.getLogger(__name__)
_NAMES = ("state-0", "state-1")
_DIGEST_CHARACTERS = 64
_MOST_BYTES = 1 << 20


class Journal:
    """The states of one model, in the folder `root`. Blocking; used by one thread at a time."""

    def __init__(self, root: Path, disk: Disk) -> None:
        self._root = root
        self._disk = disk

    def load(self, model: str) -> UpdateState:
        """The newest whole state; a fresh one where there is none."""
        found = [state for name in _NAMES if (state := _read(self._root / name)) and state.model == model]
        return max(found, key=lambda state: state.generation, default=UpdateState(model))

    def save(self, state: UpdateState) -> UpdateState:
        """Save `state` as the newest; returns it with its generation.

        Raises:
            NoRoom, UpdateError: it is not saved; the one before stands.
        """
        newer = replace(state, generation=state.generation + 1)
        document = _document(newer)
        data = sha256(document).encode() + b"\n" + document
        building = self._root / "state.new"
        with disk_errors("to save the update's state"):
            self._disk.make_folder(self._root)
            self._disk.set_length(building, 0)
            self._disk.write(building, 0, data)
            self._disk.sync(building)
            self._disk.rename(building, self._root / _NAMES[newer.generation % 2])
            self._disk.sync(self._root)
        return newer


def _document(state: UpdateState) -> bytes:
    """Without the field that agents from before it would refuse, where it says nothing."""
    fields = asdict(state)
    if state.candidate is not None and not state.candidate.target.key_share:
        del fields["candidate"]["target"]["key_share"]
    return canonical_fields(fields)


def _read(path: Path) -> UpdateState | None:
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        data = path.read_bytes()
    except OSError:
        return None
    digest, document = data[:_DIGEST_CHARACTERS], data[_DIGEST_CHARACTERS + 1 :]
    if sha256(document).encode() != digest:
        _log.error("%s is damaged; the state saved before it is taken", path)
        return None
    try:
        return read_document(UpdateState, document)
    except DocumentError as error:
        _log.error("%s cannot be read (format %d, known is %d): %s", path, format_of(document), STATE_FORMAT, error)
        return None
