"""Releases in a fleet of real processes: what is good reaches all, what is bad stops in the first ring."""

from __future__ import annotations

from pathlib import Path

from tests.support.update_fleet import CANARY, OLD, UpdateFleet, all_named
from tests.support.update_swarm import Fault

BAD = {"2.0.0": Fault.WRONG, "3.0.0": Fault.SLOW, "4.0.0": Fault.CRASHES}
GOOD = "5.0.0"


def test_bad_releases_stop_in_the_first_ring_and_a_good_one_reaches_all(tmp_path: Path) -> None:
    with UpdateFleet(
        tmp_path, devices=20, real=1, versions={**BAD, GOOD: None}, canary_share=0.25, hint_spread_s=0.2
    ) as fleet:
        for version in BAD:
            stopped = fleet.stops(version)
            assert "devices could not take it" in stopped.reason
            assert fleet.watch.who_named(version) <= fleet.ring(CANARY)
        assert all_named(fleet, list(BAD)) == set()
        reached = fleet.reaches_all(GOOD)
        assert [stage.figures.committed for stage in reached.rollout.stages] == [6, 15]
        words = fleet.swarm.words()
        assert {(word.version, word.connections) for word in words} == {(GOOD, 1)}
        (agent,) = fleet.agents.values()
        assert agent.failed == 0
        assert set(agent.answers) == {OLD, GOOD}
