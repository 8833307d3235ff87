"""The models that a device runs now, what they count, and how one takes another's place.

A device counts by series: model, version and variant, since it started. A series that comes back goes on where it
ended, and one that has ended still counts what comes in late: requests under way, audits, true labels.
All on one event loop, so there are no locks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import anyio

from edge_agent.accounting import Ledger, LedgerSnapshot, Series, added
from edge_agent.gate_control import GateControl
from edge_agent.judgements import Judgements
from edge_agent.model import EdgeModel
from shared.clock import Clock
from shared.types import GateReport, ModelIdentity


@dataclass(frozen=True)
class Lane:
    """One model with its ledger, and what its gate obeys."""

    model: EdgeModel
    ledger: Ledger
    control: GateControl

    @property
    def series(self) -> Series:
        """What its counts are told under."""
        identity = self.model.identity
        return Series(identity.name, identity.version, self.model.variant)


@dataclass(frozen=True)
class SeriesWord:
    """What is to be told of one series at this moment; `is_current`: it answers now."""

    series: Series
    identity: ModelIdentity
    gate: GateReport
    snapshot: LedgerSnapshot
    is_current: bool


@dataclass
class _Count:
    """A series' ledgers, one for each gate in turn; the last one's gate is the one that is told."""

    identity: ModelIdentity
    ledgers: list[tuple[str, Ledger]]
    gate: GateReport = field(default_factory=GateReport)

    def snapshot(self) -> LedgerSnapshot:
        """All together; steps and score bins are of the last gate alone."""
        return added([ledger.snapshot() for _, ledger in self.ledgers])


class Lanes(Mapping[str, Lane]):
    """The active lanes by model, and the counts of every series since the agent started.

    Of a series some kilobytes stay, whatever becomes of its model; there are as many as releases ran in this boot.
    """

    def __init__(self, lanes: Iterable[Lane]) -> None:
        self._active = {lane.model.identity.name: lane for lane in lanes}
        self._counts: dict[Series, _Count] = {}
        self._computing: Counter[str] = Counter()
        self._idle: dict[str, anyio.Event] = {}
        self._paused: dict[str, anyio.Event] = {}
        self.exchanges = 0
        """How often a lane has taken another's place."""
        for lane in self._active.values():
            self._enter(lane)

    def __getitem__(self, model: str) -> Lane:
        return self._active[model]

    def __iter__(self) -> Iterator[str]:
        return iter(self._active)

    def __len__(self) -> int:
        return len(self._active)

    @property
    def first(self) -> Lane:
        """The model that is meant where a request names none."""
        return next(iter(self._active.values()))

    def lane_for(self, model: EdgeModel, control: GateControl, clock: Clock) -> Lane:
        """A lane for `model`, to be put in place by `exchange`: with the ledger that it had, if it answered before."""
        fresh = Lane(model, Ledger(clock, model.bundle.gate), control)
        count = self._counts.get(fresh.series)
        if count is not None and count.identity == model.identity and count.ledgers[-1][0] == model.gate_digest:
            return Lane(model, count.ledgers[-1][1], control)
        return fresh

    def exchange(self, lane: Lane) -> Lane:
        """From the next request on `lane` answers; returns the one that did. Requests under way keep theirs."""
        before = self._active[lane.model.identity.name]
        self._counts[before.series].gate = before.control.report()
        self._active[lane.model.identity.name] = lane
        self._enter(lane)
        self.exchanges += 1
        return before

    def words(self) -> list[SeriesWord]:
        """What every series counts at this moment; those that have ended first."""
        current = {lane.series: lane for lane in self._active.values()}
        ended = [
            SeriesWord(series, count.identity, count.gate, count.snapshot(), is_current=False)
            for series, count in self._counts.items()
            if series not in current
        ]
        return ended + [
            SeriesWord(
                series, lane.model.identity, lane.control.report(), self._counts[series].snapshot(), is_current=True
            )
            for series, lane in current.items()
        ]

    def totals(self) -> dict[str, LedgerSnapshot]:
        """Each model's counts of all its series together, so that none ever falls; steps are of the active gate."""
        together: dict[str, list[LedgerSnapshot]] = {name: [] for name in self._active}
        for word in self.words():
            together[word.series.model].append(word.snapshot)
        return {name: added(snapshots) for name, snapshots in together.items()}

    def judgements_of(self, model: str, version: str, gate_digest: str) -> Judgements | None:
        """Where answers of this version under this gate are judged; None where the version has another gate by now."""
        current = self._active.get(model)
        candidates = [series for series in self._counts if (series.model, series.version) == (model, version)]
        candidates.sort(key=lambda series: current is not None and series == current.series)
        for series in reversed(candidates):
            digest, ledger = self._counts[series].ledgers[-1]
            if digest == gate_digest:
                return ledger.judgements
        return None

    def begin_computing(self, model: str) -> None:
        """A request is on its way to the model's engine, until `end_computing`."""
        self._computing[model] += 1

    def end_computing(self, model: str) -> None:
        """The engine is done with it."""
        self._computing[model] -= 1
        if not self._computing[model] and (idle := self._idle.pop(model, None)):
            idle.set()

    async def until_idle(self, model: str) -> None:
        """Wait until no request is on its way to the model's engine, or in it."""
        while self._computing[model]:
            await self._idle.setdefault(model, anyio.Event()).wait()

    def pause(self, model: str) -> None:
        """Begin no request of this model until `resume`."""
        self._paused.setdefault(model, anyio.Event())

    def resume(self, model: str) -> None:
        """Go on after a `pause`."""
        if event := self._paused.pop(model, None):
            event.set()

    def paused(self, model: str) -> anyio.Event | None:
        """What is set when the model's pause ends; None where there is none."""
        return self._paused.get(model)

    def _enter(self, lane: Lane) -> None:
        count = self._counts.setdefault(lane.series, _Count(lane.model.identity, []))
        count.identity = lane.model.identity
        if not count.ledgers or count.ledgers[-1][1] is not lane.ledger:
            count.ledgers.append((lane.model.gate_digest, lane.ledger))
