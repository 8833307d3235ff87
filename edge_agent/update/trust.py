"""What signed metadata vouch for: `TrustedRepository` on The Update Framework's client.

The director says what a device is to run, the releasing keys what may be run at all; a device takes what both name, by
the same digest. See https://theupdateframework.github.io/specification/latest/ and https://uptane.org/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import zstandard

from edge_agent.update.limits import UpdateLimits
from edge_agent.update.ports import RepositorySource
from edge_agent.update.trusted_time import BUILT_UNIX_S
from edge_agent.update.tuf_client import TufClient, plain_words
from shared.bundle.manifest import MANIFEST_NAME, FileEntry, Manifest, Role
from shared.bundle.reader import parse_manifest
from shared.bundle.writer import GATE_NAME
from shared.clock import Clock
from shared.documents import sha256
from shared.errors import BundleError, InputError, UpdateRefused
from shared.types import checked_identifier
from shared.update.assignment import Arm, Assignment, parse_assignment
from shared.update.gate_packing import DICTIONARY
from shared.update.names import (
    DIRECTOR_ROLE,
    EXCEPTIONS_ROLE,
    GATES_ROLE,
    METADATA,
    RELEASES_ROLE,
    TARGETS,
    device_target,
    exception_target,
    gate_target,
    manifest_target,
    ring_target,
)
from shared.update.release import ReleaseFacts, parse_release_facts

_SHA256 = re.compile(r"[0-9a-f]{64}")


class TufRepository:
    """Implements `TrustedRepository` for one device.

    `folder` is the device's own, for metadata and small targets; `pinned_root` the root metadata that came with the
    device or its configuration. `hardware` is the kind of device; "" fits only what is meant for all.
    """

    def __init__(
        self,
        source: RepositorySource,
        folder: Path,
        pinned_root: bytes,
        clock: Clock,
        *,
        device_id: str,
        hardware: str,
        limits: UpdateLimits | None = None,
        built_unix_s: float = BUILT_UNIX_S,
    ) -> None:
        self._limits = limits or UpdateLimits()
        self._targets = folder / TARGETS
        self._client = TufClient(
            source, folder / METADATA, pinned_root, clock, limits=self._limits, built_unix_s=built_unix_s
        )
        self._device_id = checked_identifier("device", device_id)
        self._hardware = hardware

    def now_unix_s(self) -> float:
        """The time that may be believed, in seconds since 1970-01-01 UTC: see `TrustedTime`."""
        return self._client.now_unix_s()

    async def refresh(self) -> None:
        """See `TrustedRepository`."""
        await self._client.refresh()

    async def assignment(self, ring: str, model: str) -> Assignment | None:
        """See `TrustedRepository`."""
        for path in (device_target(self._device_id, model), ring_target(ring, model)):
            data = await self._read(path, DIRECTOR_ROLE, self._limits.assignment_bytes)
            if data is not None:
                with _plain_words():
                    return self._checked_assignment(path, model, parse_assignment(data))
        return None

    async def manifest(self, assignment: Assignment, arm: Arm) -> Manifest:
        """See `TrustedRepository`; on top, no release below a floor that the device has come up to is taken."""
        path = _named(manifest_target, assignment.model, arm.version)
        listed = await self._client.find(path, RELEASES_ROLE)
        if listed is None:
            raise UpdateRefused(f"the releasing keys do not vouch for {assignment.model} {arm.version}")
        if listed.hashes.get("sha256") != arm.manifest_sha256:
            raise UpdateRefused(f"the director and the releasing keys name different contents of {path}")
        with _plain_words():
            facts = parse_release_facts(listed.custom)
        await self._check_facts(assignment, arm, facts)
        data = await self._read(path, RELEASES_ROLE, self._limits.manifest_bytes)
        if data is None or sha256(data) != arm.manifest_sha256:
            raise UpdateRefused(f"{path} changed while it was read; the next look settles it")
        manifest = self._checked_manifest(path, assignment, arm, data)
        if facts.release >= assignment.floor:
            await self._client.raise_floor(assignment.model, assignment.floor)
        return manifest

    async def gate(self, model: str, gate_digest: str) -> bytes:
        """See `TrustedRepository`."""
        path = _named(gate_target, model, gate_digest)
        packed = await self._read(path, GATES_ROLE, self._limits.packed_gate_bytes)
        if packed is None:
            raise UpdateRefused(f"the keys that release do not vouch for gate {gate_digest} of {model}")
        document = _unpacked(path, packed, self._limits.gate_bytes)
        if sha256(document) != gate_digest:
            raise UpdateRefused(f"{path} holds another gate than {gate_digest}")
        return document

    async def _read(self, path: str, role: str, most_bytes: int) -> bytes | None:
        return await self._client.read(path, role, self._targets, most_bytes=most_bytes)

    def _checked_assignment(self, path: str, model: str, assignment: Assignment) -> Assignment:
        if assignment.model != model:
            raise UpdateRefused(f"{path} is for the model {assignment.model}, not for {model}")
        self._check_hardware(path, assignment.hardware)
        return assignment

    async def _check_facts(self, assignment: Assignment, arm: Arm, facts: ReleaseFacts) -> None:
        what = f"{assignment.model} {arm.version}"
        if facts.release != arm.release:
            raise UpdateRefused(
                f"the director calls {what} release {arm.release}, the releasing keys call it {facts.release}"
            )
        self._check_hardware(what, facts.hardware)
        floor = max(assignment.floor, self._client.floor(assignment.model))
        if facts.release < floor and not await self._is_excepted(assignment.model, arm.version):
            raise UpdateRefused(
                f"{what} is release {facts.release}, below {floor}, the lowest that is still taken, "
                "and no signed exception allows it"
            )

    async def _is_excepted(self, model: str, version: str) -> bool:
        return await self._client.find(_named(exception_target, model, version), EXCEPTIONS_ROLE) is not None

    def _check_hardware(self, what: str, hardware: tuple[str, ...]) -> None:
        if hardware and self._hardware not in hardware:
            raise UpdateRefused(
                f"{what} is for {', '.join(map(repr, hardware))}, this device is {self._hardware or 'unnamed'}"
            )

    def _checked_manifest(self, path: str, assignment: Assignment, arm: Arm, data: bytes) -> Manifest:
        with _plain_words():
            manifest = parse_manifest(Path(path), data)
        if (manifest.model, manifest.version) != (assignment.model, arm.version):
            raise UpdateRefused(f"{path} describes {manifest.model} {manifest.version}")
        if len(manifest.files) > self._limits.files_in_bundle:
            raise UpdateRefused(f"{path} names {len(manifest.files)} files, more than {self._limits.files_in_bundle}")
        for entry in manifest.files:
            _check_entry(path, entry)
        return manifest


@contextmanager
def _plain_words() -> Iterator[None]:
    """What strangers wrote may stand in an error, and goes from there into logs, messages and pages."""
    try:
        yield
    except (UpdateRefused, BundleError) as error:
        raise UpdateRefused(plain_words(error)) from error


def _check_entry(path: str, entry: FileEntry) -> None:
    """Names and digests become paths on the device."""
    written_otherwise = PurePosixPath(entry.path).as_posix() != entry.path or not entry.path.isprintable()
    if written_otherwise or entry.path == MANIFEST_NAME or (entry.path == GATE_NAME) != (entry.role is Role.GATE):
        raise UpdateRefused(f"{path} names a file {entry.path!r}, which no bundle has")
    digests = (entry.sha256, *(chunk.sha256 for chunk in entry.chunks))
    if not all(_SHA256.fullmatch(digest) for digest in digests):
        raise UpdateRefused(f"{path} names a digest of {entry.path} that is none")
    if entry.length < 0 or any(chunk.length <= 0 for chunk in entry.chunks):
        raise UpdateRefused(f"{path} says that a piece of {entry.path} has no bytes, or fewer than none")


def _unpacked(path: str, packed: bytes, most_bytes: int) -> bytes:
    """Decompressed no further than `most_bytes`, whatever its header says."""
    reader = zstandard.ZstdDecompressor(dict_data=DICTIONARY, max_window_size=1 << 23).stream_reader(packed)
    try:
        plain = reader.read(most_bytes + 1)
    except (zstandard.ZstdError, MemoryError) as error:
        raise UpdateRefused(f"{path} cannot be unpacked: {error}") from error
    if len(plain) > most_bytes:
        raise UpdateRefused(f"{path} unpacks to more than {most_bytes} bytes")
    return plain


def _named(target_of: Callable[[str, str], str], model: str, which: str) -> str:
    try:
        return target_of(model, which)
    except InputError as error:
        raise UpdateRefused(f"the assignment names what cannot be: {error}") from error
