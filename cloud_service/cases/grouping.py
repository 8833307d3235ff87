"""Hard cases in groups: by the pair of labels, and within a pair by how sure the device was. Pure.

A hard case is a request that was escalated, whether or not the models agreed in the end, or one that was audited and
on which they did not; or one whose true label came back and contradicts the device.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

SCORE_BANDS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)


class CaseKind(str, Enum):
    """Which cases are looked at. `ALL`: escalated, and audited wrong."""

    ALL = "all"
    ESCALATED = "escalated"
    AUDITED_WRONG = "audited"
    TRUE_LABELS = "labels"


@dataclass(frozen=True)
class CaseFilter:
    """Which cases: `since_s` ≤ time < `until_s`; None or "" is no matter. `pair`: device's label, right label."""

    kind: CaseKind
    since_s: int
    until_s: int
    model: str = ""
    ring: str = ""
    edge_version: str = ""
    pair: tuple[str, str] | None = None
    differing_only: bool = False


@dataclass(frozen=True, slots=True)
class PairCount:
    """What the store counts of one pair: cases, sums of the device's probabilities, and when the last one came."""

    edge_label: str
    right_label: str
    cases: int
    mean_score: float
    last_s: int


@dataclass(frozen=True)
class PairGroup:
    """One pair with its share of all cases shown."""

    edge_label: str
    right_label: str
    cases: int
    share: float
    mean_score: float
    last_s: int

    @property
    def agrees(self) -> bool:
        """The device was right and not sure of it."""
        return self.edge_label == self.right_label


@dataclass(frozen=True, slots=True)
class Case:
    """One hard case. `right_label`: the full model's, or the true one. `text` None unless texts are kept."""

    at_s: int
    device_id: str
    request_id: str
    edge_version: str
    kept: bool
    edge_label: str
    edge_score: float
    right_label: str
    text: str | None = None


@dataclass(frozen=True)
class ScoreBand:
    """Cases in which the device's probability was in [`low`, `high`) – the last band's end included."""

    low: float
    high: float
    cases: int


def pair_groups(counts: Iterable[PairCount]) -> tuple[PairGroup, ...]:
    """Most frequent first; equals by their names."""
    ordered = sorted(counts, key=lambda each: (-each.cases, each.edge_label, each.right_label))
    total = sum(each.cases for each in ordered)
    return tuple(
        PairGroup(each.edge_label, each.right_label, each.cases, each.cases / total, each.mean_score, each.last_s)
        for each in ordered
    )


def score_bands(scores: Sequence[float]) -> tuple[ScoreBand, ...]:
    """How many cases lie in each of `SCORE_BANDS`, low to high."""
    bands = []
    for low, high in zip(SCORE_BANDS[:-1], SCORE_BANDS[1:], strict=True):
        is_last = high == SCORE_BANDS[-1]
        bands.append(ScoreBand(low, high, sum(low <= score < high or (is_last and score >= high) for score in scores)))
    return tuple(bands)
