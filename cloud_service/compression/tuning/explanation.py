"""A tuning run's result in a plain sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cloud_service.compression.tuning.goal import Goal, Verdict


def explain(goal: Goal, verdicts: Sequence[Verdict]) -> str:
    """Why the best of `verdicts` (at least one) is good enough, or why none is."""
    best = min(verdicts, key=lambda verdict: verdict.rank)
    if best.met:
        return f"the plan {_loses(goal, best.loss_points)}{_allowed(goal)}"
    over_loss, over_latency, over_bytes = best.excess
    if over_loss:
        return _too_lossy(goal, best)
    broken = []
    if over_latency and goal.latency_limit_ms is not None:
        limit_ms = goal.latency_limit_ms
        broken.append(f"runs within {limit_ms:.2f} ms; the best takes {_over(limit_ms, over_latency)} ms")
    if over_bytes and goal.bytes_limit is not None:
        broken.append(f"has at most {goal.bytes_limit} bytes; the best has {_over(goal.bytes_limit, over_bytes, 0)}")
    kept = "" if goal.tolerance_points is None else f" that loses at most {goal.tolerance_points:.2f} points"
    return f"no plan{kept} {' and '.join(broken)}"


def _too_lossy(goal: Goal, best: Verdict) -> str:
    tolerance, loss = f"{goal.tolerance_points:.2f}", f"{_up(best.loss_points):.2f}"
    if goal.confidence is None:
        return f"no plan loses at most {tolerance} points; the best loses {loss}"
    return (
        f"no plan is shown to lose at most {tolerance} points; the best may lose {loss} "
        f"(confidence {1 - goal.confidence.delta:g}); more texts would narrow this"
    )


def _loses(goal: Goal, loss_points: float) -> str:
    if goal.confidence is not None:
        return f"loses at most {loss_points:.2f} points (confidence {1 - goal.confidence.delta:g})"
    return f"loses {loss_points:.2f} points" if loss_points > 0 else f"gains {-loss_points:.2f} points"


def _allowed(goal: Goal) -> str:
    return "" if goal.tolerance_points is None else f"; {goal.tolerance_points:.2f} are allowed"


def _up(figure: float, digits: int = 2) -> float:
    """Rounded up, so that what is over a limit is also written over it."""
    scale = 10.0**digits
    return math.ceil(figure * scale - 1e-6) / scale


def _over(limit: float, excess: float, digits: int = 2) -> str:
    return f"{_up(limit * (1 + excess), digits):.{digits}f}"
