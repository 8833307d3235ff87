"""The ledger: what became of every request, counted once.

Only what cannot be derived is stored; totals are sums. So the identities of `RequestCounters` hold at every
moment by construction. A request's life is a `with` block that settles exactly once, however it is left.
All on one event loop, so there are no locks. Pure: the clock comes in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from types import TracebackType
from typing import NamedTuple

from edge_agent.judgements import Judgements, JudgementsSnapshot, judgements_added
from shared.clock import Clock
from shared.errors import CloudTimedOut, DeadlineExpired
from shared.gate import Gate
from shared.histogram import HistogramRecorder
from shared.types import LatencyHistogram, Outcome, Reason, RequestCounters

ACCEPTED_OUTCOMES = (Outcome.EDGE, Outcome.CLOUD, Outcome.DEGRADED, Outcome.FAILED)


class Series(NamedTuple):
    """What is counted together; with the device and its boot, the fleet's name for it."""

    model: str
    version: str
    variant: str


@dataclass(frozen=True)
class LedgerSnapshot:
    """One moment of a ledger. Histograms are of the whole time from arrival to answer."""

    counters: RequestCounters
    latency_by_outcome: dict[str, LatencyHistogram]
    reasons: dict[str, int]
    judgements: JudgementsSnapshot = field(default_factory=JudgementsSnapshot)


def added(snapshots: Sequence[LedgerSnapshot]) -> LedgerSnapshot:
    """The counts of several ledgers (at least one) together; steps and score bins are the last one's."""
    if len(snapshots) == 1:
        return snapshots[0]
    reasons: Counter[str] = Counter()
    for snapshot in snapshots:
        reasons.update(snapshot.reasons)
    rows = [astuple(snapshot.counters) for snapshot in snapshots]
    return LedgerSnapshot(
        RequestCounters(*(sum(column) for column in zip(*rows, strict=True))),
        {
            outcome: _histograms_added([snapshot.latency_by_outcome[outcome] for snapshot in snapshots])
            for outcome in snapshots[-1].latency_by_outcome
        },
        dict(reasons),
        judgements_added([snapshot.judgements for snapshot in snapshots]),
    )


def _histograms_added(histograms: Sequence[LatencyHistogram]) -> LatencyHistogram:
    counts = zip(*(histogram.counts for histogram in histograms), strict=True)
    return LatencyHistogram(tuple(map(sum, counts)), sum(histogram.sum_ms for histogram in histograms))


class Ledger:
    """The counts of one model under one gate. `judgements`: what was found out about its answers."""

    def __init__(self, clock: Clock, gate: Gate | None = None) -> None:
        self.judgements = Judgements(gate)
        self._clock = clock
        self._ended: Counter[Outcome] = Counter()
        self._calls_ended: Counter[str] = Counter()
        self._reasons: Counter[Reason] = Counter()
        self._latency = {outcome: HistogramRecorder() for outcome in ACCEPTED_OUTCOMES}
        self._in_flight = 0
        self._calls_in_flight = 0
        self._wanted = 0

    def reject(self, reason: Reason) -> None:
        """Count a request that was received and not accepted."""
        self._ended[Outcome.REJECTED] += 1
        self._reasons[reason] += 1

    def accept(self, arrived_s: float) -> RequestTicket:
        """Count a request, arrived at monotonic time `arrived_s`, as accepted, from `with` on."""
        return RequestTicket(self, arrived_s)

    def snapshot(self) -> LedgerSnapshot:
        """The counts of this moment."""
        return LedgerSnapshot(
            self._counters(),
            {outcome.value: recorder.snapshot() for outcome, recorder in self._latency.items()},
            {reason.value: count for reason, count in self._reasons.items()},
            self.judgements.snapshot(),
        )

    def _counters(self) -> RequestCounters:
        ended, calls = self._ended, self._calls_ended
        accepted = sum(ended[outcome] for outcome in ACCEPTED_OUTCOMES) + self._in_flight
        return RequestCounters(
            received=accepted + ended[Outcome.REJECTED],
            rejected=ended[Outcome.REJECTED],
            accepted=accepted,
            edge=ended[Outcome.EDGE],
            cloud=ended[Outcome.CLOUD],
            degraded=ended[Outcome.DEGRADED],
            failed=ended[Outcome.FAILED],
            in_flight=self._in_flight,
            wanted=self._wanted,
            attempted=sum(calls.values()) + self._calls_in_flight,
            served=calls["served"],
            call_failed=calls["call_failed"],
            timed_out=calls["timed_out"],
            calls_in_flight=self._calls_in_flight,
        )

    def _request_began(self) -> None:
        self._in_flight += 1

    def _request_predicted(self, label: str, score: float, wanted: bool) -> None:
        self._wanted += wanted
        self.judgements.predicted(label, score, wanted=wanted)

    def _request_ended(self, outcome: Outcome, reason: Reason, arrived_s: float) -> None:
        self._in_flight -= 1
        self._ended[outcome] += 1
        self._reasons[reason] += 1
        self._latency[outcome].add((self._clock.monotonic_s() - arrived_s) * 1e3)

    def _call_began(self) -> None:
        self._calls_in_flight += 1

    def _call_ended(self, result: str) -> None:
        self._calls_in_flight -= 1
        self._calls_ended[result] += 1


class RequestTicket:
    """One accepted request, in flight while its `with` block runs.

    Left without `settle`, it counts as failed: expired, cancelled, or by the engine, as the exception says.
    """

    def __init__(self, ledger: Ledger, arrived_s: float) -> None:
        self._ledger = ledger
        self._arrived_s = arrived_s
        self._settled: tuple[Outcome, Reason] | None = None
        self._is_predicted = False

    def __enter__(self) -> RequestTicket:
        self._ledger._request_began()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcome, reason = self._settled if self._settled and error is None else (Outcome.FAILED, _blame(error))
        self._ledger._request_ended(outcome, reason, self._arrived_s)

    def predicted(self, label: str, score: float, *, wanted: bool) -> None:
        """The device's own answer is `label` at gate score `score`; `wanted`: its gate escalates. Counted once."""
        if not self._is_predicted:
            self._is_predicted = True
            self._ledger._request_predicted(label, score, wanted)

    def call(self) -> CallTicket:
        """Count a call to the cloud as attempted, from `with` on."""
        return CallTicket(self._ledger)

    def settle(self, outcome: Outcome, reason: Reason) -> None:
        """Say how the request ends, once; counted when the block is left."""
        if self._settled is not None:
            raise RuntimeError(f"settled twice: {self._settled}, then {outcome}")
        self._settled = (outcome, reason)


class CallTicket:
    """One call to the cloud: served when the `with` block ends well, else timed out or failed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __enter__(self) -> CallTicket:
        self._ledger._call_began()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._ledger._call_ended("served")
        else:
            self._ledger._call_ended("timed_out" if isinstance(error, CloudTimedOut) else "call_failed")


def _blame(error: BaseException | None) -> Reason:
    if isinstance(error, DeadlineExpired):
        return Reason.DEADLINE
    if error is None or isinstance(error, Exception):
        return Reason.ENGINE_FAILED
    return Reason.CANCELLED
