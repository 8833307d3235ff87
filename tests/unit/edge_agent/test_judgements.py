from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cloud_service.fleet.inbox import MAX_PAYLOAD_BYTES
from edge_agent.judgements import AuditTicket, Judgements, JudgementsSnapshot
from shared.codec import decode_telemetry, encode_telemetry
from shared.gate import Certificate, CertifiedThreshold, Gate, LabelRule, Risk, Score, ScoreHistogram
from shared.histogram import BOUNDS_MS
from shared.types import (
    OTHER_LABELS,
    GateReport,
    LabelCounts,
    LatencyHistogram,
    ModelIdentity,
    ModelTelemetry,
    Outcome,
    Reason,
    RequestCounters,
    StepCounts,
)

STEPS = (
    CertifiedThreshold(0.05, 0.9, 900, 18, 0.04, 0.1),
    CertifiedThreshold(0.1, 0.7, 950, 50, 0.08, 0.05),
    CertifiedThreshold(0.2, 0.4, 990, 90, 0.12, 0.01),
)
GATE = Gate(
    "a" * 64,
    "b" * 64,
    Score.MAX_PROBABILITY,
    1.0,
    {Risk.KEPT_ERROR: 0.05},
    (Certificate(Risk.KEPT_ERROR, 0.1, 1000, STEPS, "made up", "0" * 64, "0"),),
    (LabelRule("fraud", 2),),
    ScoreHistogram((0.25, 0.5, 0.75), (10, 20, 30, 40)),
)


def test_a_judged_answer_counts_at_every_step_that_it_reaches() -> None:
    judgements = Judgements(GATE)
    judgements.choose_audit("card", 0.9).judged("cash")
    judgements.choose_audit("card", 0.89).judged("card")
    judgements.labelled("card", 0.4, is_wrong=True)
    judgements.labelled("card", 0.3, is_wrong=True)
    snapshot = judgements.snapshot()
    assert snapshot.audit_steps == (StepCounts(0.9, 1, 1), StepCounts(0.7, 2, 1), StepCounts(0.4, 2, 1))
    assert snapshot.label_steps == (StepCounts(0.9, 0, 0), StepCounts(0.7, 0, 0), StepCounts(0.4, 1, 1))
    assert snapshot.labels == {"card": LabelCounts(audited=2, disagreed=1, labelled=2, wrong=2)}


def test_a_critical_labels_answers_are_counted_by_label_and_not_by_the_other_labels_steps() -> None:
    judgements = Judgements(GATE)
    judgements.choose_audit("fraud", 0.99).judged("card")
    judgements.labelled("fraud", 0.99, is_wrong=False)
    snapshot = judgements.snapshot()
    assert all(step.judged == 0 for step in (*snapshot.audit_steps, *snapshot.label_steps))
    assert snapshot.labels == {"fraud": LabelCounts(audited=1, disagreed=1, labelled=1)}
    assert snapshot.audits.disagreed == 1


def test_scores_fall_into_the_bins_of_the_calibration_histogram() -> None:
    judgements = Judgements(GATE)
    for score in (0.0, 0.25, 0.74, 0.75, 1.0):
        judgements.predicted("card", score, wanted=score < 0.9)
    snapshot = judgements.snapshot()
    assert snapshot.score_counts == (1, 1, 1, 2)
    assert snapshot.labels == {"card": LabelCounts(accepted=5, wanted=4)}


def test_a_model_of_thousands_of_long_labels_still_reports_and_what_finds_no_room_is_counted_together() -> None:
    judgements = Judgements(GATE)
    for round_ in range(3):
        for number in range(2000):
            label = f"{number}" + "账户" * 120
            judgements.predicted(label, 0.95, wanted=round_ == 0)
            judgements.labelled(label, 0.95, is_wrong=True)
        judgements.predicted("fraud", 0.95, wanted=False)
        snapshot = judgements.snapshot()
        payload = telemetry_of(snapshot)
        assert len(payload) < MAX_PAYLOAD_BYTES
        told = decode_telemetry(payload).labels
        assert told == snapshot.labels and told["fraud"].accepted == round_ + 1
        assert sum(each.accepted for each in told.values()) == 2001 * (round_ + 1)
        assert sum(each.wrong for each in told.values()) == 2000 * (round_ + 1)
        assert told[OTHER_LABELS].wanted > 1900


def telemetry_of(snapshot: JudgementsSnapshot) -> bytes:
    histogram = LatencyHistogram((2**30,) * (len(BOUNDS_MS) + 1), 1e12)
    told = ModelTelemetry("d1", "b1", 1, 0, 0, ModelIdentity("m", "1", "a" * 64), "", RequestCounters())
    told = replace(
        told,
        latency_by_outcome={outcome.value: histogram for outcome in Outcome},
        reasons={reason.value: 2**40 for reason in Reason},
        gate=GateReport(refusal="账" * 500),
        audits=snapshot.audits,
        audit_steps=snapshot.audit_steps * 40,
        label_steps=snapshot.label_steps * 40,
        labels=snapshot.labels,
        score_counts=(2**40,) * 100,
    )
    return encode_telemetry(told)


def test_a_gate_without_a_histogram_or_no_gate_at_all_counts_labels_alone() -> None:
    judgements = Judgements(None)
    judgements.predicted("card", 0.5, wanted=True)
    judgements.choose_audit("card", 0.5).judged("card")
    snapshot = judgements.snapshot()
    assert (snapshot.score_counts, snapshot.audit_steps) == ((), ())
    assert snapshot.labels == {"card": LabelCounts(1, 1, 1, 0)}


def test_an_audit_is_settled_once_and_what_came_first_stands() -> None:
    judgements = Judgements(GATE)
    ticket = judgements.choose_audit("card", 0.95)
    ticket.judged("card")
    ticket.failed()
    ticket.judged("cash")
    audits = judgements.snapshot().audits
    assert (audits.chosen, audits.agreed, audits.failed, audits.in_flight) == (1, 1, 0, 0)


events = st.tuples(
    st.sampled_from(["predicted", "choose", "agree", "disagree", "fail", "labelled"]),
    st.sampled_from(["card", "cash", "fraud"]),
    st.floats(0.0, 1.0),
    st.integers(0, 20),
)


@given(st.lists(events, max_size=60))
def test_the_sums_of_audits_steps_and_labels_hold_after_every_event(said: list[tuple[str, str, float, int]]) -> None:
    judgements, open_audits = Judgements(GATE), list[tuple[AuditTicket, str]]()
    for kind, label, score, which in said:
        if kind == "predicted":
            judgements.predicted(label, score, wanted=score < 0.9)
        elif kind == "choose":
            open_audits.append((judgements.choose_audit(label, score), label))
        elif kind == "labelled":
            judgements.labelled(label, score, is_wrong=which % 2 == 0)
        elif open_audits:
            ticket, edge_label = open_audits.pop(which % len(open_audits))
            if kind == "fail":
                ticket.failed()
            else:
                ticket.judged(edge_label if kind == "agree" else "another")
        assert_sums_hold(judgements.snapshot(), len(open_audits))


def assert_sums_hold(snapshot: JudgementsSnapshot, in_flight: int) -> None:
    audits = snapshot.audits
    assert audits.chosen == audits.agreed + audits.disagreed + audits.failed + audits.in_flight
    assert audits.in_flight == in_flight
    labels = snapshot.labels.values()
    assert sum(each.audited for each in labels) == audits.agreed + audits.disagreed
    assert sum(each.disagreed for each in labels) == audits.disagreed
    assert sum(snapshot.score_counts) == sum(each.accepted for each in labels)
    ruled = snapshot.labels.get("fraud", LabelCounts())
    assert all(step.judged <= audits.agreed + audits.disagreed - ruled.audited for step in snapshot.audit_steps)
    for steps in (snapshot.audit_steps, snapshot.label_steps):
        assert all(strict.judged <= loose.judged for strict, loose in zip(steps, steps[1:], strict=False))
        assert all(0 <= step.wrong <= step.judged for step in steps)
