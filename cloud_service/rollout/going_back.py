"""The plan that sends a whole fleet back to an earlier release, past the version floor where an exception allows it."""

from __future__ import annotations

from collections.abc import Sequence

from cloud_service.registry.catalogue import ListedRelease
from cloud_service.rollout.plan import Plan, Stage
from cloud_service.rollout.plan_file import PlanFile
from cloud_service.rollout.planning import Wish, make_plan
from cloud_service.rollout.ring_order import RingOrder
from shared.errors import RolloutError
from shared.update.assignment import Trial


def floor_of(orders: Sequence[RingOrder]) -> int:
    """The lowest release that devices of all these rings take without an exception, as far as the rings were told."""
    return max((order.assignment.floor for order in orders if order.assignment), default=0)


def make_way_back(model: str, version: str, releases: Sequence[ListedRelease], orders: Sequence[RingOrder]) -> Plan:
    """Every ring that was ever told something of `model` is a stage of its own, to be opened at once, with no trial.

    `orders`: of this model.

    Raises:
        RolloutError: no ring was told anything, the release is not listed, or it is below the floor without exception.
    """
    rings = tuple(order.ring for order in orders)
    if not rings:
        raise RolloutError(f"no ring was told to run a release of {model}: there is nothing to take back")
    stages = tuple(Stage(ring) for ring in rings)
    file = PlanFile(stages=stages, soak="0s", trial=Trial(requests=0, seconds=0.0))
    return make_plan(Wish(model, version, file, without_fallback=True), releases, orders)
