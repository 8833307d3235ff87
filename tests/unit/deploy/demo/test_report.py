"""The report's arithmetic."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from deploy.demo.metrics import CounterTally, Series
from deploy.demo.questions import Question
from deploy.demo.report import (
    ACCEPTED,
    COMPUTE,
    CPU,
    RECEIVED,
    REQUESTS,
    WANTED,
    PassRecord,
    Restart,
    Run,
    build_report,
    count_lost,
    count_outcomes,
    latency_by_outcome,
    quantile,
)
from deploy.demo.results import Pass, Result, parse_answer
from shared.types import ModelIdentity, Outcome

LABELS = frozenset({"card", "cash"})
QUESTIONS = (Question("a", "card"), Question("b", "cash"), Question("c", "card"), Question("d", "out_of_scope"))
EDGE_MODEL = ModelIdentity("bank", "1.0.0", "e" * 64)
FULL_MODEL = ModelIdentity("bank", "2.0.0", "f" * 64)


def answered(question: int, outcome: Outcome, label: str, latency_ms: float = 1.0) -> Result:
    model = FULL_MODEL if outcome is Outcome.CLOUD else EDGE_MODEL
    return Result(question, "d1", outcome, latency_ms, label, model=model)


def counted(**growth: float) -> CounterTally:
    names = {"received": RECEIVED, "accepted": ACCEPTED, "wanted": WANTED}
    series = {
        Series(names[word]) if word in names else Series(REQUESTS, (("outcome", word),)): value
        for word, value in growth.items()
    }
    return tally(series)


def tally(growth: Mapping[Series, float]) -> CounterTally:
    made = CounterTally()
    made.observe({})
    made.observe(growth)
    return made


def record(results: Sequence[Result], device: CounterTally, compute_s: float) -> PassRecord:
    gateway = tally({Series(COMPUTE): compute_s, Series(CPU): compute_s / 2})
    return PassRecord(tuple(results), 2.0, {"d1": device}, gateway)


def example() -> Run:
    cascade = [
        answered(0, Outcome.EDGE, "card", 2.0),
        answered(1, Outcome.CLOUD, "cash", 10.0),
        answered(2, Outcome.EDGE, "cash", 4.0),
        answered(3, Outcome.CLOUD, "card", 20.0),
    ]
    edge = [answered(n, Outcome.EDGE, "card") for n in range(4)]
    cloud = [answered(n, Outcome.CLOUD, label) for n, label in enumerate(("card", "cash", "card", "cash"))]
    return Run(
        QUESTIONS,
        LABELS,
        {
            Pass.CASCADE: record(cascade, counted(received=4, accepted=4, edge=2, cloud=2, wanted=2), 0.03),
            Pass.EDGE_ONLY: record(edge, counted(received=4, accepted=4, edge=4), 0.0),
            Pass.CLOUD_ONLY: record(cloud, counted(received=4, accepted=4, cloud=4), 0.06),
        },
        (Restart("cloud", 1.0, 2.5),),
        {"rate": 0.0},
    )


def test_outcomes_name_all_ways_to_end_and_sum_to_the_requests() -> None:
    report = build_report(example())
    assert report["outcomes"] == {"edge": 2, "cloud": 2, "degraded": 0, "failed": 0, "rejected": 0}
    assert report["requests"] == 4
    assert report["lost"] == 0


def test_accuracy_counts_questions_with_a_known_label_alone() -> None:
    report = build_report(example())
    assert report["accuracy"] == {"cascade": 0.66667, "edge_only": 0.66667, "cloud_only": 1.0}
    assert report["accuracy_questions"] == {"cascade": 3, "edge_only": 3, "cloud_only": 3}
    assert report["out_of_scope"] == {"questions": 1, "not_kept_by_device": 1.0}


def test_kept_answers_are_judged_by_the_label_and_by_the_clouds_answer() -> None:
    assert build_report(example())["kept"] == {
        "error": 0.5,
        "questions": 2,
        "disagreement_with_cloud": 0.5,
        "compared": 2,
    }


def test_compute_is_what_the_gateway_counted_in_each_way() -> None:
    report = build_report(example())
    assert report["cloud_compute_ms"] == {"spent": 30.0, "if_all_cloud": 60.0, "share": 0.5}
    assert report["cloud_cpu_ms"] == {"spent": 15.0, "if_all_cloud": 30.0, "share": 0.5}


def test_the_offload_ratio_is_what_the_gates_wanted_not_what_they_got() -> None:
    run = example()
    all_degraded = record(
        [answered(n, Outcome.DEGRADED, "card") for n in range(4)],
        counted(received=4, accepted=4, degraded=4, wanted=4),
        0.0,
    )
    report = build_report(replace(run, passes={**run.passes, Pass.CASCADE: all_degraded}))
    assert report["offload_ratio"] == 1.0


def test_an_answer_of_the_wrong_tier_does_not_pass_for_the_clouds_accuracy() -> None:
    run = example()
    half = [answered(0, Outcome.DEGRADED, "cash"), answered(1, Outcome.CLOUD, "cash")]
    cloud_only = record(half, counted(received=2, accepted=2, degraded=1, cloud=1), 0.06)
    report = build_report(replace(run, passes={**run.passes, Pass.CLOUD_ONLY: cloud_only}))
    assert isinstance(report["accuracy"], dict) and report["accuracy"]["cloud_only"] == 1.0
    assert isinstance(report["accuracy_questions"], dict) and report["accuracy_questions"]["cloud_only"] == 1


def test_versions_are_told_apart_by_tier() -> None:
    assert build_report(example())["model_versions"] == {"bank": {"edge": ["1.0.0"], "cloud": ["2.0.0"]}}


def test_a_request_without_an_answer_is_lost_though_it_counts_as_failed() -> None:
    results = [Result(0, "d1", Outcome.FAILED, 1.0, answered=False), answered(1, Outcome.EDGE, "cash")]
    one = record(results, counted(received=2, accepted=2, edge=2), 0.0)
    assert count_lost(one) == 1
    assert sum(count_outcomes(results).values()) == 2


def test_a_request_that_a_device_accepted_and_never_ended_is_lost() -> None:
    one = record([answered(0, Outcome.EDGE, "card")], counted(received=2, accepted=2, edge=1), 0.0)
    assert count_lost(one) == 1


def test_a_device_that_counts_otherwise_than_its_customers_is_shown() -> None:
    run = example()
    doubtful = record([answered(0, Outcome.EDGE, "card")], counted(received=1, accepted=1, cloud=1), 0.0)
    report = build_report(replace(run, passes={**run.passes, Pass.CASCADE: doubtful}))
    assert isinstance(report["passes"], dict)
    assert report["passes"]["cascade"]["devices_count_the_same"] is False
    assert report["passes"]["edge_only"]["devices_count_the_same"] is True


def test_a_report_is_json_even_when_nothing_was_answered() -> None:
    nothing = PassRecord((), 0.0, {}, CounterTally())
    report = build_report(Run(QUESTIONS, LABELS, dict.fromkeys(Pass, nothing)))
    json.dumps(report, allow_nan=False)
    assert (report["offload_ratio"], report["requests"]) == (None, 0)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, None), ([3.0], 0.99, 3.0), ([1.0, 2.0], 0.5, 1.5), ([float(n) for n in range(101)], 0.95, 95.0)],
)
def test_a_quantile_lies_between_its_neighbours(values: list[float], share: float, expected: float | None) -> None:
    assert quantile(values, share) == expected


def test_latency_is_told_for_each_way_an_answer_came() -> None:
    table = latency_by_outcome(example().passes[Pass.CASCADE].results)
    assert table["edge"] == {"p50": 3.0, "p95": 3.9, "p99": 3.98, "n": 2}
    assert table["degraded"] == {"p50": None, "p95": None, "p99": None, "n": 0}


def test_an_answer_is_read_from_what_the_agent_sends() -> None:
    body = {
        "outcome": "cloud",
        "label": "card",
        "reason": "uncertain",
        "model": {"name": "bank", "version": "2.0.0", "digest": "f" * 64},
    }
    assert parse_answer(3, "d1", 7.0, 200, body) == Result(3, "d1", Outcome.CLOUD, 7.0, "card", "uncertain", FULL_MODEL)


def test_a_refusal_is_a_rejection_and_keeps_its_reason() -> None:
    body = {"outcome": "rejected", "error": {"code": "overloaded", "message": "later"}}
    result = parse_answer(0, "d1", 1.0, 429, body)
    assert (result.outcome, result.reason, result.answered) == (Outcome.REJECTED, "overloaded", True)


@pytest.mark.parametrize("body", [None, [], {}, {"outcome": "edge"}, {"outcome": "sideways"}])
def test_an_answer_that_cannot_be_read_counts_as_failed(body: object) -> None:
    assert parse_answer(0, "d1", 1.0, 200, body).outcome is Outcome.FAILED
