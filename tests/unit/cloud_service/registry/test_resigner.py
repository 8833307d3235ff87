from __future__ import annotations

import shutil
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from cloud_service.config import RegistrySettings
from cloud_service.registry.keys import KeyFolder
from cloud_service.registry.metadata import remaining_s
from cloud_service.registry.repository import Repository
from cloud_service.registry.resigner import Resigner
from cloud_service.registry.verification import verify
from shared.errors import RegistryError
from tests.support.fake_clock import FakeClock
from tests.support.repository_folder import RepositoryFolder, make_repository

HOUR_S, DAY_S = 3600.0, 86_400.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def made(tmp_path: Path, clock: FakeClock) -> RepositoryFolder:
    return make_repository(tmp_path / "repository", assigned="1.0.0", clock=clock)


def versions(made: RepositoryFolder) -> tuple[int, int, int]:
    state = made.repository.state()
    assert state.timestamp and state.snapshot
    return state.timestamp.signed.version, state.snapshot.signed.version, state.role("director").version


def test_a_timestamp_alone_is_signed_where_nothing_else_is_due(made: RepositoryFolder, clock: FakeClock) -> None:
    timestamp, snapshot, director = versions(made)
    clock.advance(4 * HOUR_S)
    Resigner(made.repository).sign()

    assert versions(made) == (timestamp + 1, snapshot, director)
    state = made.repository.state()
    assert state.timestamp and remaining_s(state.timestamp.signed, clock.unix_s()) == 24 * HOUR_S


def test_snapshot_and_director_are_signed_before_they_expire(made: RepositoryFolder, clock: FakeClock) -> None:
    _, snapshot, director = versions(made)
    clock.advance(4 * DAY_S)
    Resigner(made.repository).sign()
    assert versions(made)[1:] == (snapshot + 1, director)

    clock.advance(12 * DAY_S)
    Resigner(made.repository).sign()
    assert versions(made)[1:] == (snapshot + 2, director + 1)


def test_the_holder_of_the_offline_keys_is_told_in_time(made: RepositoryFolder, clock: FakeClock) -> None:
    assert Resigner(made.repository).sign() == []
    clock.advance(340 * DAY_S)

    warnings = Resigner(made.repository).sign()
    assert len(warnings) == 5
    assert all("keys renew" in warning and "25 days" in warning for warning in warnings)


def test_without_the_online_keys_nothing_is_signed_and_it_is_said(made: RepositoryFolder) -> None:
    before = versions(made)
    shutil.rmtree(made.keys / "online")
    repository = Repository(
        made.repository.store, KeyFolder(made.keys), made.repository.settings, made.repository.clock
    )

    with pytest.raises(RegistryError, match="is not in"):
        Resigner(repository).sign()
    assert versions(made) == before


def test_old_metadata_does_not_pile_up(tmp_path: Path) -> None:
    made = make_repository(tmp_path / "repository", assigned="1.0.0", settings=RegistrySettings(kept_hours=0))
    for sequence in range(2, 6):
        made.assign("1.0.0", sequence=sequence)
        Resigner(made.repository).sign()

    assert len(list((made.folder / "metadata").iterdir())) == 8
    assert verify(made.repository) == []


class HastyClock(FakeClock):
    """Whoever sleeps wakes at once, and so much time has passed; until the end, where `is_over` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.ends_s = 0.0
        self.is_over = anyio.Event()

    async def sleep(self, seconds: float) -> None:
        if self.monotonic_s() + seconds > self.ends_s:
            self.is_over.set()
            await anyio.sleep_forever()
        self.advance(seconds)
        await anyio.lowlevel.checkpoint()


async def run_for(made: RepositoryFolder, clock: HastyClock, seconds: float) -> None:
    """Let the resigner run for so long by `clock`."""
    clock.ends_s, clock.is_over = clock.monotonic_s() + seconds, anyio.Event()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Resigner(made.repository).run)
            await clock.is_over.wait()
            tasks.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_it_signs_by_itself_every_few_hours_and_sooner_after_a_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HastyClock()
    made = make_repository(tmp_path / "repository", clock=clock)
    first, pinned = versions(made)[0], made.root
    await run_for(made, clock, 9 * HOUR_S)
    assert versions(made)[0] == first + 3 and made.root == pinned

    (made.keys / "root.json").unlink()
    caplog.clear()
    await run_for(made, clock, HOUR_S)
    assert len(caplog.records) == 3


class SleepingMachine(HastyClock):
    """Is suspended for two days in the first sleep, which monotonic time does not count."""

    def __init__(self) -> None:
        super().__init__()
        self.suspended_s = 2 * DAY_S

    async def sleep(self, seconds: float) -> None:
        self.jump(self.suspended_s)
        self.suspended_s = 0.0
        await super().sleep(seconds)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_it_signs_at_once_after_the_machine_was_suspended(tmp_path: Path) -> None:
    clock = SleepingMachine()
    made = make_repository(tmp_path / "repository", clock=clock)
    await run_for(made, clock, 5 * 60.0)
    state = made.repository.state()
    assert state.timestamp and remaining_s(state.timestamp.signed, clock.unix_s()) > 23 * HOUR_S
