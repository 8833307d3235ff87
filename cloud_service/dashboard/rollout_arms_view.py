"""An A/B test's arms beside each other, with the verdict so far. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cloud_service.rollout.comparing import Judgement, compare
from cloud_service.rollout.plan import Release
from cloud_service.rollout.records import FieldFigures, FieldSide, Rollout


@dataclass(frozen=True)
class ArmView:
    """One arm of an A/B test; `share` of what the test splits."""

    key: str
    release: Release
    share: float
    side: FieldSide

    @property
    def offload(self) -> float | None:
        """The offload ratio; None where nothing was asked."""
        return self.side.wanted / self.side.requests if self.side.requests else None

    @property
    def disagreement(self) -> float | None:
        """The share of audits that disagree; None where there is none."""
        return self.side.disagreed / self.side.audited if self.side.audited else None


@dataclass(frozen=True)
class ArmsView:
    """An A/B test. Places are in percent of a line on which the difference's bounds, 0 and the margin are drawn.

    `splits`: what it splits, "devices" or "requests".
    """

    ring: str
    splits: str
    arms: tuple[ArmView, ...]
    judgement: Judgement
    margin: float
    decides: bool
    lower_place: float
    upper_place: float
    zero_place: float
    margin_place: float


def is_comparing(rollout: Rollout) -> bool:
    """Whether its A/B test is what it stands at."""
    return rollout.plan.comparison is not None and rollout.state.is_active and rollout.current == 0


def arms_view(rollout: Rollout, fields: Mapping[str, FieldFigures]) -> ArmsView | None:
    """Both arms by what telemetry counted of them; None where no A/B test is under way."""
    plan = rollout.plan
    stage = plan.stages[0]
    before, seen = plan.fallback(stage.ring), fields.get(stage.ring)
    if plan.comparison is None or before is None or seen is None or not is_comparing(rollout):
        return None
    judgement, margin = compare(plan.comparison, seen), plan.comparison.margin
    reach = 1.1 * max(abs(judgement.lower), abs(judgement.upper), margin, 0.001)
    lower, upper, zero, bound = (
        round(50.0 + 50.0 * each / reach, 2) for each in (judgement.lower, judgement.upper, 0.0, margin)
    )
    share = stage.key_share or stage.share
    new = ArmView("new", plan.release, share, seen.new)
    old = ArmView("old", before, 1.0 - share, seen.old)
    splits = "requests" if plan.splits_requests else "devices"
    return ArmsView(
        stage.ring, splits, (new, old), judgement, margin, plan.comparison.decides, lower, upper, zero, bound
    )  # fmt: skip
