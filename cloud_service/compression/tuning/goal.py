"""What a tuning run is after, and how one measured plan stands to it.

A plan chosen as the best of many on the same texts looks better than it is. `Confidence` guards in part: loss
is then judged by its upper bound instead of its estimate, at `delta` shared among `plans`. Trials are picked
in the light of earlier ones, so even this is no certificate: state the final figures from other texts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from cloud_service.compression.tuning.bound import POINTS, loss_upper_points
from shared.documents import Document
from shared.errors import ConfigurationError

_ROUNDING = 1e-9


class Objective(str, Enum):
    """What is made small."""

    LATENCY = "latency"
    BYTES = "bytes"
    OFFLOAD = "offload"


@dataclass(frozen=True)
class Pairs(Document):
    """Texts answered by the reference and by a plan: `lost` were right and are wrong, `gained` the reverse."""

    lost: int
    gained: int
    total: int


@dataclass(frozen=True)
class Outcome(Document):
    """A plan's figures. `quality` in points, more is better; `offload` a ratio at the kept risk the caller fixed.

    `divergence` is a smooth distance from the reference's answers (e.g. mean KL divergence). Where every
    outcome brings one, it tells sensitive parts apart that lose no whole text; tolerance is judged on quality.
    """

    quality: float
    latency_ms: float
    bytes: int
    offload: float = 0.0
    divergence: float | None = None
    pairs: Pairs | None = None

    @property
    def finite(self) -> bool:
        """Whether every figure is a number that can be compared."""
        figures = (self.quality, self.latency_ms, self.bytes, self.offload, self.divergence or 0.0)
        return all(math.isfinite(figure) for figure in figures)


@dataclass(frozen=True)
class Confidence:
    """Judge loss by an upper bound at confidence 1 - `delta`, shared among `plans` (Bonferroni; 1: not shared)."""

    delta: float = 0.1
    plans: int = 1

    def __post_init__(self) -> None:
        """Raises: ConfigurationError: not a probability between 0 and 1, or less than one plan."""
        if not 0.0 < self.delta < 1.0 or self.plans < 1:
            raise ConfigurationError(f"confidence: delta {self.delta:g} must lie in (0, 1), plans {self.plans} above 0")


@dataclass(frozen=True)
class Goal:
    """Make `objective` small while losing at most `tolerance_points` of quality and keeping the limits.

    None: not asked for. `reference_quality` (points) is what loss is measured against; by default the
    baseline's own. OFFLOAD alone would choose the slowest plan: give it a limit, in milliseconds or as
    `latency_ratio_limit`, by the quickest uniform plan that keeps the tolerance.
    """

    objective: Objective
    tolerance_points: float | None = None
    confidence: Confidence | None = None
    latency_limit_ms: float | None = None
    bytes_limit: int | None = None
    reference_quality: float | None = None
    latency_ratio_limit: float | None = None

    @property
    def looks_at_latency(self) -> bool:
        """Whether a plan's time decides anything."""
        limits = (self.latency_limit_ms, self.latency_ratio_limit)
        return self.objective is Objective.LATENCY or any(limit is not None for limit in limits)

    def cost(self, outcome: Outcome) -> float:
        """What is to be small: ms, bytes, or a ratio."""
        figures = {
            Objective.LATENCY: outcome.latency_ms,
            Objective.BYTES: float(outcome.bytes),
            Objective.OFFLOAD: outcome.offload,
        }
        return figures[self.objective]

    def can_judge(self, outcome: Outcome | None) -> bool:
        """Whether `outcome` has the figures that this goal looks at."""
        return outcome is not None and (self.confidence is None or outcome.pairs is not None)


@dataclass(frozen=True)
class Verdict:
    """How a plan stands to a goal. `loss_points`: the loss, or its upper bound where confidence is asked for.

    `excess` is by how much it breaks the tolerance (points) and the limits of latency and bytes (ratios).
    """

    loss_points: float
    cost: float
    excess: tuple[float, float, float]

    @property
    def met(self) -> bool:
        """Whether nothing is broken."""
        return not any(self.excess)

    @property
    def rank(self) -> tuple[float, ...]:
        """Smaller is better: first what breaks least, tolerance before limits; then the objective, then loss."""
        return (*self.excess, self.cost, self.loss_points)


@dataclass(frozen=True)
class Judge:
    """A goal whose limits are all in figures, and the quality (points) that loss is measured against."""

    goal: Goal
    reference_quality: float

    def verdict(self, outcome: Outcome) -> Verdict:
        """Judge one outcome."""
        goal, loss = self.goal, self._loss_points(outcome)
        excess = (
            0.0 if goal.tolerance_points is None else _over(loss - goal.tolerance_points),
            0.0 if goal.latency_limit_ms is None else _over(outcome.latency_ms / goal.latency_limit_ms - 1.0),
            0.0 if goal.bytes_limit is None else _over(outcome.bytes / goal.bytes_limit - 1.0),
        )
        return Verdict(loss, goal.cost(outcome), excess)

    def keeps_tolerance(self, outcome: Outcome) -> bool:
        """Whether `outcome` loses no more than is allowed, whatever else it breaks."""
        return not self.verdict(outcome).excess[0]

    def _loss_points(self, outcome: Outcome) -> float:
        confidence, pairs = self.goal.confidence, outcome.pairs
        if confidence is None or pairs is None:
            return self.reference_quality - outcome.quality
        if pairs.total <= 0:
            return POINTS
        return loss_upper_points(pairs.lost, pairs.gained, pairs.total, confidence.delta / confidence.plans)


def _over(excess: float) -> float:
    return excess if excess > _ROUNDING else 0.0
