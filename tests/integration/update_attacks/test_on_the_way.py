"""Attacks on updates: The Update Framework's list and Uptane's; here those of who stands between repository and device.

Each comes in ten variants or more. Nothing that was not vouched for may leave the trusted repository, and the device
says in plain words what is wrong. See https://theupdateframework.io/docs/security/ and
https://uptane.org/docs/2.1.0/standard/uptane-standard, "Threat model and attack strategies".
"""

from __future__ import annotations

import random
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from shared.update.names import (
    DIRECTOR_ROLE,
    GATES_ROLE,
    RELEASES_ROLE,
)
from tests.support.hostile_repository import (
    HostileRepository,
)
from tests.support.hostile_roles import SIGNED, TOP, second_release, signed_role
from tests.support.trusting_device import (
    DAY_S,
    DELEGATED,
    KINDS,
    TARGET_KINDS,
    TrustingDevice,
    cut_off,
    is_of_kind,
    refused,
    sent,
    sent_by_drops,
    sent_never,
    sent_without_end,
)

pytestmark = pytest.mark.anyio


CHANGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "other bytes": lambda data, chance: chance.randbytes(len(data)),
    "one bit": lambda data, chance: bytes([data[0] ^ 1]) + data[1:],
    "cut off": lambda data, chance: data[: len(data) // 2],
    "nothing": lambda data, chance: b"",
    "more behind it": lambda data, chance: data + b" ",
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", TARGET_KINDS)
async def test_arbitrary_software(device: TrustingDevice, kind: str, change: str) -> None:
    files = device.source.files
    device.source.files = {
        path: CHANGES[change](data, random.Random(path)) if is_of_kind(kind, path) else data
        for path, data in files.items()
    }
    await refused(device, "not what was signed", "bytes, more than")


@pytest.mark.parametrize("back", range(1, 6))
@pytest.mark.parametrize("is_damaged", [False, True], ids=["with its metadata", "without its metadata"])
async def test_rollback_by_replay(
    repository: HostileRepository, device: TrustingDevice, back: int, is_damaged: bool
) -> None:
    states = []
    for number in range(2, 8):
        states.append(dict(repository.files))
        repository.assign(repository.release(number))
        repository.publish(DELEGATED)
    await device.look()
    device.source.files = states[-back]
    if is_damaged:
        for file in (device.folder / "metadata").glob("*.json"):
            file.unlink()
        device.restart()
    await refused(device, "older than version", "another version than they must be")


@pytest.mark.parametrize("is_clock_wrong", [False, True], ids=["clock right", "clock in 1970"])
@pytest.mark.parametrize("role", [*TOP, RELEASES_ROLE, GATES_ROLE, DIRECTOR_ROLE])
async def test_freeze(repository: HostileRepository, device: TrustingDevice, role: str, is_clock_wrong: bool) -> None:
    signed_role(repository, role).expires = repository.now.replace(day=20)
    repository.publish_root()
    device.pinned_root = repository.pinned_root
    repository.publish(("targets", *DELEGATED))
    device.restart()
    await device.look()
    if is_clock_wrong:
        device.clock.jump(-device.clock.unix_s())
    device.clock.advance(10 * DAY_S)
    await refused(device, "the signed metadata have expired")


@pytest.mark.parametrize("kind", KINDS)
async def test_endless_data(device: TrustingDevice, kind: str) -> None:
    device.source.tampering = lambda path: sent_without_end() if is_of_kind(kind, path) else None
    await refused(device, "sends more than it may")
    assert device.source.bytes_received < 9_000_000


@pytest.mark.parametrize("role", ["snapshot", *SIGNED[:-1]])
async def test_endless_data_whose_length_is_signed(
    repository: HostileRepository, device: TrustingDevice, role: str
) -> None:
    if role == "snapshot":
        repository.timestamp.snapshot_meta.length = 2**50
        repository.timestamp.version += 1
        repository.publish_timestamp()
    else:
        repository.snapshot.meta[f"{role}.json"].length = 2**50
        repository.snapshot.version += 1
        repository.timestamp.version += 1
        repository.publish_snapshot()
    device.source.tampering = lambda path: sent_without_end() if f".{role}.json" in path else None
    await refused(device, "sends more than it may")
    assert device.source.bytes_received < 2_000_000


@pytest.mark.parametrize("older_by", [1, 2, 3])
@pytest.mark.parametrize("role", ["snapshot", "targets", "releases", "gates", "director"])
async def test_mix_and_match(repository: HostileRepository, device: TrustingDevice, role: str, older_by: int) -> None:
    for number in range(2, 6):
        repository.assign(repository.release(number))
        repository.publish(("targets", *DELEGATED))
    version = repository.snapshot.version if role == "snapshot" else signed_role(repository, role).version
    older = repository.files[f"metadata/{version - older_by}.{role}.json"]
    device.source.tampering = lambda path: sent(older) if path == f"metadata/{version}.{role}.json" else None
    await refused(device, "not what was signed", "sends more than it may")


SLOW: dict[str, Callable[[], AsyncIterator[bytes]]] = {"by drops": sent_by_drops, "never": sent_never}


@pytest.mark.parametrize("way", SLOW)
@pytest.mark.parametrize("kind", KINDS)
async def test_slow_retrieval(device: TrustingDevice, kind: str, way: str) -> None:
    device.limits = replace(device.limits, patience_s=0.15)
    device.restart()
    device.source.tampering = lambda path: SLOW[way]() if is_of_kind(kind, path) else None
    await refused(device, "comes too slowly")


async def test_slow_retrieval_of_many_files(repository: HostileRepository, device: TrustingDevice) -> None:
    device.limits = replace(device.limits, longest_s=0.0)
    device.restart()
    await refused(device, "comes too slowly")


@pytest.mark.parametrize("is_cut", [False, True], ids=["missing", "cut short"])
@pytest.mark.parametrize("kind", KINDS[1:])
async def test_partial_bundle(repository: HostileRepository, device: TrustingDevice, kind: str, is_cut: bool) -> None:
    """Of a new release some files come and others do not."""
    await device.look()
    second_release(repository)
    repository.publish(("targets",))
    shutil.rmtree(device.folder / "targets")
    honest = device.source.files
    device.source.files = {
        path: data[:-1] if is_of_kind(kind, path) else data
        for path, data in honest.items()
        if is_cut or not is_of_kind(kind, path)
    }
    await refused(device, "lacks a file", "not what was signed", "cannot be used")
    device.source.files = honest
    assert (await device.look()).manifest.version == "1.2.0"


@pytest.mark.parametrize("let_through", range(10))
async def test_drop_request(repository: HostileRepository, device: TrustingDevice, let_through: int) -> None:
    device.source.tampering = lambda path: cut_off() if len(device.source.asked) > let_through else None
    await refused(device, "cannot be read: no route")
    device.source.tampering = None
    assert await device.look()
