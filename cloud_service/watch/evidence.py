"""What one batch of messages says of one gate. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.types import LabelCounts, StepCounts

Counts = tuple[int, int]
"""Judged, and wrong of these."""


class Evidence:
    """Adds up, over devices, what was newly found out about the kept answers of one gate."""

    def __init__(self) -> None:
        self._audits: dict[float, Counts] = {}
        self._labelled: dict[float, Counts] = {}
        self._audits_by_label: dict[str, Counts] = {}
        self._labelled_by_label: dict[str, Counts] = {}
        self._scores: list[int] = []

    def add(
        self,
        threshold: float | None,
        audits: Sequence[StepCounts],
        labelled: Sequence[StepCounts],
        scores: Sequence[int],
        labels: Mapping[str, LabelCounts],
    ) -> None:
        """Add one device's increase.

        `threshold` is the device's own (None: it escalates all). A device that keeps less than a step would counts only
        its own kept answers there, which are surer: looser steps than its own are left out.
        """
        _add_steps(self._audits, usable_steps(audits, threshold))
        _add_steps(self._labelled, usable_steps(labelled, threshold))
        for label, counts in labels.items():
            _add(self._audits_by_label, label, counts.audited, counts.disagreed)
            _add(self._labelled_by_label, label, counts.labelled, counts.wrong)
        if len(scores) == len(self._scores):
            self._scores = [before + more for before, more in zip(self._scores, scores, strict=True)]
        elif scores:
            self._scores = list(scores)

    @property
    def audits(self) -> Mapping[float, Counts]:
        """Audited kept answers by step."""
        return self._audits

    @property
    def labelled(self) -> Mapping[float, Counts]:
        """Kept answers whose true label came back, by step."""
        return self._labelled

    @property
    def audits_by_label(self) -> Mapping[str, Counts]:
        """Audited kept answers by the label that was answered."""
        return self._audits_by_label

    @property
    def labelled_by_label(self) -> Mapping[str, Counts]:
        """Kept answers whose true label came back, by the label that was answered."""
        return self._labelled_by_label

    @property
    def scores(self) -> tuple[int, ...]:
        """Requests by the bins of the gate's score histogram."""
        return tuple(self._scores)


def step_at(thresholds: Sequence[float], threshold: float) -> int:
    """Which of the steps (strict to loose) holds all answers kept from `threshold` on: the strictest not above it."""
    return next((place for place, each in enumerate(thresholds) if each <= threshold), 0)


def usable_steps(steps: Sequence[StepCounts], threshold: float | None) -> Sequence[StepCounts]:
    """The steps, strict to loose, whose answers a device with this threshold keeps all."""
    if threshold is None or not steps:
        return steps
    return steps[: step_at([step.threshold for step in steps], threshold) + 1]


def _add_steps(target: dict[float, Counts], steps: Sequence[StepCounts]) -> None:
    for step in steps:
        judged, wrong = target.get(step.threshold, (0, 0))
        target[step.threshold] = (judged + step.judged, wrong + step.wrong)


def _add(target: dict[str, Counts], label: str, judged: int, wrong: int) -> None:
    if judged:
        before_judged, before_wrong = target.get(label, (0, 0))
        target[label] = (before_judged + judged, before_wrong + wrong)
