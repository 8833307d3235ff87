"""Exchanges the models of a running pipeline: loads beside, proves, switches, watches."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import anyio

from edge_agent.accounting import LedgerSnapshot
from edge_agent.gate_control import GateControl
from edge_agent.lanes import Lane
from edge_agent.loading import load_bundle, load_engine
from edge_agent.model import EdgeModel
from edge_agent.pipeline import Pipeline
from edge_agent.update.memory import available_bytes, needed_bytes, resident_bytes
from edge_agent.update.ports import LoadedCandidate
from edge_agent.update.proving import ProvingBounds, golden_medians_ms, prove_answers, prove_latency, prove_memory
from edge_agent.update.shadow import ShadowRun
from edge_agent.update.trial import TrialCount, counted_beside
from shared.bundle import Bundle, read_bundle
from shared.clock import Clock
from shared.errors import ConfigurationError, EngineError, NoRoom, ProvingFailed, TandemError
from shared.quiet_thread import Pace, QuietThread, give_back_freed
from shared.update.report import InstalledRelease, TrialFigures

_log = logging.getLogger(__name__)
_MOST_UNLOADING_S = 30.0
_MOST_DRAINING_S = 5.0
_BOUNDS = ProvingBounds()
_FOLLOW_WITHIN_S = 5.0
_MOST_LOOKS = 3
"""A busy device may time two equal models unequally; a release that is slow is slow each time."""


async def _follow_nothing(lane: Lane) -> None:
    return None


class Candidate:
    """A loaded bundle, as `LoadedCandidate`.

    `running_ms` is set where it took the running model's place in memory; infinity where that one cannot answer.
    """

    def __init__(
        self, release: InstalledRelease, model: EdgeModel, control: GateControl, give_up: Callable[[], Awaitable[None]]
    ) -> None:
        self.release = release
        self.model = model
        self.control = control
        self.taken_bytes = 0
        self.running_ms: float | None = None
        self.is_active = False
        self._give_up: Callable[[], Awaitable[None]] | None = give_up

    def took_over(self) -> None:
        """It answers from now on; `close` does nothing any more."""
        self.is_active, self._give_up = True, None

    async def close(self) -> None:
        """See `LoadedCandidate`."""
        give_up, self._give_up = self._give_up, None
        if give_up is not None:
            await give_up()


class PipelineHost:
    """See `edge_agent.update.ports.ModelHost`. All of one event loop; loading and proving have threads of their own."""

    def __init__(
        self,
        pipeline: Pipeline,
        threads: Mapping[str, int],
        make_control: Callable[[EdgeModel], GateControl],
        clock: Clock,
        *,
        policies: Callable[[str], Sequence[bytes]] = lambda model: (),
        follow: Callable[[Lane], Awaitable[None]] = _follow_nothing,
        releases: Mapping[str, InstalledRelease] | None = None,
        bounds: ProvingBounds = _BOUNDS,
        free_bytes: Callable[[], int | None] = available_bytes,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        """`threads`: each model's intra-operator threads. `policies` gives those known for a model's gates; `follow` is
        told of each lane that has begun to answer. `releases`: what the pipeline's models were installed as.
        """
        self._pipeline = pipeline
        self._lanes = pipeline.lanes
        self._threads = threads
        self._make_control = make_control
        self._clock = clock
        self._policies = policies
        self._follow = follow
        self._bounds = bounds
        self._free_bytes = free_bytes
        self._uniform = uniform
        self._quiet = QuietThread("tandem-update")
        self._loading = QuietThread("tandem-load", lowers_priority=False)
        self._releases = {name: _release_of(lane.model) for name, lane in self._lanes.items()} | dict(releases or {})
        self._one_load = anyio.Lock()
        self._before: dict[str, LedgerSnapshot] = {}
        self._unsaved_policies: dict[tuple[str, str], bytes] = {}
        self._trials: dict[str, TrialCount] = {}
        self._shadows: dict[str, ShadowRun] = {}

    def close(self) -> None:
        """End the threads; work under way is left to end."""
        for model in self._lanes:
            self._end_beside(model)
        self._quiet.close()
        self._loading.close()

    def names(self) -> Sequence[str]:
        """See `ModelHost`."""
        return tuple(self._lanes)

    def active(self, model: str) -> InstalledRelease:
        """See `ModelHost`."""
        return self._releases[model]

    def relabel(self, model: str, release: InstalledRelease) -> None:
        """See `ModelHost`."""
        self._releases[model] = release

    async def load(self, folder: Path, release: InstalledRelease, *, one_at_a_time: bool = False) -> Candidate:
        """See `ModelHost`. `one_at_a_time`: where there is no room for two, unload the running model first.

        Requests that come meanwhile wait, each until its deadline; from then on the candidate must be switched to or
        closed.

        Raises:
            BundleError, EngineError: it cannot be used; the running model answers on, or again.
            NoRoom: there is not enough memory for two; or, with `one_at_a_time`, not for it alone.
        """
        # One model at a time: free memory that two have counted on, or what two take together, says nothing of one.
        async with self._one_load:
            return await self._load_alone(folder, release, one_at_a_time=one_at_a_time)

    async def _load_alone(self, folder: Path, release: InstalledRelease, *, one_at_a_time: bool) -> Candidate:
        bundle = await self._quiet.run(partial(read_bundle, folder))
        lane = self._lane_of(bundle, release)
        needed, free = needed_bytes(bundle), self._free_bytes()
        if free is None or free >= needed:
            return await self._load(bundle, release, self._give_back)
        if not one_at_a_time:
            raise NoRoom(
                f"{bundle.manifest.model} {release.version} needs {needed / 1e6:.0f} MB of memory beside the running "
                f"model, {free / 1e6:.0f} MB are free"
            )
        return await self._load_in_its_place(lane.model, bundle, release, needed)

    async def prove(self, candidate: LoadedCandidate) -> None:
        """See `ModelHost`."""
        mine = _mine(candidate)
        running = self._lanes[mine.model.identity.name].model
        if running.is_unloaded and mine.running_ms is None:
            mine.running_ms = float("inf")
        prove_memory(mine.taken_bytes, needed_bytes(mine.model.bundle), self._bounds)
        pace = Pace() if mine.running_ms is None else Pace(0.0)
        await self._quiet.run(partial(prove_answers, mine.model, pace))
        models = (mine.model,) if mine.running_ms is not None else (mine.model, running)
        await self._prove_latency(mine, models, pace)

    async def switch(self, candidate: LoadedCandidate) -> None:
        """See `ModelHost`."""
        mine = _mine(candidate)
        await self._quiet.run(mine.model.warm_up)
        name = mine.model.identity.name
        self._note_policy(self._lanes[name])
        self._hear_policies(mine)
        self._end_beside(name)
        lane = self._lanes.lane_for(mine.model, mine.control, self._clock)
        self._before[name] = self._lanes.exchange(lane).ledger.snapshot()
        self._trials.pop(name, None)
        self._releases[name] = mine.release
        self._lanes.resume(name)
        mine.took_over()
        _log.info("model %s: %s answers from now on", name, mine.release.version)
        await self._tell(lane)
        await self._give_back()

    def begin_trial(self, model: str) -> None:
        """See `ModelHost`."""
        before = self._before.get(model)
        self._trials[model] = TrialCount(self._lanes[model].ledger, lambda: before)

    def trial_figures(self, model: str) -> TrialFigures:
        """See `ModelHost`."""
        counting = self._shadows.get(model) or self._trials.get(model)
        return counting.figures() if counting else TrialFigures()

    def begin_shadow(self, candidate: LoadedCandidate, share: float) -> None:
        """See `ModelHost`."""
        mine = _mine(candidate)
        name = mine.model.identity.name
        self._end_beside(name)
        self._shadows[name] = self._pipeline.shadows[name] = ShadowRun(mine.model, share, self._uniform, self._clock)

    async def begin_split(self, candidate: LoadedCandidate, share: float, salt: str) -> None:
        """See `ModelHost`."""
        mine = _mine(candidate)
        await self._quiet.run(mine.model.warm_up)
        name = mine.model.identity.name
        self._hear_policies(mine)
        self._end_beside(name)
        lane = self._lanes.lane_for(mine.model, mine.control, self._clock)
        self._lanes.split(lane, share, salt)
        self._trials[name] = TrialCount(lane.ledger, counted_beside(self._lanes[name].ledger))
        _log.info("model %s: %s answers %.0f%% of the requests by their key", name, mine.release.version, 100 * share)
        await self._tell(lane)

    async def _tell(self, lane: Lane) -> None:
        with anyio.move_on_after(_FOLLOW_WITHIN_S):
            await self._follow(lane)

    async def _prove_latency(self, mine: Candidate, models: tuple[EdgeModel, ...], pace: Pace) -> None:
        """`models`: the candidate, and the running one where both are in memory."""
        for look in range(1, _MOST_LOOKS + 1):
            medians_ms = await self._quiet.run(partial(golden_medians_ms, models, mine.model, self._clock, pace))
            running_ms = medians_ms[1] if mine.running_ms is None else mine.running_ms
            try:
                prove_latency(medians_ms[0], running_ms, self._bounds)
            except ProvingFailed:
                if look == _MOST_LOOKS:
                    raise
            else:
                return

    def _hear_policies(self, candidate: Candidate) -> None:
        """Those that are known; a candidate that answers already has heard them as they came."""
        name = candidate.model.identity.name
        if any(lane.control is candidate.control for lane in self._lanes.answering(name)):
            return
        unsaved = [payload for (model, _), payload in self._unsaved_policies.items() if model == name]
        for payload in (*self._policies(name), *unsaved):
            candidate.control.hear(payload)

    def _note_policy(self, leaving: Lane) -> None:
        """Its gate may come back before what it obeys is saved; of each model the newest two gates' are kept."""
        name = leaving.model.identity.name
        if leaving.control.payload is not None:
            self._unsaved_policies[name, leaving.control.gate_digest] = leaving.control.payload
        mine = [key for key in self._unsaved_policies if key[0] == name]
        for key in mine[:-2]:
            del self._unsaved_policies[key]

    def _lane_of(self, bundle: Bundle, release: InstalledRelease) -> Lane:
        identity = bundle.identity
        lane = self._lanes.get(identity.name)
        if lane is None:
            raise EngineError(f"model {identity.name} is not one that this device runs")
        if (identity.version, identity.digest) != (release.version, release.model_digest):
            raise EngineError(
                f"{bundle.path} holds {identity.version}, not the {release.version} that was to be loaded"
            )
        return lane

    async def _load(
        self, bundle: Bundle, release: InstalledRelease, give_up: Callable[[], Awaitable[None]]
    ) -> Candidate:
        before_bytes = resident_bytes()
        threads = self._threads[bundle.identity.name]
        thread = self._quiet if threads == 1 else self._loading
        model = await thread.run(partial(load_bundle, bundle, threads, release.variant))
        try:
            candidate = Candidate(release, model, self._make_control(model), partial(self._drop, model, give_up))
        except ConfigurationError as error:
            raise EngineError(f"its gate does not suit this device's configuration: {error}") from error
        candidate.taken_bytes = resident_bytes() - before_bytes
        return candidate

    async def _load_in_its_place(
        self, running: EdgeModel, bundle: Bundle, release: InstalledRelease, needed: int
    ) -> Candidate:
        name = bundle.identity.name
        running_ms = float("inf")
        if not running.is_unloaded:
            (running_ms,) = await self._quiet.run(partial(golden_medians_ms, (running,), running, self._clock, Pace()))
        _log.warning("model %s: no room for two, so it pauses while %s is loaded", name, release.version)
        self._lanes.pause(name)
        put_back = partial(self._put_back, running)
        try:
            await self._unload(running)
            free = self._free_bytes()
            if free is not None and free < needed:
                raise NoRoom(
                    f"{name} {release.version} needs {needed / 1e6:.0f} MB of memory, {free / 1e6:.0f} MB are free"
                )
            candidate = await self._load(bundle, release, put_back)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await put_back()
            raise
        candidate.running_ms = running_ms
        return candidate

    async def _unload(self, model: EdgeModel) -> None:
        try:
            with anyio.fail_after(_MOST_UNLOADING_S):
                await self._lanes.until_idle(model)
        except TimeoutError as error:
            raise NoRoom(f"requests to {model.identity.name} did not end within {_MOST_UNLOADING_S:g} s") from error
        model.unload()
        await self._give_back()

    async def _put_back(self, model: EdgeModel) -> None:
        """Load the running model again, in the place that the candidate has left.

        Whoever is in a hurry waits for it all the same: a model that is left unloaded answers nothing.
        """
        name = model.identity.name
        try:
            with anyio.CancelScope(shield=True):
                if model.is_unloaded:
                    model.reload(await self._loading.run(partial(load_engine, model.bundle, self._threads[name])))
        except TandemError:
            _log.exception("model %s cannot be loaded again, and answers nothing until another is installed", name)
            raise
        finally:
            self._lanes.resume(name)

    async def _drop(self, model: EdgeModel, give_up: Callable[[], Awaitable[None]]) -> None:
        """Free a candidate. Requests that it still answers end first; what takes longer frees it with its last one."""
        name = model.identity.name
        shadow = self._shadows.get(name)
        beside = [lane.model for lane in self._lanes.answering(name)] + ([shadow.model] if shadow else [])
        if model in beside:
            self._end_beside(name)
        try:
            with anyio.move_on_after(_MOST_DRAINING_S) as draining:
                await self._lanes.until_idle(model)
            if not draining.cancelled_caught:
                model.unload()
        finally:
            await give_up()

    async def _give_back(self) -> None:
        await self._quiet.run(give_back_freed)

    def _end_beside(self, model: str) -> None:
        """The active model answers alone from now on, whoever answered beside it."""
        self._pipeline.shadows.pop(model, None)
        if shadow := self._shadows.pop(model, None):
            shadow.close()
        if lane := self._lanes.unsplit(model):
            self._note_policy(lane)
            self._trials.pop(model, None)


def _release_of(model: EdgeModel) -> InstalledRelease:
    identity = model.identity
    return InstalledRelease(identity.version, identity.digest, model.gate_digest, variant=model.variant)


def _mine(candidate: LoadedCandidate) -> Candidate:
    if not isinstance(candidate, Candidate):
        raise TypeError(f"{candidate!r} was not loaded by this host")
    return candidate
