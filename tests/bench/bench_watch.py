"""How soon the watch over a gate finds that its risk has risen, how often it is wrong, and what it then orders.

Every figure is of the fleet service's own desk of watches. Kept answers are drawn one by one, each audited with the
share below, and audits are heard in batches. A score is uniform in [0, 1] and the disagreement falls with its square.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cloud_service.watch.desk import WatchDesk
from cloud_service.watch.drift import log_evidence_of_drift
from cloud_service.watch.evidence import Evidence
from cloud_service.watch.orders import threshold_in_force
from cloud_service.watch.records import AlarmKind, GateKey, KnownGate, WatchRecords
from cloud_service.watch.settings import WatchRules
from shared.gate import Certificate, CertifiedThreshold, Gate, Risk, Score
from shared.types import StepCounts
from tests.bench.report import Figure, finish

RUNS = 200
ALPHA, USUAL, RISEN = 0.05, 0.04, 0.125
AUDITED, KEPT_A_BATCH = 0.05, 100
FOUND_WITHIN, MONTH = 5_000, 40_000
RULES = WatchRules()
_IN_FORCE = 0.4
_GRID = {0.005: 0.81, 0.01: 0.73, 0.02: 0.62, 0.05: _IN_FORCE, 0.1: 0.15}


def the_gate() -> KnownGate:
    """Steps whose usual risks are four fifths of what they are certified for."""
    steps = tuple(
        CertifiedThreshold(alpha, threshold, 1000, 10, alpha, threshold) for alpha, threshold in _GRID.items()
    )
    certificate = Certificate(Risk.KEPT_DISAGREEMENT, 0.1, 1500, steps, "made up", "0" * 64, "bench")
    gate = Gate("e" * 64, "f" * 64, Score.MAX_PROBABILITY, 1.0, {Risk.KEPT_DISAGREEMENT: ALPHA}, (certificate,))
    return KnownGate(gate.digest, "intents", "1", gate)


KNOWN = the_gate()
KEY = GateKey("intents", "1", KNOWN.digest, "default")
STEPS = KNOWN.gate.certified_thresholds()


def true_risk(threshold: float, risk_in_force: float) -> float:
    """Of the answers kept from `threshold` on, where those kept by the gate in force have `risk_in_force`."""
    return risk_in_force * ((1.0 - threshold) / (1.0 - _IN_FORCE)) ** 2


class Stretch:
    """Kept answers in batches, and the desk that hears of their audits."""

    def __init__(self, seed: int) -> None:
        self.desk = WatchDesk(WatchRecords((KNOWN,)), RULES)
        self.alarms = 0
        self._random = np.random.default_rng(seed)
        self._now_ms = 1_800_000_000_000

    def serve(self, kept: int, risk: float) -> int | None:
        """Kept answers until the alarm, at most `kept`; None where there was none."""
        for served in range(KEPT_A_BATCH, kept + 1, KEPT_A_BATCH):
            self._now_ms += 10_000
            decided = self.desk.plan({KEY: self._audits(risk)}, self._now_ms)
            self.desk.applied(decided)
            if any(alarm.kind is AlarmKind.DISAGREEMENT for alarm in decided.alarms):
                return served
        return None

    def threshold(self) -> float | None:
        """From which score on answers are kept now."""
        return threshold_in_force(KNOWN.gate, self.desk.policy(KEY))

    def _audits(self, risk: float) -> Evidence:
        count = int(self._random.binomial(KEPT_A_BATCH, AUDITED))
        scores = _IN_FORCE + (1.0 - _IN_FORCE) * self._random.uniform(size=count)
        chances = np.minimum(1.0, 3.0 * risk * ((1.0 - scores) / (1.0 - _IN_FORCE)) ** 2)
        wrong = self._random.uniform(size=count) < chances
        counts = [StepCounts(step, int((scores >= step).sum()), int(wrong[scores >= step].sum())) for step in STEPS]
        evidence = Evidence()
        evidence.add(_IN_FORCE, counts, (), (), {})
        return evidence


@dataclass(frozen=True)
class Rise:
    """What became of one rise. `delay` in kept answers; None: not found in time."""

    delay: int | None
    was_early: bool
    is_kept: bool
    escalates_all: bool


def rise(seed: int, kept_before: int) -> Rise:
    """One run: as usual for a while, then risen."""
    stretch = Stretch(seed)
    if stretch.serve(kept_before, USUAL) is not None:
        return Rise(None, True, True, stretch.threshold() is None)
    delay = stretch.serve(FOUND_WITHIN, RISEN)
    threshold = stretch.threshold()
    is_kept = threshold is None or true_risk(threshold, RISEN) <= ALPHA
    return Rise(delay, False, delay is None or is_kept, delay is not None and threshold is None)


def rises(kept_before: int) -> list[Figure]:
    """200 rises after `kept_before` usual answers."""
    told = [rise(1000 + seed, kept_before) for seed in range(RUNS)]
    fair = [each for each in told if not each.was_early]
    found = [each for each in fair if each.delay is not None]
    delays = [float(each.delay) for each in found if each.delay is not None]
    what = f"4% → 12.5% after {kept_before:,} kept"
    return [
        _share(f"{what}: alarm within {FOUND_WITHIN:,} kept", len(found) / len(fair), "≥ 90"),
        Figure(f"{what}: delay", float(np.median(delays)), min(delays), max(delays), "kept answers"),
        _share(f"{what}: risk under α, or all escalated, after it", np.mean([each.is_kept for each in found]), "100"),
        _share(f"{what}: of these, all escalated", np.mean([each.escalates_all for each in found])),
        _share(f"{what}: runs with an alarm before the rise", 1.0 - len(fair) / len(told)),
    ]


def false_alarms() -> Figure:
    """Months whose true risk is exactly alpha."""
    months = [Stretch(seed).serve(MONTH, ALPHA) is not None for seed in range(RUNS)]
    limit = RULES.delta + 3.0 * math.sqrt(RULES.delta * (1.0 - RULES.delta) / RUNS)
    return _share(f"risk = α: months of {MONTH:,} kept with a false alarm", np.mean(months), f"≤ {limit:.1%}")


BINS, CALIBRATED, REQUESTS, LOOKS = 20, 1500, 40_000, 400


def drift_warnings(shift: float, seed: int) -> bool:
    """Whether a month is warned of at any of its looks. `shift`: share of requests that score as others did."""
    random = np.random.default_rng(seed)
    usual = random.dirichlet(np.linspace(0.5, 4.0, BINS))
    other = usual[::-1]
    calibration = random.multinomial(CALIBRATED, usual)
    seen = np.zeros(BINS, np.int64)
    for _ in range(LOOKS):
        seen += random.multinomial(REQUESTS // LOOKS, (1.0 - shift) * usual + shift * other)
        if log_evidence_of_drift(calibration, seen) >= -math.log(RULES.drift_delta):
            return True
    return False


def drift() -> list[Figure]:
    """False warnings, and warnings of a fifth and a twentieth of all requests moved."""
    figures = []
    for shift, runs, aim in ((0.0, 1000, f"≤ {RULES.drift_delta:.0%}"), (0.05, RUNS, ""), (0.2, RUNS, "")):
        warned = np.mean([drift_warnings(shift, seed) for seed in range(runs)])
        figures.append(_share(f"drift: months of {REQUESTS:,} requests warned of, {shift:.0%} moved", warned, aim))
    return figures


def _share(what: str, share: float | np.floating, aim: str = "") -> Figure:
    percent = float(share) * 100.0
    return Figure(what, percent, percent, percent, "%", aim)


def main() -> None:
    """Measure and print."""
    figures = [figure for kept_before in (0, 5_000, 20_000) for figure in rises(kept_before)]
    finish([*figures, false_alarms(), *drift()], __doc__ or "")


if __name__ == "__main__":
    main()
