"""An upper confidence bound for the quality that a plan loses, from texts answered with and without it."""

from __future__ import annotations

from cloud_service.calibration.binomial import risk_upper_bound

POINTS = 100.0


def loss_upper_points(lost: int, gained: int, total: int, delta: float) -> float:
    """Largest loss of accuracy, in points of 100, that the pairs leave possible at confidence 1 - `delta`.

    Of `total` texts, `lost` were right before and are wrong now, `gained` the reverse. The share lost is
    bounded from above and the share gained from below, each exactly (Clopper and Pearson) at `delta` / 2, so
    that the difference holds for any number of texts. Where nothing is lost in 1000 texts and `delta` is 0.1,
    0.30 points remain possible: a tolerance below that needs more texts.
    """
    share_lost = float(risk_upper_bound(lost, total, delta / 2))
    share_gained = 1.0 - float(risk_upper_bound(total - gained, total, delta / 2))
    return POINTS * (share_lost - share_gained)
