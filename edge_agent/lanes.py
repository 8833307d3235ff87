"""The models that a device runs now, what they count, and how one takes another's place.

For an A/B test a second lane answers a share of a model's requests, by the hash of their keys.

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
from shared.errors import EngineError
from shared.types import GateReport, ModelIdentity
from shared.update.assignment import place_of


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
    """What is to be told of one series at this moment.

    `is_current`: it is its model's active one; `answers`: that one, or it answers a share of the requests beside it.
    """

    series: Series
    identity: ModelIdentity
    gate: GateReport
    snapshot: LedgerSnapshot
    is_current: bool
    answers: bool


@dataclass(frozen=True)
class _Split:
    """A second lane of a model: it answers the requests whose key has a place below `share`."""

    lane: Lane
    share: float
    salt: str


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
        self._splits: dict[str, _Split] = {}
        self._computing: Counter[EdgeModel] = Counter()
        self._idle: dict[EdgeModel, anyio.Event] = {}
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

    def lane_of(self, model: str, key: str) -> Lane | None:
        """Which lane of a model answers a request of this key: the same one for as long as nothing is exchanged."""
        split = self._splits.get(model)
        if split is not None and place_of(split.salt, key) < split.share:
            return split.lane
        return self._active.get(model)

    def answering(self, model: str | None = None) -> list[Lane]:
        """Every lane that answers now, of one model or of all: the active ones first."""
        lanes = [*self._active.values(), *(split.lane for split in self._splits.values())]
        return [lane for lane in lanes if model in (None, lane.model.identity.name)]

    def lane_for(self, model: EdgeModel, control: GateControl, clock: Clock) -> Lane:
        """A lane for `model`, for `exchange` or `split`: with the ledger that it had, if it answered before."""
        fresh = Lane(model, Ledger(clock, model.bundle.gate), control)
        count = self._counts.get(fresh.series)
        if count is not None and count.identity == model.identity and count.ledgers[-1][0] == model.gate_digest:
            return Lane(model, count.ledgers[-1][1], control)
        return fresh

    def exchange(self, lane: Lane) -> Lane:
        """From the next request on `lane` answers; returns the one that did. Ends a split of its model.

        Requests under way keep theirs.
        """
        self.unsplit(lane.model.identity.name)
        before = self._active[lane.model.identity.name]
        self._counts[before.series].gate = before.control.report()
        self._active[lane.model.identity.name] = lane
        self._enter(lane)
        self.exchanges += 1
        return before

    def split(self, lane: Lane, share: float, salt: str) -> None:
        """From the next request on `lane` answers those beside the active one whose key lies below `share`.

        Raises:
            EngineError: its counts could not be told apart from the active lane's.
        """
        name = lane.model.identity.name
        if lane.series == self._active[name].series:
            raise EngineError(f"{name} {lane.series.version} answers already under this variant")
        self.unsplit(name)
        self._splits[name] = _Split(lane, share, salt)
        self._enter(lane)

    def unsplit(self, model: str) -> Lane | None:
        """From the next request on the active lane answers all again; returns the one that answered beside it.

        Requests under way keep theirs; see `until_idle`.
        """
        split = self._splits.pop(model, None)
        if split is None:
            return None
        self._counts[split.lane.series].gate = split.lane.control.report()
        return split.lane

    def words(self) -> list[SeriesWord]:
        """What every series counts at this moment; the active ones last."""
        answering = {lane.series: lane for lane in self.answering()}
        active = {lane.series: lane for lane in self._active.values()}
        words = []
        for series in (*(each for each in self._counts if each not in active), *active):
            count, lane = self._counts[series], answering.get(series)
            gate = lane.control.report() if lane else count.gate
            is_current, answers = series in active, lane is not None
            words.append(SeriesWord(series, count.identity, gate, count.snapshot(), is_current, answers))
        return words

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

    def begin_computing(self, model: EdgeModel) -> None:
        """A request is on its way to the model's engine, until `end_computing`."""
        self._computing[model] += 1

    def end_computing(self, model: EdgeModel) -> None:
        """The engine is done with it."""
        self._computing[model] -= 1
        if not self._computing[model]:
            del self._computing[model]
            if idle := self._idle.pop(model, None):
                idle.set()

    async def until_idle(self, model: EdgeModel) -> None:
        """Wait until no request is on its way to the model's engine, or in it."""
        while model in self._computing:
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
