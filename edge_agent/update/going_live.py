"""A bundle in a slot on its way to the requests: loaded, proven, tried, and committed; or back to the one before."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import anyio

from edge_agent.update import machine
from edge_agent.update.assignments import Assignments
from edge_agent.update.decision import FEWEST_JUDGED_REQUESTS, fault_of_split, judge_trial
from edge_agent.update.machine import FACTORY, Installed, Target, UpdateState
from edge_agent.update.parts import Record, UpdateParts, kind_of
from edge_agent.update.ports import LoadedCandidate
from edge_agent.update.staging import remove_staging
from shared.errors import NoRoom, TandemError, TrialFailed, UpdateError
from shared.update.assignment import Trial
from shared.update.report import ErrorKind, InstalledRelease, Phase, TrialFigures

_log = logging.getLogger(__name__)
_LONGEST_LOOK_S = 1.0
_CLOSE_PATIENCE_S = 10.0


@dataclass(frozen=True)
class _Beside:
    """What answers beside the active bundle: in the shadow, or a share of the requests."""

    target: Target
    candidate: LoadedCandidate


class GoingLive:
    """One model's way from a slot to the requests."""

    def __init__(self, record: Record, parts: UpdateParts, assignments: Assignments) -> None:
        self._record = record
        self._parts = parts
        self._assignments = assignments
        self._beside: _Beside | None = None

    async def take(self, target: Target, slot: str, *, is_proven: bool) -> None:
        """Make the bundle in `slot` the active one, or let it answer beside the active one, as `target` asks.

        What was committed once is taken without proof or trial: it must be there at once where the newer one fails.

        Raises:
            UpdateError: the disk cannot be written; the old bundle answers on.
        """
        place = self._record.slots.places[slot]
        label = _labelled(place, target)
        if slot == self._record.state.active and self._runs_but_for_its_number(label):
            await self.end_beside()
            self._parts.host.relabel(self._record.model, label)
            await self._record.save(machine.relabelled(self._record.state, replace(place, release=label)))
            return
        candidate = await self._loaded(target, slot, label, is_proven=is_proven)
        if candidate is None:
            return
        if target.is_beside:
            await self._begin_beside(target, candidate)
        elif await self._switched(candidate):
            await self._end_trial(target, replace(place, release=label), is_proven=is_proven)

    async def resume_trial(self) -> None:
        """After a start in a trial: try on, from the slot that the agent started with."""
        state = self._record.state
        if state.phase is Phase.TRIAL and state.candidate is not None:
            target, place = state.candidate.target, self._record.slots.places[state.candidate.slot]
            label = _labelled(place, target)
            await self._end_trial(target, replace(place, release=label), is_proven=place.is_proven)

    async def make_good(self) -> None:
        """Try again to go back, where what was committed could not be gone back to at once.

        Raises:
            UpdateError: it still cannot be loaded.
        """
        state, running = self._record.state, self._parts.host.active(self._record.model)
        committed = self._record.slots.places[state.active].release
        if (running.model_digest, running.gate_digest) != (committed.model_digest, committed.gate_digest):
            await self._go_back(state)

    @property
    def is_beside(self) -> bool:
        """Whether a candidate answers beside the active bundle."""
        return self._beside is not None

    def is_beside_as(self, target: Target | None) -> bool:
        """Whether `target` answers beside the active bundle as it asks."""
        return self._beside is not None and self._beside.target.asks_the_same(target)

    async def look_beside(self) -> str:
        """Report how the candidate does that answers beside the active bundle; returns what is wrong with it.

        "" where nothing is, or where nobody sees its answers: then those who read the reports decide.
        """
        if self._beside is None:
            return ""
        figures = self._record.reports.figures = self._parts.host.trial_figures(self._record.model)
        self._record.tell()
        target, candidate = self._beside.target, self._record.state.candidate
        if target.key_share == 0:
            return ""
        enough = max(target.trial.requests, FEWEST_JUDGED_REQUESTS)
        if candidate is not None and candidate.deaths and figures.requests >= enough:
            with anyio.CancelScope(shield=True):
                await self._record.hold(machine.survived(self._record.state))
        return fault_of_split(figures, target.trial)

    async def fail_beside(self, fault: str) -> None:
        """The active bundle answers alone again, as the other one does worse than it may."""
        await self.end_beside()
        await self._record.hold(machine.rolled_back(self._record.state, ErrorKind.TRIAL, fault))

    async def give_up(self, reason: str) -> None:
        """The candidate is no longer to be gone on with, however far it came.

        Raises:
            UpdateError: the bundle before cannot be loaded.
        """
        await self.end_beside()
        state = self._record.state
        if state.phase is Phase.TRIAL:
            await self._go_back(machine.rolled_back(state, ErrorKind.TRIAL, reason))
        else:
            await self._record.hold(machine.rolled_back(state, ErrorKind.PROVING, reason))

    async def end_beside(self) -> None:
        """Free what answers beside the active bundle, if anything does."""
        if self._beside is not None:
            beside, self._beside = self._beside, None
            await _close(beside.candidate)

    def _runs_but_for_its_number(self, label: InstalledRelease) -> bool:
        return replace(self._parts.host.active(self._record.model), release=label.release) == label

    async def _loaded(
        self, target: Target, slot: str, label: InstalledRelease, *, is_proven: bool
    ) -> LoadedCandidate | None:
        """The bundle, warm and proven; None where it failed, which is remembered."""
        beside = self._beside
        self._record.reports.figures = TrialFigures()
        if beside is not None and beside.target.content == target.content and beside.candidate.release == label:
            await self._record.save(machine.begun(self._record.state, target, slot, _phase_of(beside.target)))
            self._beside = None
            return beside.candidate
        await self.end_beside()
        await self._record.save(machine.begun(self._record.state, target, slot, Phase.STAGED))
        await self._record.save(machine.moved(self._record.state, Phase.LOADING))
        candidate: LoadedCandidate | None = None
        try:
            candidate = await self._load(slot, label, may_pause=not target.is_beside)
            if not is_proven:
                await self._record.hold(machine.moved(self._record.state, Phase.PROVING))
                await self._parts.host.prove(candidate)
        except TandemError as error:
            await self._failed(candidate, error)
            return None
        except BaseException:
            await _close(candidate)
            raise
        return candidate

    async def _load(self, slot: str, label: InstalledRelease, *, may_pause: bool) -> LoadedCandidate:
        """Beside the active bundle; where memory is too small for two, in its place, which is announced first."""
        folder, host = self._record.slots.folder(slot), self._parts.host
        try:
            return await host.load(folder, label)
        except NoRoom as error:
            if not may_pause:
                raise
            _log.warning("model %s: requests wait until %s is loaded: %s", self._record.model, label.version, error)
            self._record.tell(f"requests wait until it is loaded: {error}", ErrorKind.NO_ROOM)
        return await host.load(folder, label, one_at_a_time=True)

    async def _failed(self, candidate: LoadedCandidate | None, error: TandemError) -> None:
        await _close(candidate)
        kind = kind_of(error) if isinstance(error, NoRoom) else ErrorKind.PROVING
        await self._record.hold(machine.rolled_back(self._record.state, kind, str(error)))

    async def _begin_beside(self, target: Target, candidate: LoadedCandidate) -> None:
        # Saved before it answers, as before a switch.
        if self._record.state.phase is not _phase_of(target):
            await self._record.hold(machine.moved(self._record.state, _phase_of(target)))
        try:
            if target.key_share > 0:
                await self._parts.host.begin_split(candidate, target.key_share, target.rollout)
            else:
                self._parts.host.begin_shadow(candidate, target.shadow_share)
        except TandemError as error:
            await self._failed(candidate, error)
            return
        except BaseException:
            await _close(candidate)
            raise
        self._beside = _Beside(target, candidate)

    async def _switched(self, candidate: LoadedCandidate) -> bool:
        # Saved before the switch: a bundle that kills the agent at its first request is known at the next start.
        await self._record.hold(machine.moved(self._record.state, Phase.TRIAL))
        try:
            await self._parts.host.switch(candidate)
        except TandemError as error:
            await self._failed(candidate, error)
            return False
        except BaseException:
            await _close(candidate)
            raise
        return True

    async def _end_trial(self, target: Target, installed: Installed, *, is_proven: bool) -> None:
        if not is_proven:
            try:
                if await self._assignments.unless_changed(target, lambda: self._try(target.trial)):
                    _log.info("model %s: another assignment ends the trial", self._record.model)
                    await self._go_back(machine.abandoned(self._record.state))
                    return
            except TrialFailed as error:
                await self._go_back(machine.rolled_back(self._record.state, ErrorKind.TRIAL, str(error)))
                return
        await self._record.hold(machine.committed(self._record.state, installed))
        try:
            await self._parts.run(lambda: remove_staging(self._record.slots.root, self._parts.disk))
        except OSError as error:
            _log.warning("model %s: what was left of older updates cannot be removed: %s", self._record.model, error)

    async def _try(self, trial: Trial) -> None:
        """Watch real traffic.

        Raises:
            TrialFailed: it does worse than it may.
        """
        host, clock, model = self._parts.host, self._parts.clock, self._record.model
        host.begin_trial(model)
        began_s = clock.monotonic_s()
        while True:
            figures = host.trial_figures(model)
            self._record.reports.figures = figures
            verdict = judge_trial(figures, trial, clock.monotonic_s() - began_s)
            self._record.tell()
            if verdict.fault:
                raise TrialFailed(verdict.fault)
            if verdict.is_over:
                return
            await clock.sleep(min(_LONGEST_LOOK_S, max(trial.seconds, 0.1) / 10))

    async def _go_back(self, state: UpdateState) -> None:
        """To what was committed before: saved first, so that a power cut goes back too."""
        await self._record.hold(state)
        slots, host = self._record.slots, self._parts.host
        for slot in dict.fromkeys((state.active, FACTORY)):
            candidate: LoadedCandidate | None = None
            try:
                candidate = await self._load(slot, slots.places[slot].release, may_pause=True)
                await host.switch(candidate)
            except TandemError as error:
                await _close(candidate)
                _log.error("model %s: slot %s cannot be gone back to: %s", self._record.model, slot, error)
                continue
            if slot != state.active:
                await self._record.hold(machine.could_not_start(self._record.state, "it could not be gone back to"))
            self._record.reports.figures = TrialFigures()
            self._record.tell()
            return
        raise UpdateError("the bundle before cannot be loaded beside the new one; the agent must be started again")


def _phase_of(target: Target) -> Phase:
    """Where the candidate stands once it answers beside the active bundle as `target` asks."""
    return Phase.SPLIT if target.key_share > 0 else Phase.SHADOW


def _labelled(place: Installed, target: Target) -> InstalledRelease:
    """What lies there, told as `target` names it."""
    return replace(place.release, variant=target.variant, release=target.release)


async def _close(candidate: LoadedCandidate | None) -> None:
    if candidate is not None:
        with anyio.move_on_after(_CLOSE_PATIENCE_S, shield=True):
            await candidate.close()
