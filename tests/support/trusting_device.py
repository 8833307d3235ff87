"""A device that looks for updates in a repository which a test may falsify, and what it would install."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from edge_agent.update.limits import UpdateLimits
from edge_agent.update.trust import TufRepository
from shared.bundle.manifest import Manifest
from shared.errors import FetchFailed, UpdateRefused
from shared.update.assignment import Assignment
from shared.update.names import DIRECTOR_ROLE, EXCEPTIONS_ROLE, GATES_ROLE, RELEASES_ROLE
from tests.support.fake_clock import FakeClock
from tests.support.hostile_repository import MODEL, RING, HostileRepository, MemorySource

DEVICE_ID = "device-1"
HARDWARE = "pi-5"
DAY_S = 86_400.0
METADATA_KINDS = ("root", "timestamp", "snapshot", "targets", "director", "releases", "gates")
TARGET_KINDS = ("rings/", "models/", "targets/gates/")
KINDS = (*METADATA_KINDS, *TARGET_KINDS)
"""What tells each kind of file that an update asks for from all others, by a part of its path."""
DELEGATED = (RELEASES_ROLE, GATES_ROLE, DIRECTOR_ROLE, EXCEPTIONS_ROLE)


@dataclass(frozen=True)
class Taken:
    """What a device would install."""

    assignment: Assignment
    manifest: Manifest
    gate: bytes


class TrustingDevice:
    """A device with a folder of its own; `restart` begins a new process on the same folder."""

    def __init__(self, folder: Path, repository: HostileRepository, *, hardware: str = HARDWARE) -> None:
        self.clock = FakeClock(unix_s=repository.now.timestamp())
        self.source = MemorySource(repository.files)
        self.folder = folder
        self.hardware = hardware
        self.limits = UpdateLimits()
        self.pinned_root = repository.pinned_root
        self.restart()

    def restart(self) -> None:
        self.trusted = TufRepository(
            self.source,
            self.folder,
            self.pinned_root,
            self.clock,
            device_id=DEVICE_ID,
            hardware=self.hardware,
            limits=self.limits,
            built_unix_s=0.0,
        )

    async def look(self) -> Taken:
        """Look for what to run and take all of it, as an update does.

        Raises:
            UpdateRefused, FetchFailed: nothing is taken.
        """
        await self.trusted.refresh()
        assignment = await self.trusted.assignment(RING, MODEL)
        assert assignment is not None
        arm = assignment.arms[0]
        manifest = await self.trusted.manifest(assignment, arm)
        return Taken(assignment, manifest, await self.trusted.gate(MODEL, arm.gate_digest))


def honest_repository() -> HostileRepository:
    """One release, assigned to the ring."""
    repository = HostileRepository(FakeClock().unix_s())
    repository.assign(repository.release(1))
    repository.publish(DELEGATED)
    return repository


async def sent(*pieces: bytes) -> AsyncIterator[bytes]:
    """Exactly these pieces."""
    for piece in pieces:
        yield piece


async def sent_without_end() -> AsyncIterator[bytes]:
    """More and more, for ever."""
    while True:
        await anyio.lowlevel.checkpoint()
        yield b" " * 4096


async def sent_by_drops() -> AsyncIterator[bytes]:
    """A byte now and then, for ever."""
    while True:
        yield b" "
        await anyio.sleep(0.02)


async def sent_never() -> AsyncIterator[bytes]:
    """Nothing, and no end."""
    await anyio.sleep_forever()
    yield b""


async def cut_off() -> AsyncIterator[bytes]:
    """The link breaks."""
    raise FetchFailed("no route to the repository")
    yield b""


async def refused(device: TrustingDevice, *words: str) -> None:
    """The device takes nothing, and says why in one of these words."""
    with pytest.raises((UpdateRefused, FetchFailed)) as caught:
        await device.look()
    assert any(word in str(caught.value) for word in words), str(caught.value)
    assert str(caught.value).isprintable()


def is_of_kind(kind: str, path: str) -> bool:
    """Whether a file is of one of `KINDS`."""
    return kind in path and (kind != "targets" or path.endswith(".targets.json"))
