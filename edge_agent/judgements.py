"""What was found out about answers: by audits and by true labels, and how the answers spread. Pure, no locks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, fields

from shared.gate import Gate
from shared.types import OTHER_LABELS, AuditCounts, LabelCounts, StepCounts

_LABELS_BYTES = 44 * 1024
_COUNTS_BYTES = 44
"""Of one label in a message: six counts of five bytes and what frames them."""


@dataclass(frozen=True)
class JudgementsSnapshot:
    """One moment's counts; see `ModelTelemetry`."""

    audits: AuditCounts = field(default_factory=AuditCounts)
    audit_steps: tuple[StepCounts, ...] = ()
    label_steps: tuple[StepCounts, ...] = ()
    labels: dict[str, LabelCounts] = field(default_factory=dict)
    score_counts: tuple[int, ...] = ()


def judgements_added(snapshots: Sequence[JudgementsSnapshot]) -> JudgementsSnapshot:
    """The counts of several (at least one) together. Steps and score bins speak of one gate: the last one's."""
    audits = [astuple(snapshot.audits) for snapshot in snapshots]
    labels: dict[str, LabelCounts] = {}
    for snapshot in snapshots:
        for label, counts in snapshot.labels.items():
            before = labels.get(label)
            labels[label] = _labels_added(before, counts) if before else counts
    last = snapshots[-1]
    sums = AuditCounts(*(sum(column) for column in zip(*audits, strict=True)))
    return JudgementsSnapshot(sums, last.audit_steps, last.label_steps, labels, last.score_counts)


def _labels_added(one: LabelCounts, other: LabelCounts) -> LabelCounts:
    return LabelCounts(*(getattr(one, each.name) + getattr(other, each.name) for each in fields(LabelCounts)))


class Judgements:
    """One model's counts since the agent started, by the steps and bins of its gate.

    Steps count the answers whose label has no rule of its own: of these alone the gate's certificates speak.
    Labels with a rule, and the others as they come, are counted each by itself while a message has room for them;
    the rest are counted together as `OTHER_LABELS`, so that a model of thousands can still report.
    """

    def __init__(self, gate: Gate | None) -> None:
        thresholds = gate.certified_thresholds() if gate else ()
        self._audit_steps = _Steps(thresholds)
        self._label_steps = _Steps(thresholds)
        self._ruled_labels = frozenset(rule.label for rule in gate.label_rules) if gate else frozenset()
        self._labels: dict[str, _LabelTally] = {}
        self._room_bytes = _LABELS_BYTES
        self._has_room = {label for label in sorted(self._ruled_labels) if self._takes_room(label)}
        self._edges = gate.score_histogram.edges if gate and gate.score_histogram else None
        self._score_counts = [0] * (len(self._edges) + 1) if self._edges is not None else []
        self._chosen = self._agreed = self._disagreed = self._audits_failed = 0

    def predicted(self, label: str, score: float, *, wanted: bool) -> None:
        """The device has an answer of its own: `label`, at gate score `score`."""
        tally = self._tally(label)
        tally.accepted += 1
        tally.wanted += wanted
        if self._edges is not None:
            self._score_counts[bisect_right(self._edges, score)] += 1

    def choose_audit(self, label: str, score: float) -> AuditTicket:
        """Count a kept answer as chosen for an audit; in flight until the ticket is settled."""
        self._chosen += 1
        return AuditTicket(self, label, score)

    def labelled(self, label: str, score: float, *, is_wrong: bool) -> None:
        """The true label of a kept answer has come back."""
        tally = self._tally(label)
        tally.labelled += 1
        tally.wrong += is_wrong
        if label not in self._ruled_labels:
            self._label_steps.add(score, is_wrong=is_wrong)

    def snapshot(self) -> JudgementsSnapshot:
        """The counts of this moment."""
        settled = self._agreed + self._disagreed + self._audits_failed
        return JudgementsSnapshot(
            AuditCounts(self._chosen, self._agreed, self._disagreed, self._audits_failed, self._chosen - settled),
            self._audit_steps.snapshot(),
            self._label_steps.snapshot(),
            {label: tally.snapshot() for label, tally in self._labels.items()},
            tuple(self._score_counts),
        )

    def _tally(self, label: str) -> _LabelTally:
        tally = self._labels.get(label)
        if tally is not None:
            return tally
        if label not in self._has_room and not self._takes_room(label):
            return self._labels.setdefault(OTHER_LABELS, _LabelTally())
        tally = self._labels[label] = _LabelTally()
        return tally

    def _takes_room(self, label: str) -> bool:
        needed_bytes = len(label.encode()) + _COUNTS_BYTES
        if needed_bytes > self._room_bytes:
            return False
        self._room_bytes -= needed_bytes
        return True

    def _audit_ended(self, label: str, score: float, agrees: bool | None) -> None:
        if agrees is None:
            self._audits_failed += 1
            return
        self._agreed += agrees
        self._disagreed += not agrees
        tally = self._tally(label)
        tally.audited += 1
        tally.disagreed += not agrees
        if label not in self._ruled_labels:
            self._audit_steps.add(score, is_wrong=not agrees)


class AuditTicket:
    """One audit in flight. What is settled already stays as it is."""

    def __init__(self, judgements: Judgements, label: str, score: float) -> None:
        self._judgements: Judgements | None = judgements
        self._label = label
        self._score = score

    def judged(self, full_model_label: str) -> None:
        """The full model has answered."""
        self._settle(full_model_label == self._label)

    def failed(self) -> None:
        """The full model was not had."""
        self._settle(None)

    def _settle(self, agrees: bool | None) -> None:
        judgements, self._judgements = self._judgements, None
        if judgements is not None:
            judgements._audit_ended(self._label, self._score, agrees)


class _LabelTally:
    """A `LabelCounts` to add to."""

    __slots__ = tuple(field.name for field in fields(LabelCounts))

    def __init__(self) -> None:
        self.accepted = self.wanted = self.audited = self.disagreed = self.labelled = self.wrong = 0

    def snapshot(self) -> LabelCounts:
        return LabelCounts(self.accepted, self.wanted, self.audited, self.disagreed, self.labelled, self.wrong)


class _Steps:
    """Judged answers by how many of the thresholds their score reaches."""

    def __init__(self, strict_to_loose: Sequence[float]) -> None:
        self._ascending = tuple(reversed(strict_to_loose))
        self._judged = [0] * (len(self._ascending) + 1)
        self._wrong = [0] * (len(self._ascending) + 1)

    def add(self, score: float, *, is_wrong: bool) -> None:
        reached = bisect_right(self._ascending, score)
        self._judged[reached] += 1
        self._wrong[reached] += is_wrong

    def snapshot(self) -> tuple[StepCounts, ...]:
        steps, judged, wrong = [], 0, 0
        for position in range(len(self._ascending), 0, -1):
            judged += self._judged[position]
            wrong += self._wrong[position]
            steps.append(StepCounts(self._ascending[position - 1], judged, wrong))
        return tuple(steps)
