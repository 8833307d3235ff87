"""How sure a difference of two offload ratios is. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCE = 0.95
METHOD = "Newcombe's hybrid score interval"


@dataclass(frozen=True)
class Share:
    """`part` of `whole`."""

    part: int
    whole: int

    @property
    def ratio(self) -> float | None:
        """None of nothing."""
        return self.part / self.whole if self.whole > 0 else None


@dataclass(frozen=True)
class Difference:
    """The second ratio less the first, and the interval that holds the true one with `CONFIDENCE`."""

    value: float
    lower: float
    upper: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.lower > 0 or self.upper < 0


def difference(first: Share, second: Share, confidence: float = CONFIDENCE) -> Difference | None:
    """`second` less `first`, taken as independent; None where one is of nothing, or a part larger than its whole.

    Source: Newcombe 1998, Statistics in Medicine 17, 873-890, method 10 (Wilson's intervals, no continuity correction).
    """
    if not all(0 <= each.part <= each.whole and each.whole > 0 for each in (first, second)):
        return None
    (low_1, high_1), (low_2, high_2) = (wilson(each, confidence) for each in (first, second))
    ratio_1, ratio_2 = first.part / first.whole, second.part / second.whole
    value = ratio_2 - ratio_1
    return Difference(
        value,
        value - math.hypot(ratio_2 - low_2, high_1 - ratio_1),
        value + math.hypot(high_2 - ratio_2, ratio_1 - low_1),
    )


def wilson(share: Share, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval for a ratio with 0 ≤ part ≤ whole, whole > 0."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    n, ratio = share.whole, share.part / share.whole
    centre = ratio + z * z / (2 * n)
    spread = z * math.sqrt(ratio * (1 - ratio) / n + z * z / (4 * n * n))
    return max(0.0, (centre - spread) / (1 + z * z / n)), min(1.0, (centre + spread) / (1 + z * z / n))
