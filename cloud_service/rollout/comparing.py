"""An A/B test's verdict, which may be looked at any time. Pure.

Each arm's disagreement with the full model has bounds that hold at all times at once (see
`cloud_service.watch.confidence`); the farthest of them bound the difference. The test judges answers: with few devices
in an arm, the arms may differ by what these devices are asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cloud_service.rollout.plan import Comparison
from cloud_service.rollout.records import FieldFigures, FieldSide
from cloud_service.watch.confidence import BetaMixture

_PRIOR = BetaMixture.around(0.1)
_BOUNDS = 4
"""The chance of error is shared by two arms and two stretches: telemetry is counted by minutes at first, later by
hours, which is a second look at other sums."""


class Verdict(str, Enum):
    """What is to become of the new release."""

    UNDECIDED = "undecided"
    PROMOTE = "promote"
    DROP = "drop"


@dataclass(frozen=True)
class Judgement:
    """The verdict, and the difference in disagreement, new less old, that it rests on."""

    verdict: Verdict
    lower: float
    upper: float
    reason: str


def compare(comparison: Comparison, field: FieldFigures) -> Judgement:
    """Hold the new release against the old one."""
    (new_lower, new_upper), (old_lower, old_upper) = (
        _bounds(side, comparison.delta / _BOUNDS) for side in (field.new, field.old)
    )
    lower, upper = new_lower - old_upper, new_upper - old_lower
    if upper <= comparison.margin:
        verdict, words = Verdict.PROMOTE, f"it is not worse by more than {comparison.margin:.1%}"
    elif lower > 0.0:
        verdict, words = Verdict.DROP, "it disagrees more"
    else:
        verdict, words = Verdict.UNDECIDED, f"the difference lies between {lower:+.1%} and {upper:+.1%}"
    return Judgement(verdict, lower, upper, f"{words} (new: {_words(field.new)}; old: {_words(field.old)})")


def _bounds(side: FieldSide, level: float) -> tuple[float, float]:
    lower, upper = _PRIOR.interval(side.disagreed, side.audited, level)
    return float(lower), float(upper)


def _words(side: FieldSide) -> str:
    parts = [f"{side.disagreed} of {side.audited} audits disagree"]
    if side.requests:
        parts.append(f"{side.wanted / side.requests:.0%} offloaded")
    if side.latency_ms is not None:
        parts.append(f"{side.latency_ms:.1f} ms")
    return ", ".join(parts)
