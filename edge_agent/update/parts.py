"""What all models' updates share, and what is kept of one model's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import anyio

from edge_agent.update import machine
from edge_agent.update.disk import Disk
from edge_agent.update.machine import UpdateState
from edge_agent.update.ports import ModelHost, RepositorySource, TrustedRepository
from edge_agent.update.reports import DeviceFacts, Reports
from edge_agent.update.slots import ModelSlots
from edge_agent.update.staging import DiskBudget, Progress, RunBlocking, T
from shared.backoff import Backoff
from shared.clock import Clock
from shared.errors import FetchFailed, NoRoom, ProvingFailed, TandemError, TrialFailed, UpdateRefused
from shared.update.assignment import Assignment
from shared.update.report import ErrorKind, TrialFigures

_KINDS = {
    UpdateRefused: ErrorKind.REFUSED,
    FetchFailed: ErrorKind.FETCH,
    NoRoom: ErrorKind.NO_ROOM,
    ProvingFailed: ErrorKind.PROVING,
    TrialFailed: ErrorKind.TRIAL,
}


@dataclass(frozen=True)
class UpdateSettings:
    """`interval_s`: between two looks at the repository that nobody asked for, give or take half.

    A hint is followed after up to `hint_spread_s`, so that a fleet does not come at once.
    """

    interval_s: float = 300.0
    hint_spread_s: float = 1.0
    progress_interval_s: float = 1.0
    backoff: Backoff = field(default_factory=lambda: Backoff(1.0, 60.0))
    budget: DiskBudget = field(default_factory=DiskBudget)


@dataclass(frozen=True)
class UpdateParts:
    """What the updates of all models work with. `unix_s`: the time that may be believed; `uniform`: in [0, 1)."""

    device: DeviceFacts
    repository: TrustedRepository
    source: RepositorySource
    host: ModelHost
    disk: Disk
    run_blocking: RunBlocking
    clock: Clock
    unix_s: Callable[[], float]
    uniform: Callable[[], float]
    settings: UpdateSettings
    metadata_lock: anyio.Lock = field(default_factory=anyio.Lock)

    async def run(self, work: Callable[[], T]) -> T:
        """Do blocking `work` to its end, even if the caller is cancelled: nothing is saved behind its back."""
        done: list[T] = []
        with anyio.CancelScope(shield=True):
            done.append(await self.run_blocking(work))
        return done[0]


class Record:
    """One model's slots and state, saved and reported at each step."""

    def __init__(self, slots: ModelSlots, parts: UpdateParts, reports: Reports) -> None:
        self.slots = slots
        self.reports = reports
        self._parts = parts

    @property
    def model(self) -> str:
        """The model's name."""
        return self.slots.model

    @property
    def state(self) -> UpdateState:
        """The newest."""
        return self.slots.state

    async def see(self, assignment: Assignment) -> None:
        """`assignment` is obeyed or refused from now on; what was measured under another one is not reported with it.

        Raises:
            UpdateError: see `save`.
        """
        state = machine.seen(self.state, assignment)
        if state.rollout != self.state.rollout:
            self.reports.figures = TrialFigures()
        if state != self.state:
            self.reports.progress = Progress()
        await self.save(state)

    async def save(self, state: UpdateState) -> None:
        """Save `state` and report it.

        Raises:
            UpdateError: it was not saved; the one before stands.
        """
        if state != self.state:
            await self._parts.run(lambda: self.slots.save(state))
        self.tell()

    async def hold(self, state: UpdateState) -> None:
        """As `save`, for what is so whether it can be saved or not."""
        await self._parts.run(lambda: self.slots.hold(state))
        self.tell()

    def tell(self, error: str = "", kind: ErrorKind = ErrorKind.NONE, attempts: int = 0) -> None:
        """Report the state; `error` is what stands in the way now."""
        self.reports.tell(self.state, self._parts.host.active(self.model), error, kind, attempts)


def kind_of(error: TandemError) -> ErrorKind:
    """How `error` is reported."""
    return next((kind for of, kind in _KINDS.items() if isinstance(error, of)), ErrorKind.REFUSED)
