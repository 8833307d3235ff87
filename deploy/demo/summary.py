"""What the console shows: a live summary with a progress bar while questions are asked, and the report at the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from deploy.demo.measure import Tallies
from deploy.demo.questions import Question
from deploy.demo.report import ACCEPTED, COMPUTE, WANTED, count_outcomes, latency_by_outcome, ratio
from deploy.demo.results import Pass, Result

TITLES = {
    Pass.CASCADE: "as the gate decides",
    Pass.EDGE_ONLY: "the same, all on the devices",
    Pass.CLOUD_ONLY: "the same, all in the cloud",
}
_KEPT_RESULTS = 5000
_MESSAGES = 4
_BAR_WIDTH = 48


@dataclass
class LiveSummary:
    """The newest figures of the way that is being asked; rich renders it several times a second.

    Past `_KEPT_RESULTS` results the oldest are forgotten, so that a demo may run for days.
    """

    questions: Sequence[Question]
    labels: Collection[str]
    way: Pass = Pass.CASCADE
    total: int = 0
    tallies: Tallies | None = None
    asked: int = 0
    results: deque[Result] = field(default_factory=lambda: deque(maxlen=_KEPT_RESULTS))
    messages: deque[str] = field(default_factory=lambda: deque(maxlen=_MESSAGES))

    def begin(self, way: Pass, total: int, tallies: Tallies) -> None:
        """Start over for another way through the questions."""
        self.way, self.total, self.tallies, self.asked = way, total, tallies, 0
        self.results.clear()

    def note(self, result: Result) -> None:
        """One more request ended."""
        self.asked += 1
        self.results.append(result)

    def __rich__(self) -> RenderableType:
        """The panel; called by rich."""
        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(self.total, self.asked, _BAR_WIDTH), f"{self.asked} of {self.total}", TITLES[self.way])
        results = tuple(self.results)
        lines = [Text(message, "yellow") for message in self.messages]
        return Group(bar, self._figures(results), latency_table(latency_by_outcome(results)), *lines)

    def _figures(self, results: Sequence[Result]) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_row("outcomes", _counts(count_outcomes(results)))
        known = [r for r in results if r.label and self.questions[r.question].category in self.labels]
        right = sum(result.label == self.questions[result.question].category for result in known)
        table.add_row("accuracy", _percent(ratio(right, len(known))))
        if self.tallies is not None:
            devices = self.tallies.devices.values()
            wanted = sum(tally.total(WANTED) for tally in devices)
            accepted = sum(tally.total(ACCEPTED) for tally in devices)
            table.add_row("offload ratio", _percent(ratio(wanted, accepted)))
            table.add_row("cloud compute", f"{self.tallies.gateway.total(COMPUTE):.2f} s")
        return table


def latency_table(latency: Mapping[str, Mapping[str, float | int | None]]) -> Table:
    """Latency by the way an answer came."""
    table = Table(box=None, pad_edge=False)
    table.add_column("latency, ms")
    for name in ("answers", "p50", "p95", "p99"):
        table.add_column(name, justify="right")
    for outcome, values in latency.items():
        shown = [f"{values[name]:.1f}" if values[name] is not None else "–" for name in ("p50", "p95", "p99")]
        table.add_row(outcome, str(values["n"]), *shown)
    return table


def final_summary(report: Mapping[str, object]) -> RenderableType:
    """The report in a few lines."""
    accuracy, compute, cpu, kept, audits = (
        _part(report, k) for k in ("accuracy", "cloud_compute_ms", "cloud_cpu_ms", "kept", "audits")
    )
    table = Table.grid(padding=(0, 2))
    table.add_row("requests", f"{report['requests']}, lost {report['lost']}")
    table.add_row("outcomes", _counts(_part(report, "outcomes")))
    table.add_row("offload ratio", _percent(report["offload_ratio"]))
    table.add_row("accuracy", ", ".join(f"{name} {_percent(value)}" for name, value in accuracy.items()))
    table.add_row("kept on device", f"error {_percent(kept['error'])} of {kept['questions']} with a known label")
    table.add_row("audits", f"{audits['chosen']}; with what was escalated {_percent(audits['cloud_share'])}")
    table.add_row("cloud compute", _saving(compute))
    table.add_row("cloud CPU", _saving(cpu))
    latency = {name: _part(_part(report, "latency_ms"), name) for name in _part(report, "latency_ms")}
    return Group(table, latency_table(latency))  # type: ignore[arg-type]


def _saving(times: Mapping[str, object]) -> str:
    spent, everything = times["spent"], times["if_all_cloud"]
    if not isinstance(spent, float) or not isinstance(everything, float):
        return "–"
    share = _percent(times["share"])
    return f"{spent / 1000:.2f} s, {share} of the {everything / 1000:.2f} s that everything in the cloud costs"


def _counts(counts: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _percent(value: object) -> str:
    return f"{value:.1%}" if isinstance(value, (int, float)) else "–"


def _part(document: Mapping[str, object], name: str) -> Mapping[str, object]:
    part = document[name]
    if not isinstance(part, dict):
        raise TypeError(f"{name} is no table")
    return part
