from __future__ import annotations

import math
import random

import pytest

from cloud_service.dashboard.offload_statistics import CONFIDENCE, Share, difference

Z_95 = 1.959963984540054


def limit(share: Share, end: float) -> float:
    """Where, from the ratio towards `end`, the score test just rejects: (p - ratio)^2 whole = z^2 p (1 - p)."""
    ratio = share.part / share.whole
    inside, outside = ratio, end
    for _ in range(200):
        middle = (inside + outside) / 2
        is_rejected = (middle - ratio) ** 2 * share.whole > Z_95**2 * middle * (1 - middle)
        inside, outside = (inside, middle) if is_rejected else (middle, outside)
    return inside


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Share(48, 80), Share(56, 70)),
        (Share(5, 56), Share(0, 29)),
        (Share(0, 10), Share(10, 10)),
        (Share(0, 10), Share(0, 10)),
        (Share(10, 10), Share(20, 20)),
        (Share(3, 7), Share(900, 1000)),
        (Share(1_200_000, 10_000_000), Share(1_350_000, 9_000_000)),
    ],
)
def test_the_interval_joins_the_score_limits_of_both_sides(first: Share, second: Share) -> None:
    """The limits of each side by halving, without Wilson's formula; joined as Newcombe's method 10 does."""
    found = difference(first, second)
    assert found is not None
    ratio_1, ratio_2 = first.part / first.whole, second.part / second.whole
    below = math.sqrt((ratio_2 - limit(second, 0)) ** 2 + (limit(first, 1) - ratio_1) ** 2)
    above = math.sqrt((limit(second, 1) - ratio_2) ** 2 + (ratio_1 - limit(first, 0)) ** 2)
    assert found.lower == pytest.approx(ratio_2 - ratio_1 - below, abs=1e-9)
    assert found.upper == pytest.approx(ratio_2 - ratio_1 + above, abs=1e-9)


def test_the_interval_holds_the_true_difference_as_often_as_it_says() -> None:
    chance, held, draws = random.Random(7), 0, 400
    for _ in range(draws):
        first, second = (Share(sum(chance.random() < ratio for _ in range(300)), 300) for ratio in (0.1, 0.16))
        found = difference(first, second)
        assert found is not None
        held += found.lower <= 0.06 <= found.upper
    assert held / draws > CONFIDENCE - 3 * (CONFIDENCE * (1 - CONFIDENCE) / draws) ** 0.5


def test_a_difference_of_nothing_is_none() -> None:
    assert difference(Share(0, 0), Share(1, 2)) is None
    assert difference(Share(3, 2), Share(1, 2)) is None


def test_a_clear_difference_leaves_zero_out() -> None:
    clear, unclear = difference(Share(10, 1000), Share(90, 1000)), difference(Share(10, 100), Share(11, 100))
    assert clear is not None and clear.is_clear
    assert unclear is not None and not unclear.is_clear
