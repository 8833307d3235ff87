"""What a device has once seen signed, in a file of its own, so that damaged metadata undo no protection.

python-tuf guards against older metadata by the copies it keeps, which it does not sync to the disk: after a power cut
they may be torn, and are then fetched again. These few numbers are synced, and say what may not come back.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tuf.api.metadata import Root, Snapshot, Timestamp

from shared.documents import Document, DocumentError, canonical_json, read_document, sha256
from shared.errors import UpdateRefused

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeenRole(Document):
    """The newest version of a role, and which keys had to sign it."""

    keys: str = ""
    version: int = 0


@dataclass(frozen=True)
class TrustMemory(Document):
    """`roles`: versions by role's name as the newest snapshot listed them; `floors`: by model, see `Assignment.floor`.

    Versions are forgotten with the keys that signed them: new keys are the way back from a fast-forward attack.
    """

    time_unix_s: float = 0.0
    root_version: int = 0
    timestamp: SeenRole = SeenRole()
    snapshot: SeenRole = SeenRole()
    roles: Mapping[str, int] = field(default_factory=dict)
    floors: Mapping[str, int] = field(default_factory=dict)

    def after(self, root: Root, timestamp: Timestamp, snapshot: Snapshot) -> TrustMemory:
        """The memory once these are taken.

        Raises:
            UpdateRefused: one of them is older than what was seen before.
        """
        timestamp_keys, snapshot_keys = _keys_of(root, Timestamp.type), _keys_of(root, Snapshot.type)
        _check_not_older("root", root.version, self.root_version)
        if timestamp_keys == self.timestamp.keys:
            _check_not_older("timestamp", timestamp.version, self.timestamp.version)
            _check_not_older("snapshot", snapshot.version, self.snapshot.version)
        versions = {name.removesuffix(".json"): listed.version for name, listed in snapshot.meta.items()}
        if snapshot_keys == self.snapshot.keys:
            for role, seen in self.roles.items():
                _check_not_older(role, versions.get(role, 0), seen)
        return replace(
            self,
            root_version=root.version,
            timestamp=SeenRole(timestamp_keys, timestamp.version),
            snapshot=SeenRole(snapshot_keys, snapshot.version),
            roles=versions,
        )


def load_memory(file: Path) -> TrustMemory:
    """What was last saved in `file`; nothing where there is none or it is damaged."""
    try:
        digest, _, document = file.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return TrustMemory()
    except OSError as error:
        _log.warning("%s cannot be read, what was seen before is forgotten: %s", file, error)
        return TrustMemory()
    try:
        if digest.decode() != sha256(document):
            raise DocumentError("its digest is another")
        return read_document(TrustMemory, document)
    except ValueError as error:
        _log.warning("%s is damaged, what was seen before is forgotten: %s", file, error)
        return TrustMemory()


def save_memory(file: Path, memory: TrustMemory) -> None:
    """Write `memory` so that a power cut leaves the old or the new one.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    document = canonical_json(memory)
    write_durably(file, sha256(document).encode() + b"\n" + document)


def write_durably(file: Path, data: bytes) -> None:
    """Put `data` in `file`, synced; a power cut leaves what was there before or all of it.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    building = file.with_name(f".{file.name}.new")
    with building.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    put_in_place(building, file)
    descriptor = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_in_place(building: Path, file: Path) -> None:
    """Rename `building` to `file`, though a damaged file system made a folder of it.

    Raises:
        OSError: the disk cannot be written.
    """
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    building.replace(file)


def _check_not_older(role: str, version: int, seen: int) -> None:
    if version < seen:
        raise UpdateRefused(f"the repository's {role} is version {version}, older than version {seen} seen before")


def _keys_of(root: Root, role: str) -> str:
    """A name for who must sign a role: its keys and how many of them."""
    who = [root.roles[role].threshold, *sorted(root.roles[role].keyids)]
    return hashlib.sha256(json.dumps(who).encode()).hexdigest()
