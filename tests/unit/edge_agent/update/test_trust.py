from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from edge_agent.update.ports import TrustedRepository
from shared.errors import FetchFailed, UpdateRefused
from shared.update.names import DIRECTOR_ROLE, device_target
from tests.support.hostile_repository import GATE_DOCUMENT, MODEL, RING, HostileRepository, tiny_manifest
from tests.support.trusting_device import DELEGATED, DEVICE_ID, TrustingDevice, cut_off, honest_repository, sent_never

pytestmark = pytest.mark.anyio


@pytest.fixture
def repository() -> HostileRepository:
    return honest_repository()


@pytest.fixture
def device(tmp_path: Path, repository: HostileRepository) -> TrustingDevice:
    return TrustingDevice(tmp_path / "trust", repository)


async def test_what_director_and_releasing_keys_both_name_is_trusted(device: TrustingDevice) -> None:
    trusted: TrustedRepository = device.trusted
    await trusted.refresh()
    assignment = await trusted.assignment(RING, MODEL)
    assert assignment is not None
    arm = assignment.arms[0]
    assert await trusted.manifest(assignment, arm) == tiny_manifest(1)
    assert await trusted.gate(MODEL, arm.gate_digest) == GATE_DOCUMENT


async def test_a_devices_own_assignment_goes_before_its_rings(
    repository: HostileRepository, device: TrustingDevice
) -> None:
    repository.assign(repository.release(2), path=device_target(DEVICE_ID, MODEL))
    repository.assign(repository.release(3), path=device_target("device-2", MODEL))
    repository.publish(DELEGATED)
    assignment = await device.trusted.assignment(RING, MODEL)
    assert assignment is not None and assignment.arms[0].release == 2


async def test_where_nothing_is_assigned_there_is_nothing_to_run(device: TrustingDevice) -> None:
    assert await device.trusted.assignment("another-ring", MODEL) is None
    assert await device.trusted.assignment(RING, "another-model") is None


async def test_metadata_that_are_known_do_not_travel_again(
    repository: HostileRepository, device: TrustingDevice
) -> None:
    await device.trusted.assignment(RING, MODEL)
    device.restart()
    device.source.asked.clear()
    assert await device.trusted.assignment(RING, MODEL) is not None
    assert device.source.asked == ["metadata/2.root.json", "metadata/timestamp.json"]


async def test_a_gate_alone_is_a_few_files(repository: HostileRepository, device: TrustingDevice) -> None:
    await device.trusted.assignment(RING, MODEL)
    repository.assign(repository.release(1))
    repository.publish(("gates", DIRECTOR_ROLE))
    device.source.asked.clear()
    await device.trusted.refresh()
    assignment = await device.trusted.assignment(RING, MODEL)
    assert assignment is not None
    await device.trusted.gate(MODEL, assignment.arms[0].gate_digest)
    assert len(device.source.asked) == 7


async def test_a_release_below_the_floor_needs_a_signed_exception(
    repository: HostileRepository, device: TrustingDevice
) -> None:
    assignment = repository.assign(repository.release(2), floor=3)
    repository.publish(DELEGATED)
    with pytest.raises(UpdateRefused, match="release 2, below 3"):
        await device.trusted.manifest(assignment, assignment.arms[0])
    repository.allow("1.2.0")
    repository.publish(DELEGATED)
    await device.trusted.refresh()
    assert await device.trusted.manifest(assignment, assignment.arms[0])


async def test_a_floor_once_reached_is_kept_over_a_restart(
    repository: HostileRepository, device: TrustingDevice
) -> None:
    old, new = repository.release(4), repository.release(5)
    high = repository.assign(new, floor=5)
    repository.publish(DELEGATED)
    await device.trusted.manifest(high, new)
    low = repository.assign(old, floor=0)
    repository.publish(DELEGATED)
    device.restart()
    with pytest.raises(UpdateRefused, match="release 4, below 5"):
        await device.trusted.manifest(low, old)


async def test_a_floor_above_its_own_release_locks_no_device_out(
    repository: HostileRepository, device: TrustingDevice
) -> None:
    arm = repository.release(4)
    absurd = repository.assign(arm, floor=2**40)
    repository.publish(DELEGATED)
    with pytest.raises(UpdateRefused, match="below"):
        await device.trusted.manifest(absurd, arm)
    honest = repository.assign(arm, floor=4)
    repository.publish(DELEGATED)
    await device.trusted.refresh()
    assert await device.trusted.manifest(honest, arm)


async def test_a_refresh_grows_old_and_is_done_again(repository: HostileRepository, device: TrustingDevice) -> None:
    await device.trusted.refresh()
    device.clock.advance(40 * 86_400)
    with pytest.raises(UpdateRefused, match="expired"):
        await device.trusted.assignment(RING, MODEL)


async def test_a_caller_who_is_cancelled_is_not_kept_waiting(device: TrustingDevice) -> None:
    device.source.tampering = lambda path: sent_never()
    with anyio.move_on_after(0.1) as scope:
        await device.trusted.refresh()
    assert scope.cancelled_caught


async def test_an_unreachable_repository_is_a_failed_fetch_and_heals(device: TrustingDevice) -> None:
    device.source.tampering = lambda path: cut_off()
    with pytest.raises(FetchFailed, match="no route"):
        await device.trusted.refresh()
    device.source.tampering = None
    assert await device.trusted.assignment(RING, MODEL) is not None


async def test_a_device_whose_clock_falls_back_to_1970_goes_by_the_time_that_was_trusted_last(
    device: TrustingDevice,
) -> None:
    await device.trusted.refresh()
    trusted_s = device.trusted.now_unix_s()
    device.clock.jump(-trusted_s)
    assert device.trusted.now_unix_s() >= trusted_s > 0.0
