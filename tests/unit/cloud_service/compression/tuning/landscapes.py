"""Made-up networks: figures of a plan from the choices of its parts, with or without interaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cloud_service.compression.tuning.goal import Outcome, Pairs
from cloud_service.compression.tuning.space import Plan, PlanKey, SearchSpace, plan_key
from shared.errors import EngineError

CHOICES = ("fp32", "int8", "int4")
REFERENCE_QUALITY = 90.0


@dataclass
class Landscape:
    """Loss and milliseconds of each (part, choice); `twist` adds loss that depends on the whole plan."""

    losses: Mapping[tuple[str, str], float]
    milliseconds: Mapping[tuple[str, str], float]
    twist: Callable[[PlanKey], float] = lambda _: 0.0
    fails: Callable[[PlanKey], bool] = lambda _: False
    calls: list[PlanKey] = field(default_factory=list)

    @property
    def space(self) -> SearchSpace:
        parts = dict.fromkeys(part for part, _ in self.losses)
        return SearchSpace.of(tuple(parts), CHOICES, "fp32")

    def __call__(self, plan: Plan) -> Outcome:
        key = plan_key(plan)
        self.calls.append(key)
        if self.fails(key):
            raise EngineError("ONNX Runtime does not take it")
        loss = sum(self.losses[change] for change in key) + self.twist(key)
        latency_ms = sum(self.milliseconds[change] for change in key)
        return Outcome(
            quality=REFERENCE_QUALITY - loss,
            latency_ms=latency_ms,
            bytes=round(1000 * latency_ms),
            offload=0.1 + loss / 100,
            pairs=Pairs(round(max(0.0, loss) * 10), 0, 1000),
        )


def simple(parts: int = 6) -> Landscape:
    """Later parts are the more sensitive; int4 is the quickest and loses the most."""
    names = [f"layers.{number}" for number in range(parts)]
    losses = {(name, "fp32"): 0.0 for name in names}
    losses |= {(name, "int8"): 0.02 * number for number, name in enumerate(names)}
    losses |= {(name, "int4"): 0.1 * (number + 1) for number, name in enumerate(names)}
    speeds = {"fp32": 4.0, "int8": 2.0, "int4": 1.0}
    return Landscape(losses, {(name, choice): speeds[choice] for name in names for choice in CHOICES})
