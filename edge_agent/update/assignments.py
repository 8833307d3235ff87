"""What one model is to be, looked up when there is a hint and now and then, and watched while an update goes on."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio

from edge_agent.update.machine import Target, target_of
from edge_agent.update.parts import UpdateParts
from shared.errors import TandemError, UpdateError
from shared.update.assignment import Arm, Assignment

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """The newest assignment, and this device's arm of it, if it has one."""

    assignment: Assignment
    arm: Arm | None

    @property
    def target(self) -> Target | None:
        """What it asks of this device."""
        return target_of(self.assignment, self.arm) if self.arm is not None else None


class Assignments:
    """One model's assignments. Only one task may wait or watch at a time."""

    def __init__(self, model: str, parts: UpdateParts) -> None:
        self._model = model
        self._parts = parts
        self._hinted = anyio.Event()
        self._owes_a_look = False

    def hint(self) -> None:
        """There may be something new."""
        self._hinted.set()

    async def newest(self) -> Asked | None:
        """What signed metadata say now; None where nothing is assigned.

        Raises:
            UpdateRefused, FetchFailed: see `TrustedRepository`.
        """
        device, repository = self._parts.device, self._parts.repository
        async with self._parts.metadata_lock:
            await repository.refresh()
            assignment = await repository.assignment(device.ring, self._model)
        self._owes_a_look = False
        return None if assignment is None else Asked(assignment, assignment.arm_of(device.device_id, device.labels))

    async def wait(self, seconds: float) -> None:
        """Until there is a hint, `seconds` at most."""
        async with anyio.create_task_group() as group:

            async def until_hinted() -> None:
                await self._hinted.wait()
                group.cancel_scope.cancel()

            group.start_soon(until_hinted)
            await self._parts.clock.sleep(seconds)
            group.cancel_scope.cancel()
        if self._hinted.is_set():
            self._hinted, self._owes_a_look = anyio.Event(), True
            await self._parts.clock.sleep(self._parts.uniform() * self._parts.settings.hint_spread_s)

    async def unless_changed(self, target: Target, work: Callable[[], Awaitable[None]]) -> bool:
        """Do `work`, but let go of it where another assignment than `target` comes; returns whether one came.

        Raises:
            TandemError: as `work` does.
        """
        failed: TandemError | None = None
        is_changed = False
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                nonlocal is_changed
                await self._until_changed(target)
                is_changed = True
                group.cancel_scope.cancel()

            group.start_soon(watch)
            try:
                await work()
            except TandemError as error:
                failed = error
            group.cancel_scope.cancel()
        if self._owes_a_look:
            self.hint()
        if failed is not None:
            raise failed
        return is_changed

    def interval_s(self) -> float:
        """Until the next look that nobody asked for."""
        return self._parts.settings.interval_s * (0.5 + self._parts.uniform())

    async def _until_changed(self, target: Target) -> None:
        failures = 0
        while True:
            backoff, uniform = self._parts.settings.backoff, self._parts.uniform
            await self.wait(backoff.delay_s(failures, uniform) if failures else self.interval_s())
            try:
                asked = await self.newest()
            except UpdateError as error:
                failures += 1
                _log.info("model %s: whether the assignment changed is not known: %s", self._model, error)
                continue
            failures = 0
            if not target.asks_the_same(asked.target if asked else None):
                return
            # Whoever waits next looks at once and reports that this decision is obeyed too.
            self._owes_a_look = asked is not None and asked.assignment.sequence != target.sequence
