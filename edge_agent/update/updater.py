"""All models' updates: each follows its own assignments, and none waits for another."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import anyio

from edge_agent.update.disk import Disk, RealDisk
from edge_agent.update.model_update import ModelUpdate
from edge_agent.update.parts import Record, UpdateParts, UpdateSettings
from edge_agent.update.ports import ModelHost, RepositorySource, TrustedRepository
from edge_agent.update.reports import DeviceFacts, Reports
from edge_agent.update.slots import ModelSlots
from edge_agent.update.staging import RunBlocking
from shared.clock import Clock
from shared.update.report import UpdateReport


class Updater:
    """Keeps the device's models as the director wants them."""

    def __init__(
        self,
        device: DeviceFacts,
        slots: Sequence[ModelSlots],
        repository: TrustedRepository,
        source: RepositorySource,
        host: ModelHost,
        *,
        report: Callable[[UpdateReport], None],
        run_blocking: RunBlocking,
        clock: Clock,
        settings: UpdateSettings = UpdateSettings(),  # noqa: B008 - frozen
        unix_s: Callable[[], float] | None = None,
        uniform: Callable[[], float] = random.random,
        disk: Disk | None = None,
    ) -> None:
        """`slots` have been started already, and their bundles answer.

        `report` is called on the event loop and must not block. `run_blocking` runs one work at a time. `unix_s` is the
        time that may be believed (the clock's where it is None).
        """
        parts = UpdateParts(
            device,
            repository,
            source,
            host,
            disk or RealDisk(),
            run_blocking,
            clock,
            unix_s or clock.unix_s,
            uniform,
            settings,
        )
        self._reports = {
            one.model: Reports(device, one.model, report, clock, settings.progress_interval_s) for one in slots
        }
        self._updates = {one.model: ModelUpdate(Record(one, parts, self._reports[one.model]), parts) for one in slots}

    async def run(self) -> None:
        """Follow the assignments until cancelled."""
        async with anyio.create_task_group() as group:
            for update in self._updates.values():
                group.start_soon(update.run)

    def hint(self, model: str) -> None:
        """There may be something new for `model`; another model's hint says nothing."""
        if (update := self._updates.get(model)) is not None:
            update.hint()

    @property
    def latest_reports(self) -> tuple[UpdateReport, ...]:
        """Each model's newest report, to be published again where the broker forgot it."""
        return tuple(one.latest for one in self._reports.values() if one.latest is not None)
