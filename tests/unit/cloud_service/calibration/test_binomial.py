"""Exact tests and bounds agree with scipy's distributions and with each other."""

import numpy as np
from scipy import stats

from cloud_service.calibration.binomial import risk_p_values, risk_upper_bound


def test_the_p_value_is_the_exact_binomial_tail() -> None:
    errors = np.array([0, 1, 7, 40])
    kept = np.array([10, 50, 300, 1000])
    expected = stats.binom.cdf(errors, kept, 0.05)
    np.testing.assert_allclose(risk_p_values(errors, kept, 0.05), expected, rtol=1e-10)


def test_nothing_kept_proves_nothing() -> None:
    assert risk_p_values(0, 0, 0.05) == 1.0
    assert risk_upper_bound(0, 0, 0.1) == 1.0
    assert risk_p_values(5, 5, 0.05) == 1.0


def test_the_bound_is_below_alpha_exactly_where_the_test_rejects() -> None:
    kept = np.repeat(np.arange(1, 400, 7), 12)
    errors = np.minimum(np.tile(np.arange(12), len(kept) // 12), kept)
    rejected = risk_p_values(errors, kept, 0.05) <= 0.1
    bounded = risk_upper_bound(errors, kept, 0.1) <= 0.05
    assert rejected.any() and not rejected.all()
    np.testing.assert_array_equal(rejected, bounded)


def test_the_bound_is_exact_for_a_delta_next_to_nothing() -> None:
    assert abs(float(risk_upper_bound(0, 1350, 1e-17)) - (1.0 - 1e-17 ** (1.0 / 1350.0))) < 1e-12
