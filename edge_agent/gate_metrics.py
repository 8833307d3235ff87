"""The gate's side of the metrics page: what it obeys, and what audits and true labels found out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from edge_agent.accounting import LedgerSnapshot
from edge_agent.lanes import Lane
from shared.gate import Gate
from shared.types import StepCounts

_AUDIT_RESULTS = ("agreed", "disagreed", "failed")
_Snapshots = Mapping[str, LedgerSnapshot]


def gate_metrics(lanes: Mapping[str, Lane]) -> Iterator[Metric]:
    """What each model's gate obeys. A gate that escalates everything has no threshold."""
    info = InfoMetricFamily("tandem_gate", "The gate and the policy that it obeys; policy empty: the bundle's own.")
    threshold = GaugeMetricFamily("tandem_gate_threshold", "Answers are kept from here on.", labels=["model"])
    refused = GaugeMetricFamily("tandem_gate_policy_refused", "1 while a policy stands refused.", labels=["model"])
    alphas = GaugeMetricFamily("tandem_gate_alpha", "The alpha in force.", labels=["model", "risk"])
    expected = GaugeMetricFamily("tandem_gate_expected_offload", "What the certificate expects.", labels=["model"])
    for name, lane in lanes.items():
        report = lane.control.report()
        words = {"model": name, "score": report.score, "digest": report.digest, "policy": report.policy_id}
        info.add_metric([], words)
        if report.threshold is not None:
            threshold.add_metric([name], report.threshold)
        offload = _expected_offload(lane.model.bundle.gate, report.threshold)
        if offload is not None:
            expected.add_metric([name], offload)
        refused.add_metric([name], float(bool(report.refusal)))
        for risk, alpha in report.in_force.items():
            alphas.add_metric([name, risk], alpha)
    yield from (info, threshold, refused, alphas, expected)


def _expected_offload(gate: Gate | None, threshold: float | None) -> float | None:
    """Of the certified step in force; None where a policy is stricter than any, so that nothing is known."""
    if gate is None or threshold is None:
        return 1.0
    steps = [step for certificate in gate.certificates for step in certificate.steps if step.threshold == threshold]
    return max((step.expected_offload for step in steps), default=None)


def judgement_metrics(snapshots: _Snapshots) -> Iterator[Metric]:
    """Audits and true labels, all labels of a model together."""
    yield from _audits(snapshots)
    yield from _true_labels(snapshots)
    yield from _steps("audit", "audited", snapshots, lambda snapshot: snapshot.judgements.audit_steps)
    yield from _steps("label", "labelled", snapshots, lambda snapshot: snapshot.judgements.label_steps)


def _audits(snapshots: _Snapshots) -> Iterator[Metric]:
    chosen = CounterMetricFamily("tandem_audits_chosen", "Kept answers chosen for an audit.", labels=["model"])
    ended = CounterMetricFamily("tandem_audits", "Audits by how they ended.", labels=["model", "result"])
    in_flight = GaugeMetricFamily("tandem_audits_in_flight", "Audits under way.", labels=["model"])
    for name, snapshot in snapshots.items():
        audits = snapshot.judgements.audits
        chosen.add_metric([name], audits.chosen)
        for result in _AUDIT_RESULTS:
            ended.add_metric([name, result], getattr(audits, result))
        in_flight.add_metric([name], audits.in_flight)
    yield from (chosen, ended, in_flight)


def _true_labels(snapshots: _Snapshots) -> Iterator[Metric]:
    labelled = CounterMetricFamily("tandem_true_labels", "Kept answers whose true label came back.", labels=["model"])
    wrong = CounterMetricFamily("tandem_true_labels_wrong", "Of these, the wrong ones.", labels=["model"])
    for name, snapshot in snapshots.items():
        counts = snapshot.judgements.labels.values()
        labelled.add_metric([name], sum(each.labelled for each in counts))
        wrong.add_metric([name], sum(each.wrong for each in counts))
    yield from (labelled, wrong)


def _steps(
    kind: str, done: str, snapshots: _Snapshots, steps_of: Callable[[LedgerSnapshot], tuple[StepCounts, ...]]
) -> Iterator[Metric]:
    labels = ["model", "threshold"]
    judged = CounterMetricFamily(f"tandem_{kind}_step_judged", f"Kept answers from here on {done}.", labels=labels)
    wrong = CounterMetricFamily(f"tandem_{kind}_step_wrong", "Of these, the wrong ones.", labels=labels)
    for name, snapshot in snapshots.items():
        for step in steps_of(snapshot):
            judged.add_metric([name, f"{step.threshold:.6g}"], step.judged)
            wrong.add_metric([name, f"{step.threshold:.6g}"], step.wrong)
    yield from (judged, wrong)
