from __future__ import annotations

import pytest

from cloud_service.fleet.deltas import Verdicts, further_verdicts, increase, series_of, snapshot_of
from shared.errors import MessageError
from shared.types import Outcome, StepCounts
from tests.support.simulated_device import CountedModel


@pytest.fixture
def model() -> CountedModel:
    return CountedModel("d1", "b1")


def test_the_first_word_of_a_series_counts_in_full(model: CountedModel) -> None:
    model.serve(Outcome.EDGE, 3)
    grown = increase(None, snapshot_of(model.telemetry()))
    assert grown.counters == model.counters()


def test_a_later_word_counts_what_it_adds(model: CountedModel) -> None:
    model.serve(Outcome.EDGE, 3, latency_ms=1)
    last = snapshot_of(model.telemetry())
    model.serve(Outcome.CLOUD, 2, latency_ms=40)
    grown = increase(last, snapshot_of(model.telemetry()))
    assert (grown.counters.edge, grown.counters.cloud, grown.counters.wanted) == (0, 2, 2)
    assert set(grown.latency) == {"cloud"} and sum(grown.latency["cloud"].dense()) == 2
    assert grown.reasons == {"uncertain": 2}


def test_what_is_in_flight_is_a_change_that_may_be_negative(model: CountedModel) -> None:
    model.begin(5)
    last = snapshot_of(model.telemetry())
    model.end(Outcome.EDGE, 4)
    grown = increase(last, snapshot_of(model.telemetry()))
    counters = grown.counters
    assert (counters.accepted, counters.edge, counters.in_flight) == (0, 4, -4)
    assert counters.accepted == counters.edge + counters.in_flight


def test_a_count_that_goes_backwards_is_refused(model: CountedModel) -> None:
    model.serve(Outcome.EDGE, 3)
    last = snapshot_of(model.telemetry())
    fewer = CountedModel("d1", "b1")
    fewer.sequence = 7
    with pytest.raises(MessageError, match="backwards"):
        increase(last, snapshot_of(fewer.telemetry()))


def test_boot_version_and_variant_are_counted_apart(model: CountedModel) -> None:
    told = [
        model.telemetry(),
        CountedModel("d1", "b2").telemetry(),
        CountedModel("d1", "b1", version="2").telemetry(),
        CountedModel("d1", "b1", variant="B").telemetry(),
    ]
    assert len({series_of(each) for each in told}) == 4


def verdicts(*steps: StepCounts, digest: str = "a", scores: tuple[int, ...] = ()) -> Verdicts:
    return Verdicts(digest, steps, (), scores)


def test_steps_of_the_same_gate_count_what_was_added() -> None:
    early, late = verdicts(StepCounts(0.9, 3, 1), scores=(1, 2)), verdicts(StepCounts(0.9, 5, 2), scores=(1, 5))
    assert further_verdicts(early, late) == verdicts(StepCounts(0.9, 2, 1), scores=(0, 3))
    assert further_verdicts(late, late) == verdicts()


def test_steps_of_another_gate_or_of_other_thresholds_or_fewer_counts_begin_anew() -> None:
    early = verdicts(StepCounts(0.9, 3, 1), scores=(4, 2))
    for late in (
        verdicts(StepCounts(0.9, 5, 2), digest="b"),
        verdicts(StepCounts(0.8, 5, 2)),
        verdicts(StepCounts(0.9, 2, 1), scores=(1, 1)),
        verdicts(StepCounts(0.9, 9, 1), StepCounts(0.8, 10, 1)),
    ):
        assert further_verdicts(early, late).audits == late.audits
