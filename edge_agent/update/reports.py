"""What a device says of one model's updates, and how often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from edge_agent.update.machine import UpdateState
from edge_agent.update.staging import Progress
from shared.clock import Clock
from shared.update.labels import Labels
from shared.update.report import ErrorKind, InstalledRelease, Phase, TrialFigures, UpdateReport


@dataclass(frozen=True)
class DeviceFacts:
    """Who reports. `hardware`: what kind of device it is; `boot_id`: of this life of the agent; `labels`: its own."""

    device_id: str
    boot_id: str
    ring: str
    hardware: str
    agent_version: str
    labels: Labels = field(default_factory=dict)


class Reports:
    """One model's reports: each change at once, progress within a phase once in `interval_s` at most."""

    def __init__(
        self, device: DeviceFacts, model: str, send: Callable[[UpdateReport], None], clock: Clock, interval_s: float
    ) -> None:
        self._device = device
        self._model = model
        self._send = send
        self._clock = clock
        self._interval_s = interval_s
        self._sequence = 0
        self._last_s = -interval_s
        self._last_told: tuple[object, ...] = ()
        self.latest: UpdateReport | None = None
        self.progress = Progress()
        self.figures = TrialFigures()

    def tell(
        self,
        state: UpdateState,
        active: InstalledRelease,
        error: str = "",
        kind: ErrorKind = ErrorKind.NONE,
        attempts: int = 0,
    ) -> None:
        """Report `state`; `error` is what stands in the way now, where the state itself knows of nothing."""
        error, kind = (error, kind) if error else (state.error, state.error_kind)
        told = (state.phase, state.sequence, state.rollout, state.candidate, active, error, attempts)
        now_s = self._clock.monotonic_s()
        if told == self._last_told and now_s - self._last_s < self._interval_s:
            return
        self._last_told, self._last_s = told, now_s
        self._sequence += 1
        self.latest = self._report(state, active, error, kind, attempts)
        self._send(self.latest)

    def _report(
        self, state: UpdateState, active: InstalledRelease, error: str, kind: ErrorKind, attempts: int
    ) -> UpdateReport:
        device, progress = self._device, self.progress
        return UpdateReport(
            device_id=device.device_id,
            boot_id=device.boot_id,
            sequence=self._sequence,
            sent_at_unix_ms=round(self._clock.unix_s() * 1000),
            model=self._model,
            ring=device.ring,
            hardware=device.hardware,
            agent_version=device.agent_version,
            phase=state.phase,
            slot=state.running_slot,
            active=active,
            candidate=_candidate(state),
            rollout=state.rollout,
            assignment_sequence=state.sequence,
            bytes_done=progress.bytes_done,
            bytes_to_fetch=progress.bytes_to_fetch,
            bytes_fetched=progress.bytes_fetched,
            error=error,
            error_kind=kind,
            attempts=attempts,
            trial=self.figures,
            crashes=state.crashes,
            labels=device.labels,
        )


def _candidate(state: UpdateState) -> InstalledRelease | None:
    """What is on its way, or was rolled back from, so that it can be counted against its release."""
    if state.candidate is None:
        is_back = state.phase is Phase.ROLLED_BACK and state.failures
        return state.failures[-1].release if is_back else None
    target, place = state.candidate.target, state.slots.get(state.candidate.slot)
    is_there = place is not None and place.content == target.content
    return target.as_release(place.release.model_digest if place is not None and is_there else "")
