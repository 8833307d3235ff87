"""A device that updates itself from a fake registry, in a folder of its own; started again after every death."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio

from edge_agent.update.disk import Disk, RealDisk
from edge_agent.update.parts import UpdateSettings
from edge_agent.update.reports import DeviceFacts
from edge_agent.update.slots import ModelSlots
from edge_agent.update.staging import DiskBudget
from edge_agent.update.updater import Updater
from shared.bundle import Bundle, read_bundle
from shared.errors import BundleError
from shared.update.labels import NO_LABELS, Labels
from shared.update.report import Phase, UpdateReport
from tests.support.fake_update_peers import FakeHost, FakeRegistry, FakeRepository, FakeSource, JumpingClock, inline

FACTS = DeviceFacts("device-1", "boot-1", "default", "x86", "1.0")
PATIENCE_S = 60.0


class FakeDevice:
    """One life of an agent: `updates` outlives it, all else does not."""

    def __init__(
        self,
        updates: Path,
        factory: Path,
        registry: FakeRegistry,
        *,
        disk: Disk | None = None,
        budget: DiskBudget | None = None,
        labels: Labels = NO_LABELS,
    ) -> None:
        self.facts = replace(FACTS, labels=dict(labels))
        self.disk = disk or RealDisk()
        self.source = FakeSource(registry)
        self.repository = FakeRepository(registry)
        self.host = FakeHost()
        self.clock = JumpingClock()
        self.reports: list[UpdateReport] = []
        self.slots = ModelSlots(updates, factory, self.disk)
        self._heard: Callable[[UpdateReport], None] = lambda report: None
        self.settings = UpdateSettings(budget=budget or DiskBudget(reserve_bytes=0))

    def boot(self) -> Bundle:
        """Start as the agent does; returns the bundle that answers."""
        start = self.slots.start()
        while True:
            try:
                self.host.boot(start.folder, start.release)
                break
            except BundleError as error:
                start = self.slots.start_again(error)
        self.slots.ready()
        return self.host.running[self.slots.model].bundle

    def updater(self) -> Updater:
        """The real one, among fakes."""
        return Updater(
            self.facts,
            (self.slots,),
            self.repository,
            self.source,
            self.host,
            report=self._hear,
            run_blocking=inline,
            clock=self.clock,
            settings=self.settings,
            uniform=lambda: 0.5,
            disk=self.disk,
        )

    async def update_until(
        self, is_enough: Callable[[UpdateReport], bool], updater: Updater | None = None
    ) -> UpdateReport:
        """Run until a report is as wanted; returns it."""
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:

                def heard(report: UpdateReport) -> None:
                    if is_enough(report):
                        group.cancel_scope.cancel()

                self._heard = heard
                group.start_soon((updater or self.updater()).run)
        return next(report for report in reversed(self.reports) if is_enough(report))

    async def update_to(self, version: str) -> UpdateReport:
        """Run until `version` is committed."""
        return await self.update_until(lambda one: one.phase is Phase.COMMITTED and one.active.version == version)

    def bundle_in(self, slot: str) -> Bundle:
        """The bundle in a slot, every byte verified."""
        return read_bundle(self.slots.folder(slot))

    def _hear(self, report: UpdateReport) -> None:
        self.reports.append(report)
        self._heard(report)
