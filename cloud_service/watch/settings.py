"""How watchful to be."""

from __future__ import annotations

from dataclasses import dataclass

CUSUM_SHARE = 0.9
"""Of delta, what the CUSUM may spend; the confidence sequence has the rest."""


@dataclass(frozen=True)
class WatchRules:
    """`delta`: at most this likely a false alarm comes within any `period` judged answers of a risk of exactly alpha,
    and this likely a bound ever fails; `drift_delta`: at most this likely a false warning of drift ever comes."""

    delta: float = 0.1
    period: int = 2000
    drift_delta: float = 0.01
