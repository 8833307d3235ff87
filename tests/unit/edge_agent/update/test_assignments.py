from __future__ import annotations

import anyio
import pytest

from edge_agent.update.assignments import Assignments
from edge_agent.update.disk import RealDisk
from edge_agent.update.machine import target_of
from edge_agent.update.parts import UpdateParts, UpdateSettings
from shared.clock import SystemClock
from tests.support.fake_update_device import FACTS
from tests.support.fake_update_peers import FakeHost, FakeRegistry, FakeRepository, FakeSource, inline
from tests.support.swap_parts import until
from tests.unit.edge_agent.update.conftest import Fleet

pytestmark = pytest.mark.anyio
_PATIENCE_S = 20.0


def seldom_looking(
    registry: FakeRegistry, *, hint_spreads_s: tuple[float, ...] = ()
) -> tuple[Assignments, FakeRepository]:
    """Assignments that are looked at for hints alone, so long after each; at once after those that follow."""
    drawn = iter((0.0, *hint_spreads_s))
    repository, clock = FakeRepository(registry), SystemClock()
    settings = UpdateSettings(interval_s=1e6, hint_spread_s=1.0)
    source = FakeSource(registry)
    parts = UpdateParts(
        FACTS,
        repository,
        source,
        FakeHost(),
        RealDisk(),
        inline,
        clock,
        clock.unix_s,
        lambda: next(drawn, 0.0),
        settings,
    )
    return Assignments("tiny", parts), repository


async def test_while_work_goes_on_every_hint_is_followed_whatever_came_before(fleet: Fleet) -> None:
    registry = fleet.registry
    assignments, repository = seldom_looking(registry)
    first = registry.assign(registry.arms["2.0.0"], sequence=1)
    with anyio.fail_after(_PATIENCE_S):
        async with anyio.create_task_group() as tasks:

            async def direct() -> None:
                registry.assign(registry.arms["2.0.0"], sequence=2)
                assignments.hint()
                await until(lambda: repository.looks > 0)
                registry.assign(registry.arms["1.0.0"], sequence=3)
                assignments.hint()

            tasks.start_soon(direct)
            assert await assignments.unless_changed(target_of(first, first.arms[0]), anyio.sleep_forever)


async def test_a_hint_that_came_just_before_the_work_ended_is_followed_after_it(fleet: Fleet) -> None:
    registry = fleet.registry
    assignments, repository = seldom_looking(registry, hint_spreads_s=(1e6,))
    first = registry.assign(registry.arms["2.0.0"], sequence=1)

    async def work() -> None:
        assignments.hint()
        await anyio.sleep(0.05)

    assert not await assignments.unless_changed(target_of(first, first.arms[0]), work)
    assert repository.looks == 0
    with anyio.fail_after(_PATIENCE_S):
        await assignments.wait(1e6)
