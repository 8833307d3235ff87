"""One model's updates: looked up, decided, fetched into the idle slot, and taken live."""

from __future__ import annotations

import logging
from dataclasses import replace

import anyio

from edge_agent.update import machine
from edge_agent.update.assignments import Asked, Assignments
from edge_agent.update.decision import Blocked, Decision, Fetch, Stay, Take, Wait, decide
from edge_agent.update.going_live import GoingLive
from edge_agent.update.machine import Target
from edge_agent.update.parts import Record, UpdateParts, kind_of
from edge_agent.update.slots import installed_of
from edge_agent.update.staging import LocalFolders, Progress, Release, Staging
from shared.bundle import Manifest
from shared.documents import sha256
from shared.errors import FetchFailed, TandemError, UpdateError, UpdateRefused
from shared.update.release import with_gate
from shared.update.report import ErrorKind, Phase

_log = logging.getLogger(__name__)


class ModelUpdate:
    """One model's updates, for as long as the agent runs."""

    def __init__(self, record: Record, parts: UpdateParts) -> None:
        self._record = record
        self._parts = parts
        self._assignments = Assignments(record.model, parts)
        self._live = GoingLive(record, parts, self._assignments)
        self._fetch_failures = 0

    def hint(self) -> None:
        """There may be something new to look up."""
        self._assignments.hint()

    async def run(self) -> None:
        """Follow the assignments until cancelled. What fails is reported and tried again."""
        self._record.tell()
        try:
            while True:
                await self._wait(await self._attempt())
        finally:
            await self._live.end_beside()

    async def _wait(self, seconds: float) -> None:
        """Until a hint, `seconds` at most; meanwhile what answers beside the active bundle is watched and reported."""
        if not self._live.is_beside:
            await self._assignments.wait(seconds)
            return
        fault = ""
        async with anyio.create_task_group() as group:

            async def look() -> None:
                nonlocal fault
                while not (fault := await self._live.look_beside()):
                    await self._parts.clock.sleep(self._parts.settings.progress_interval_s)
                group.cancel_scope.cancel()

            group.start_soon(look)
            await self._assignments.wait(seconds)
            group.cancel_scope.cancel()
        if fault:
            _log.warning("model %s: requests are split no longer: %s", self._record.model, fault)
            await self._live.fail_beside(fault)

    async def _attempt(self) -> float:
        """One look and all that follows from it; returns the seconds until the next."""
        settings = self._parts.settings
        try:
            await self._live.resume_trial()
            pause_s = await self._obey(await self._assignments.newest())
        except FetchFailed as error:
            self._fetch_failures += 1
            self._stuck(error)
            return settings.backoff.delay_s(self._fetch_failures, self._parts.uniform)
        except UpdateError as error:
            self._stuck(error)
            if not self._live.is_beside:  # what answers beside the active bundle was vouched for when it began
                await self._let_go(str(error), kind_of(error))
            pause_s = self._assignments.interval_s()
        except Exception as error:  # noqa: BLE001 - one model's fault must not end the others' updates
            _log.exception("model %s: the update failed in a way that nobody foresaw", self._record.model)
            await self._let_go(f"the update failed in a way that nobody foresaw: {error}", ErrorKind.REFUSED)
            pause_s = self._assignments.interval_s()
        self._fetch_failures = 0
        return pause_s

    async def _obey(self, asked: Asked | None) -> float:
        interval_s = self._assignments.interval_s()
        if asked is None:
            await self._stay(None)
            return interval_s
        await self._record.see(asked.assignment)
        target = asked.target
        if self._live.is_beside_as(target):
            return interval_s
        decision = self._decision(asked, target)
        if isinstance(decision, Wait):
            return min(interval_s, max(1.0, decision.until_unix_s - self._parts.unix_s()))
        await self._carry_out(decision, asked, target)
        return interval_s

    def _decision(self, asked: Asked, target: Target | None) -> Decision:
        state, places = self._record.state, self._record.slots.places
        return decide(state, places, target, asked.assignment.not_before_unix_s, self._parts.unix_s())

    async def _carry_out(self, decision: Decision, asked: Asked, target: Target | None) -> None:
        if isinstance(decision, Stay):
            await self._stay(target)
        elif isinstance(decision, Blocked):
            await self._live.end_beside()
            failure = decision.failure
            self._record.tell(failure.reason, failure.kind, failure.attempts)
            await self._live.make_good()
        elif isinstance(decision, Take):
            await self._check_floor(asked, decision)
            await self._live.take(decision.target, decision.slot, is_proven=decision.is_proven)
        elif isinstance(decision, Fetch):
            await self._fetch(asked, decision)

    async def _stay(self, target: Target | None) -> None:
        await self._live.end_beside()
        state = self._record.state
        if target is not None:
            state = machine.settled(state)
        elif state.candidate is not None:
            state = machine.abandoned(state)
        await self._record.save(state)
        await self._live.make_good()

    async def _check_floor(self, asked: Asked, decision: Take) -> None:
        """What lies here already was vouched for when it came, but no number that it is to be told under from now on;
        below the floor it needs an exception.
        """
        place = self._record.slots.places[decision.slot]
        if place.release.release != decision.target.release or place.release.release < self._floor(asked):
            await self._manifest(asked)

    async def _fetch(self, asked: Asked, decision: Fetch) -> None:
        target, slot = decision.target, decision.slot
        await self._live.end_beside()
        self._record.reports.progress = Progress()
        await self._record.save(machine.begun(self._record.state, target, slot, Phase.FETCHING))
        if await self._assignments.unless_changed(target, lambda: self._stage(asked, target, slot)):
            _log.info("model %s: another assignment replaces %s", self._record.model, target.version)
            await self._record.hold(machine.abandoned(self._record.state))
            self.hint()
        elif self._record.state.phase is Phase.STAGED:
            await self._live.take(target, slot, is_proven=False)

    async def _stage(self, asked: Asked, target: Target, slot: str) -> None:
        release = await self._release(asked, target)
        slots, parts = self._record.slots, self._parts
        folders = LocalFolders(slots.root, slots.bundles, slots.folder(slot), lambda: slots.empty(slot))
        staging = Staging(release, folders, parts.source, parts.disk, parts.settings.budget, parts.run)
        await staging.fetch(self._tell_progress)
        await self._record.save(machine.moved(self._record.state, Phase.VERIFYING))
        try:
            bundle = await staging.verify()
        except UpdateRefused as error:
            await self._record.hold(machine.rolled_back(self._record.state, ErrorKind.REFUSED, str(error)))
            return
        installed = installed_of(bundle.manifest, target.release, target.variant)
        await parts.run(lambda: slots.install(staging.folder, slot, installed))
        self._record.tell()

    async def _release(self, asked: Asked, target: Target) -> Release:
        manifest = await self._manifest(asked)
        if not target.gate_digest:
            return Release(manifest)
        async with self._parts.metadata_lock:
            gate = await self._parts.repository.gate(self._record.model, target.gate_digest)
        if sha256(gate) != target.gate_digest:
            raise UpdateRefused("the gate is not the one that the assignment names")
        return Release(with_gate(manifest, gate), gate)

    async def _manifest(self, asked: Asked) -> Manifest:
        """What both the director and the releasing keys vouch for, not below the floor.

        Raises:
            UpdateRefused, FetchFailed: see `TrustedRepository.manifest`.
        """
        if asked.arm is None:
            raise UpdateRefused("the assignment names nothing for this device")
        floored = replace(asked.assignment, floor=self._floor(asked))
        async with self._parts.metadata_lock:
            manifest = await self._parts.repository.manifest(floored, asked.arm)
        if manifest.model != self._record.model:
            raise UpdateRefused(f"the release is of model {manifest.model}, not {self._record.model}")
        return manifest

    def _floor(self, asked: Asked) -> int:
        """The director's, or the highest that was committed here: a stolen director's key cannot lower that one."""
        return max(asked.assignment.floor, self._record.state.floor)

    def _tell_progress(self, progress: Progress) -> None:
        self._record.reports.progress = progress
        self._record.tell()

    def _stuck(self, error: UpdateError) -> None:
        _log.warning("model %s: %s", self._record.model, error)
        self._record.tell(str(error), kind_of(error), self._fetch_failures)

    async def _let_go(self, error: str, kind: ErrorKind) -> None:
        """What was under way is not gone on with; the next look begins from what lies on the disk."""
        state = self._record.state
        if state.candidate is None:
            return
        if state.phase in (Phase.FETCHING, Phase.VERIFYING, Phase.STAGED):
            await self._record.hold(machine.abandoned(state, error, kind))
            return
        try:
            await self._live.give_up(error)
        except TandemError as failure:
            _log.error("model %s: %s", self._record.model, failure)
