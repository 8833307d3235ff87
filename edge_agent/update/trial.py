"""What a trial counts: the new bundle's requests since it began, beside the old one's. Pure."""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.accounting import Ledger, LedgerSnapshot
from edge_agent.update.decision import FEWEST_SPLIT_REQUESTS
from shared.histogram import quantile_ms
from shared.types import LatencyHistogram, Outcome, RequestCounters
from shared.update.report import TrialFigures

_OWN = Outcome.EDGE.value
OldCounts = Callable[[], LedgerSnapshot | None]
"""What the old bundle counted, asked anew each time; None where that is not known."""


def counted_beside(ledger: Ledger) -> OldCounts:
    """What `ledger` counts from now on; of too few requests nothing is known."""
    begin = ledger.snapshot()

    def counts() -> LedgerSnapshot | None:
        now = ledger.snapshot()
        ended = _ended(now) - _ended(begin)
        if ended < FEWEST_SPLIT_REQUESTS:
            return None
        latency = {}
        for outcome, each in now.latency_by_outcome.items():
            earlier = begin.latency_by_outcome[outcome]
            latency[outcome] = LatencyHistogram(_grown(earlier, each), each.sum_ms - earlier.sum_ms)
        counters = RequestCounters(
            accepted=ended,
            wanted=now.counters.wanted - begin.counters.wanted,
            failed=now.counters.failed - begin.counters.failed,
        )
        return LedgerSnapshot(counters, latency, {})

    return counts


class TrialCount:
    """Counts from its making on, beside what `before` says of the old bundle."""

    def __init__(self, ledger: Ledger, before: OldCounts) -> None:
        self._ledger = ledger
        self._at_begin = ledger.snapshot()
        self._before = before

    def figures(self) -> TrialFigures:
        """The counts so far. What is not known of the old bundle is taken to be as the new one's."""
        begin, now, before = self._at_begin, self._ledger.snapshot(), self._before()
        offload = _share(now.counters.wanted - begin.counters.wanted, now.counters.accepted - begin.counters.accepted)
        latency_ms, old_latency_ms = _medians_ms(begin, now, before)
        audits, audits_at_begin = now.judgements.audits, begin.judgements.audits
        agreed = audits.agreed - audits_at_begin.agreed
        return TrialFigures(
            requests=_ended(now) - _ended(begin),
            failed=now.counters.failed - begin.counters.failed,
            latency_ms=latency_ms,
            old_latency_ms=old_latency_ms,
            offload=offload,
            old_offload=_offload(before, otherwise=offload),
            old_failed=_share(before.counters.failed, _ended(before)) if before else 0.0,
            compared=agreed + audits.disagreed - audits_at_begin.disagreed,
            agreed=agreed,
        )


def _offload(before: LedgerSnapshot | None, *, otherwise: float) -> float:
    is_known = before is not None and before.counters.accepted > 0
    return _share(before.counters.wanted, before.counters.accepted) if before and is_known else otherwise


def _ended(snapshot: LedgerSnapshot) -> int:
    return snapshot.counters.accepted - snapshot.counters.in_flight


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _medians_ms(begin: LedgerSnapshot, now: LedgerSnapshot, before: LedgerSnapshot | None) -> tuple[float, float]:
    """Of the device's own answers; of all where one of the two has none, as then the cloud gave them all."""
    grown = {
        outcome: _grown(begin.latency_by_outcome[outcome], now.latency_by_outcome[outcome])
        for outcome in now.latency_by_outcome
    }
    old = {outcome: each.counts for outcome, each in before.latency_by_outcome.items()} if before else {}
    if sum(grown.get(_OWN, ())) and sum(old.get(_OWN, ())):
        return quantile_ms(grown[_OWN], 0.5) or 0.0, quantile_ms(old[_OWN], 0.5) or 0.0
    return quantile_ms(_all(grown), 0.5) or 0.0, quantile_ms(_all(old), 0.5) or 0.0


def _grown(begin: LatencyHistogram, now: LatencyHistogram) -> tuple[int, ...]:
    return tuple(after - earlier for earlier, after in zip(begin.counts, now.counts, strict=True))


def _all(by_outcome: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*by_outcome.values(), strict=True)))
