"""What is to be had where no threshold reaches alpha, and why none does. Estimates: they promise nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cloud_service.calibration.binomial import risk_p_values
from cloud_service.calibration.learn_then_test import certify
from cloud_service.calibration.risk_curve import RiskCurve
from shared.gate import Shortfall

Start = Callable[[float], int]
"""The start of the chain for an alpha."""

_HALVINGS = 12
_LARGEST_ALPHA = 0.999
_GROWTH = 1.1
_MOST_SAMPLES = 10_000_000


def shortfall_of(curve: RiskCurve, alpha: float, level: float, start: Start, risk: NDArray[np.float64]) -> Shortfall:
    """What `curve`, which counts the certifying part, shows beside a certificate at `alpha`, tested at `level`.

    `risk` is the likeliest risk at each threshold, [thresholds].
    """
    return Shortfall(
        smallest_alpha=_smallest_alpha(curve, alpha, level, start),
        least_offload=_least_offload(curve, alpha),
        more_samples=_more_samples(curve, alpha, level, risk),
    )


def reason_of(curve: RiskCurve, alpha: float, level: float, start: int) -> str:
    """Why no threshold was certified for `alpha`, in one sentence."""
    if curve.n == 0:
        return "there are no calibration samples"
    flawless = _flawless(alpha, level)
    if flawless is None or curve.n < flawless:
        takes = f"more than {_MOST_SAMPLES}" if flawless is None else f"{flawless}"
        return (
            f"too few samples: to show a risk of at most {alpha:g} takes {takes} without an error, "
            f"and there are {curve.n} calibration samples"
        )
    if curve.kept[start] == 0:
        return f"the likeliest threshold keeps none of {curve.n} calibration samples: there are too few"
    if len(np.unique(curve.kept[curve.kept > 0])) == 1:
        return (
            f"all scores are tied, so that all of {curve.n} calibration samples are kept or none, and "
            f"{int(curve.errors[-1])} of them are wrong: too many to show a risk of at most {alpha:g}"
        )
    kept, errors = int(curve.kept[start]), int(curve.errors[start])
    return (
        f"the likeliest threshold keeps {kept} of {curve.n} calibration samples, {errors} of them wrong: "
        f"too many, or too few samples, to show a risk of at most {alpha:g}"
    )


def _flawless(alpha: float, level: float) -> int | None:
    """How many samples without an error show a risk of at most `alpha`; None for more than ten million."""
    needed = math.log(level) / math.log1p(-alpha) if level < 1.0 else 1.0 / alpha - 1.0
    return math.ceil(needed) if needed <= _MOST_SAMPLES else None


def _smallest_alpha(curve: RiskCurve, alpha: float, level: float, start: Start) -> float | None:
    """By halving the interval between `alpha`, which is out of reach, and one near 1."""

    def is_certified(candidate: float) -> bool:
        return certify(curve, (candidate,), (start(candidate),), (level,))[0].index is not None

    if level >= 1.0:
        return _mean_alpha(curve)
    below, above = alpha, _LARGEST_ALPHA
    if curve.n == 0 or alpha >= above or not is_certified(above):
        return None
    for _ in range(_HALVINGS):
        middle = math.sqrt(below * above)
        below, above = (below, middle) if is_certified(middle) else (middle, above)
    return above


def _mean_alpha(curve: RiskCurve) -> float | None:
    """What conformal risk control reaches where it keeps as little as it can."""
    errors = curve.errors[curve.kept > 0]
    reached = (float(errors[0]) + 1.0) / (curve.n + 1) if len(errors) else 1.0
    return reached if reached < 1.0 else None


def _least_offload(curve: RiskCurve, alpha: float) -> float:
    """(μ − α) / (1 − α): at least so much must go, even if all that goes were wrong; of the joint risk, μ − α."""
    ungated = float(curve.errors[-1]) / max(1, curve.n)
    room = 1.0 if curve.of_all else 1.0 - alpha
    return max(0.0, (ungated - alpha) / room)


def _more_samples(curve: RiskCurve, alpha: float, level: float, risk: NDArray[np.float64]) -> int | None:
    """The fewest more with which some threshold's counts, grown in proportion, would pass."""
    trials = curve.trials.astype(np.float64)
    share = trials / max(1, curve.n)
    usable = (risk < alpha) & (curve.kept > 0)
    flawless = _flawless(alpha, level)
    if flawless is None:
        return None
    if not usable.any():
        untold = curve.n < flawless and not curve.errors[curve.kept > 0].all()
        return flawless - curve.n if untold or curve.n == 0 else None
    if level >= 1.0:
        wanted = (1.0 - alpha) / (alpha - float(risk[usable].min()))
        return max(1, math.ceil(wanted) - curve.n) if wanted <= _MOST_SAMPLES else None
    wanted = max(float(curve.n), 1.0)
    while wanted < _MOST_SAMPLES:
        wanted = math.ceil(wanted * _GROWTH)
        tried = share[usable] * wanted
        if (risk_p_values(risk[usable] * tried, tried, alpha) <= level).any():
            return math.ceil(wanted) - curve.n
    return None
