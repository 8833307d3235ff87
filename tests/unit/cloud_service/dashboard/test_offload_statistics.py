from __future__ import annotations

import random

import pytest

from cloud_service.dashboard.offload_statistics import CONFIDENCE, Share, difference


@pytest.mark.parametrize(
    ("first", "second", "lower", "upper"),
    [
        ((48, 80), (56, 70), -0.3339, -0.0524),
        ((3, 10), (9, 10), -0.8090, -0.1705),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((0, 10), (10, 10), -1.0, -0.6075),
    ],
)
def test_the_interval_is_newcombes(first: tuple[int, int], second: tuple[int, int], lower: float, upper: float) -> None:
    """Newcombe 1998, table II, method 10, where the difference is the first less the second."""
    found = difference(Share(*second), Share(*first))
    assert found is not None
    assert (found.lower, found.upper) == pytest.approx((lower, upper), abs=6e-4)


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
