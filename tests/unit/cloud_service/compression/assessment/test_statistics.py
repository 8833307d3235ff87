"""Intervals and tests against SciPy's and the literature's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cloud_service.compression.assessment.statistics import (
    accuracy_of,
    exact_interval,
    mcnemar_p,
    newcombe_interval,
    paired_difference,
    proportion,
    spread,
    wilson_interval,
)

COUNTS = st.integers(1, 3000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))
CONFIDENCES = st.sampled_from((0.8, 0.95, 0.99))
ANSWERS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(COUNTS, CONFIDENCES)
def test_intervals_are_those_of_scipy(counts: tuple[int, int], confidence: float) -> None:
    test = stats.binomtest(*counts)
    for ours, method in ((wilson_interval, "wilson"), (exact_interval, "exact")):
        theirs = test.proportion_ci(confidence, method=method)
        assert ours(*counts, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemars_p_is_scipys_binomial_test(only_first: int, only_second: int) -> None:
    together = only_first + only_second
    theirs = stats.binomtest(only_first, together).pvalue if together else 1.0
    assert mcnemar_p(only_first, only_second) == pytest.approx(theirs, rel=1e-9)


def test_newcombes_interval_is_the_published_one() -> None:
    """Bentur et al. (2009), as worked by Fagerland, Lydersen and Laake (2014): first minus second."""
    low, high = newcombe_interval(both=1, only_first=1, only_second=7, neither=12)
    assert (low, high) == pytest.approx((0.026, 0.507), abs=5e-4)


@given(ANSWERS)
def test_a_difference_lies_in_its_interval_and_turns_with_its_models(answers: list[tuple[bool, bool]]) -> None:
    first, second = zip(*answers, strict=True)
    there, back = paired_difference(first, second), paired_difference(second, first)
    assert -1 <= there.low <= there.value + 1e-12
    assert there.value - 1e-12 <= there.high <= 1
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low), abs=1e-12)
    assert there.value == pytest.approx(accuracy_of(second).value - accuracy_of(first).value)
    assert there.mcnemar_p == back.mcnemar_p


def test_of_many_samples_the_paired_interval_covers_the_true_difference_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    tables = generator.multinomial(200, (0.78, 0.08, 0.04, 0.10), size=1000)
    intervals = [newcombe_interval(*(int(count) for count in table)) for table in tables]
    covered = float(np.mean([low <= -0.04 <= high for low, high in intervals]))
    assert 0.93 <= covered <= 0.98


def test_texts_paired_give_a_narrower_interval_than_texts_apart() -> None:
    generator = np.random.default_rng(1)
    first = generator.random(500) < 0.9
    second = first ^ (generator.random(500) < 0.02)
    paired = paired_difference(first, second)
    one, other = accuracy_of(first), accuracy_of(second)
    apart = np.hypot(one.high - one.value, other.value - other.low)
    assert paired.high - paired.value < apart / 2


def test_nothing_measured_is_an_error() -> None:
    for fault in (lambda: accuracy_of([]), lambda: proportion(3, 2), lambda: spread([]), lambda: exact_interval(0, 0)):
        with pytest.raises(ValueError, match=r"\w"):
            fault()
    with pytest.raises(ValueError, match="same texts"):
        paired_difference([True], [True, False])
    with pytest.raises(ValueError, match="confidence"):
        proportion(1, 2, 1.0)


def test_one_run_has_no_deviation() -> None:
    assert spread([0.5]).deviation is None
    several = spread([0.90, 0.92, 0.94])
    assert (several.mean, several.deviation) == pytest.approx((0.92, 0.02))
    assert (several.lowest, several.highest, several.count) == (0.90, 0.94, 3)
