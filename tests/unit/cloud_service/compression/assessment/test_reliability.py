"""Calibration error and perplexity of cases that can be told by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_service.compression.assessment.reliability import (
    Binning,
    negative_log_likelihoods,
    perplexity,
    reliability_of,
    reliability_table,
)

ROWS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=80)


@given(ROWS, st.sampled_from(Binning), st.integers(1, 20))
def test_the_error_is_a_share_and_every_text_is_in_one_bin(
    rows: list[tuple[float, bool]], binning: Binning, bins: int
) -> None:
    confidences, right = zip(*rows, strict=True)
    found = reliability_table(confidences, right, binning, bins)
    assert 0 <= found.error <= 1
    assert sum(each.texts for each in found.bins) == len(rows)
    assert len(found.bins) <= bins
    confidence = sum(each.texts * each.confidence for each in found.bins) / len(rows)
    accuracy = sum(each.texts * each.accuracy for each in found.bins) / len(rows)
    assert found.error >= abs(confidence - accuracy) - 1e-9


def test_a_model_as_often_right_as_it_says_has_no_error() -> None:
    confidences, right = [0.8] * 10, [True] * 8 + [False] * 2
    assert reliability_table(confidences, right, Binning.EQUAL_WIDTH).error == pytest.approx(0)


def test_a_model_that_is_sure_and_wrong_is_off_by_all() -> None:
    logits = np.array([[30.0, 0.0], [30.0, 0.0]])
    assert reliability_of(logits, [1, 1]).error == pytest.approx(1)
    assert reliability_of(logits, [0, 0]).error == pytest.approx(0)


def test_equal_width_puts_an_edge_into_the_bin_below() -> None:
    found = reliability_table([0.5, 0.51, 0.0, 1.0], [True] * 4, Binning.EQUAL_WIDTH, bins=2)
    assert [each.texts for each in found.bins] == [2, 2]


def test_equal_mass_bins_differ_by_one_text_at_most() -> None:
    found = reliability_table(np.linspace(0, 1, 100), np.ones(100))
    assert {each.texts for each in found.bins} == {6, 7}
    assert [each.confidence for each in found.bins] == sorted(each.confidence for each in found.bins)


def test_a_guess_among_seven_labels_has_perplexity_seven() -> None:
    assert perplexity(negative_log_likelihoods(np.zeros((5, 7)), [0, 1, 2, 3, 6])) == pytest.approx(7)


def test_a_likelihood_of_great_logits_stays_finite() -> None:
    assert negative_log_likelihoods([[1e4, 0.0]], [1]) == pytest.approx([1e4])


def test_what_does_not_fit_is_an_error() -> None:
    for fault in (lambda: reliability_of([[1.0]], [0, 0]), lambda: reliability_table([], []), lambda: perplexity([])):
        with pytest.raises(ValueError, match=r"\w"):
            fault()
