"""Conformal risk control (Angelopoulos et al., arXiv 2208.02814): a risk held on average over calibration data.

Only for a risk that never rises with the threshold, as the share of all predictions that is kept and wrong does not:
the share of wrong answers among the kept ones may rise, and has no such guarantee.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cloud_service.calibration.learn_then_test import CertifiedStep
from cloud_service.calibration.risk_curve import RiskCurve


def control_on_average(curve: RiskCurve, alphas: Sequence[float]) -> list[CertifiedStep]:
    """The loosest threshold for each alpha with (errors + 1) / (n + 1) ≤ alpha: one more sample could be wrong.

    `curve` counts the calibration part, its risk is of all predictions. A step's `risk_bound` is that quotient,
    its `level` is 1: the promise is of the mean.
    """
    assert curve.of_all, "conformal risk control needs a risk that never rises with the threshold"
    return [_step(curve, alpha) for alpha in alphas]


def _step(curve: RiskCurve, alpha: float) -> CertifiedStep:
    within = np.flatnonzero((curve.errors + 1) / (curve.n + 1) <= alpha)
    if len(within) == 0:
        return CertifiedStep(alpha, None, 1.0, 1.0)
    index = int(within[-1])
    return CertifiedStep(alpha, index, 1.0, float((curve.errors[index] + 1) / (curve.n + 1)))
