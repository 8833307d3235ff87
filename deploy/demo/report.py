"""From what was seen to what is reported. Pure: no clock, no file, no network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from deploy.demo.metrics import CounterTally
from deploy.demo.questions import Question
from deploy.demo.results import Pass, Result
from shared.types import Outcome

SCHEMA_VERSION = 1
COMPUTE = "tandem_backend_compute_seconds_total"
CPU = "tandem_backend_cpu_seconds_total"
REQUESTS = "tandem_requests_total"
RECEIVED = "tandem_requests_received_total"
ACCEPTED = "tandem_requests_accepted_total"
WANTED = "tandem_requests_wanted_total"
AUDITS_CHOSEN = "tandem_audits_chosen_total"
AUDITS = "tandem_audits_total"
_MS = 1000.0
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_ANSWERED_BY = {
    Pass.CASCADE: frozenset({Outcome.EDGE, Outcome.CLOUD, Outcome.DEGRADED}),
    Pass.EDGE_ONLY: frozenset({Outcome.EDGE}),
    Pass.CLOUD_ONLY: frozenset({Outcome.CLOUD}),
}


@dataclass(frozen=True)
class PassRecord:
    """One way through the questions: what the customers saw, and what the devices and the gateway counted meanwhile."""

    results: tuple[Result, ...]
    seconds: float
    devices: Mapping[str, CounterTally]
    gateway: CounterTally


@dataclass(frozen=True)
class Restart:
    """A process that ended without being asked, and was started again."""

    process: str
    at_s: float
    ready_again_at_s: float


@dataclass(frozen=True)
class Run:
    """Everything that a report is made of; `labels` are those that the model knows."""

    questions: Sequence[Question]
    labels: Collection[str]
    passes: Mapping[Pass, PassRecord]
    restarts: Sequence[Restart] = ()
    settings: Mapping[str, object] = field(default_factory=dict)


def build_report(run: Run) -> dict[str, object]:
    """The report, ready for JSON; times in ms unless the name says seconds, ratios in [0, 1], None for "no data"."""
    cascade = run.passes[Pass.CASCADE]
    devices = {device: _device_counts(tally) for device, tally in sorted(cascade.devices.items())}
    return {
        "schema_version": SCHEMA_VERSION,
        "requests": len(cascade.results),
        "outcomes": count_outcomes(cascade.results),
        "lost": sum(count_lost(record) for record in run.passes.values()),
        "offload_ratio": ratio(
            sum(d["wanted"] for d in devices.values()), sum(d["accepted"] for d in devices.values())
        ),
        "audits": _audits(cascade),
        "accuracy": {way.value: accuracy(run, way)[0] for way in run.passes},
        "accuracy_questions": {way.value: accuracy(run, way)[1] for way in run.passes},
        "kept": _kept(run),
        "out_of_scope": _out_of_scope(run),
        "latency_ms": latency_by_outcome(cascade.results),
        "cloud_compute_ms": _cloud_time(run, COMPUTE),
        "cloud_cpu_ms": _cloud_time(run, CPU),
        "devices": devices,
        "model_versions": _model_versions(run),
        "passes": {way.value: _pass_summary(record) for way, record in run.passes.items()},
        "restarts": [vars(restart) for restart in run.restarts],
        "settings": dict(run.settings),
    }


def count_outcomes(results: Sequence[Result]) -> dict[str, int]:
    """How many requests ended in each way; their sum is the number of requests."""
    counts = Counter(result.outcome for result in results)
    return {outcome.value: counts[outcome] for outcome in Outcome}


def count_lost(record: PassRecord) -> int:
    """Requests without exactly one outcome, by the customers' view and by the devices'; the worse of the two."""
    unanswered = sum(not result.answered for result in record.results)
    counts = [_device_counts(tally) for tally in record.devices.values()]
    ended = (Outcome.EDGE, Outcome.CLOUD, Outcome.DEGRADED, Outcome.FAILED)
    return max(unanswered, sum(abs(c["accepted"] - sum(c[outcome.value] for outcome in ended)) for c in counts))


def _audits(record: PassRecord) -> dict[str, object]:
    """Kept answers that went to the cloud as well; `cloud_share`: these and what the gate wanted, of the accepted."""
    tallies = record.devices.values()
    chosen, wanted, accepted = (
        sum(tally.total(name) for tally in tallies) for name in (AUDITS_CHOSEN, WANTED, ACCEPTED)
    )
    ended = Counter[str]()
    for tally in tallies:
        ended.update({result: int(count) for result, count in tally.by_label(AUDITS, "result").items()})
    return {"chosen": int(chosen), **ended, "cloud_share": ratio(wanted + chosen, accepted)}


def latency_by_outcome(results: Sequence[Result]) -> dict[str, dict[str, float | int | None]]:
    """p50, p95 and p99 in ms as the customers measured them, for each way in which an answer can come."""
    table: dict[str, dict[str, float | int | None]] = {}
    for outcome in (Outcome.EDGE, Outcome.CLOUD, Outcome.DEGRADED):
        values = sorted(result.latency_ms for result in results if result.outcome is outcome)
        table[outcome.value] = {name: quantile(values, share) for name, share in _QUANTILES.items()}
        table[outcome.value]["n"] = len(values)
    return table


def quantile(ascending: Sequence[float], share: float) -> float | None:
    """The value below which `share` of the sorted values lies, between neighbours in proportion; None of none."""
    if not ascending:
        return None
    position = share * (len(ascending) - 1)
    lower = int(position)
    upper = min(lower + 1, len(ascending) - 1)
    return round(ascending[lower] + (ascending[upper] - ascending[lower]) * (position - lower), 3)


def accuracy(run: Run, way: Pass) -> tuple[float | None, int]:
    """The share of right answers, and of how many.

    Counted are the questions whose category is among the model's labels, and of those the ones that were answered
    as the pass meant: by the device in edge_only, by the cloud in cloud_only, by either (degraded ones too)
    in the cascade. Out-of-scope questions are reported apart.
    """
    right = [
        result.label == run.questions[result.question].category
        for result in run.passes[way].results
        if result.outcome in _ANSWERED_BY[way] and run.questions[result.question].category in run.labels
    ]
    return ratio(sum(right), len(right)), len(right)


def ratio(part: float, whole: float) -> float | None:
    """part / whole, rounded; None of nothing."""
    return round(part / whole, 5) if whole else None


def _kept(run: Run) -> dict[str, object]:
    kept = [result for result in run.passes[Pass.CASCADE].results if result.outcome is Outcome.EDGE]
    known = [result for result in kept if run.questions[result.question].category in run.labels]
    wrong = sum(result.label != run.questions[result.question].category for result in known)
    record = run.passes.get(Pass.CLOUD_ONLY)
    cloud = {r.question: r.label for r in record.results if r.outcome is Outcome.CLOUD} if record else {}
    compared = [result for result in kept if result.question in cloud]
    differing = sum(result.label != cloud[result.question] for result in compared)
    return {
        "error": ratio(wrong, len(known)),
        "questions": len(known),
        "disagreement_with_cloud": ratio(differing, len(compared)),
        "compared": len(compared),
    }


def _out_of_scope(run: Run) -> dict[str, object]:
    outside = [r for r in run.passes[Pass.CASCADE].results if run.questions[r.question].category not in run.labels]
    not_kept = sum(result.outcome is not Outcome.EDGE for result in outside)
    return {"questions": len(outside), "not_kept_by_device": ratio(not_kept, len(outside))}


def _cloud_time(run: Run, counter: str) -> dict[str, float | None]:
    spent = run.passes[Pass.CASCADE].gateway.total(counter) * _MS
    everything = run.passes.get(Pass.CLOUD_ONLY)
    if_all = everything.gateway.total(counter) * _MS if everything else None
    return {
        "spent": round(spent, 3),
        "if_all_cloud": None if if_all is None else round(if_all, 3),
        "share": ratio(spent, if_all) if if_all else None,
    }


def _device_counts(tally: CounterTally) -> dict[str, int]:
    outcomes = tally.by_label(REQUESTS, "outcome")
    counts = {outcome.value: round(outcomes.get(outcome.value, 0.0)) for outcome in Outcome}
    totals = {"received": RECEIVED, "accepted": ACCEPTED, "wanted": WANTED}
    return counts | {word: round(tally.total(name)) for word, name in totals.items()}


def _model_versions(run: Run) -> dict[str, dict[str, list[str]]]:
    versions: dict[str, dict[str, list[str]]] = {}
    for record in run.passes.values():
        for result in record.results:
            if result.model is not None:
                tier = "cloud" if result.outcome is Outcome.CLOUD else "edge"
                seen = versions.setdefault(result.model.name, {}).setdefault(tier, [])
                if result.model.version not in seen:
                    seen.append(result.model.version)
    return versions


def _pass_summary(record: PassRecord) -> dict[str, object]:
    customers = count_outcomes(record.results)
    devices = Counter[str]()
    for tally in record.devices.values():
        devices.update({name: n for name, n in _device_counts(tally).items() if name in customers})
    return {
        "requests": len(record.results),
        "seconds": round(record.seconds, 3),
        "requests_per_second": round(len(record.results) / record.seconds, 1) if record.seconds else None,
        "outcomes": customers,
        "devices_count_the_same": all(devices[name] == count for name, count in customers.items()),
        "latency_ms": latency_by_outcome(record.results),
    }
