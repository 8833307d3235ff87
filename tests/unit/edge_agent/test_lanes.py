from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from edge_agent.lanes import Lane, Lanes
from edge_agent.loading import load_model
from shared.clock import SystemClock
from shared.errors import EngineError
from shared.types import Outcome, Reason
from tests.support.edge_parts import lane_of
from tests.support.tiny_bundle import write_tiny_bundle

KEYS = [f"customer-{number}" for number in range(2000)]


@pytest.fixture
def old(tmp_path: Path) -> Lane:
    return a_lane(tmp_path, "1.0.0")


@pytest.fixture
def new(tmp_path: Path) -> Lane:
    return a_lane(tmp_path, "2.0.0")


def a_lane(folder: Path, version: str) -> Lane:
    write_tiny_bundle(folder / version, version=version)
    return lane_of(load_model(folder / version), SystemClock())


def count(lane: Lane, requests: int) -> None:
    for _ in range(requests):
        with lane.ledger.accept(0.0) as ticket:
            ticket.settle(Outcome.EDGE, Reason.CONFIDENT)


def counts(lanes: Lanes) -> dict[str, int]:
    return {word.series.version: word.snapshot.counters.edge for word in lanes.words()}


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_a_key_is_always_answered_by_one_lane_and_a_share_of_keys_by_the_second(
    old: Lane, new: Lane, share: float
) -> None:
    lanes = Lanes([old])
    lanes.split(new, share, "r1")
    chosen = [lanes.lane_of("tiny", key) for key in KEYS]
    assert chosen == [lanes.lane_of("tiny", key) for key in KEYS]
    assert chosen.count(new) / len(KEYS) == pytest.approx(share, abs=0.05)
    assert chosen.count(new) + chosen.count(old) == len(KEYS)
    assert lanes["tiny"] is old and lanes.lane_of("nobody", "key") is None
    assert lanes.unsplit("tiny") is new and lanes.unsplit("tiny") is None
    assert all(lanes.lane_of("tiny", key) is old for key in KEYS)


def test_another_test_splits_the_keys_in_another_way(old: Lane, new: Lane) -> None:
    lanes = Lanes([old])
    chosen = []
    for salt in ("r1", "r2"):
        lanes.split(new, 0.5, salt)
        chosen.append([lanes.lane_of("tiny", key) for key in KEYS])
    assert chosen[0] != chosen[1] and lanes.answering("tiny") == [old, new]


def test_both_lanes_are_told_while_they_answer_and_what_comes_in_late_is_counted_after(old: Lane, new: Lane) -> None:
    lanes = Lanes([old])
    lanes.split(new, 0.5, "r1")
    count(old, 3)
    count(new, 2)
    told = {word.series.version: (word.answers, word.is_current, word.gate.digest) for word in lanes.words()}
    digests = old.model.gate_digest, new.model.gate_digest
    assert told == {"1.0.0": (True, True, digests[0]), "2.0.0": (True, False, digests[1])}
    assert lanes.answering() == [old, new] and lanes.answering("nobody") == []
    with new.ledger.accept(0.0) as ticket:
        lanes.unsplit("tiny")
        ticket.settle(Outcome.EDGE, Reason.CONFIDENT)
    assert counts(lanes) == {"1.0.0": 3, "2.0.0": 3} and lanes.totals()["tiny"].counters.edge == 6
    assert {word.series.version: word.answers for word in lanes.words()} == {"1.0.0": True, "2.0.0": False}
    assert lanes.judgements_of("tiny", "2.0.0", digests[1]) is new.ledger.judgements
    again = lanes.lane_for(new.model, new.control, SystemClock())
    assert again.ledger is new.ledger


def test_a_lane_that_is_promoted_goes_on_with_its_counts_and_answers_all(old: Lane, new: Lane) -> None:
    lanes = Lanes([old])
    lanes.split(new, 0.5, "r1")
    count(new, 2)
    assert lanes.exchange(lanes.lane_for(new.model, new.control, SystemClock())) is old
    assert all(lanes.lane_of("tiny", key) is lanes["tiny"] for key in KEYS)
    count(lanes["tiny"], 1)
    assert counts(lanes) == {"1.0.0": 0, "2.0.0": 3}
    assert [word.series.version for word in lanes.words() if word.is_current] == ["2.0.0"]


def test_a_lane_that_could_not_be_told_apart_from_the_active_one_is_refused(old: Lane) -> None:
    lanes = Lanes([old])
    with pytest.raises(EngineError, match=r"1\.0\.0 answers already"):
        lanes.split(lane_of(old.model, SystemClock()), 0.5, "r1")
    assert lanes.answering() == [old]


@pytest.mark.anyio
async def test_each_lane_is_idle_when_its_own_requests_have_ended(old: Lane, new: Lane) -> None:
    lanes = Lanes([old])
    lanes.split(new, 0.5, "r1")
    for lane in (old, new, new):
        lanes.begin_computing(lane.model)
    ended = []

    async def wait_for_new() -> None:
        await lanes.until_idle(new.model)
        ended.append("new")

    with anyio.fail_after(10.0):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_for_new)
            await anyio.sleep(0.01)
            lanes.end_computing(new.model)
            await anyio.sleep(0.01)
            assert ended == []
            lanes.end_computing(new.model)
        assert ended == ["new"]
        lanes.end_computing(old.model)
        await lanes.until_idle(old.model)
