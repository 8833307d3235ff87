"""Takes every rollout that has not ended to its next step, by what devices and telemetry say. Blocking."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

from cloud_service.rollout.counting import stage_figures
from cloud_service.rollout.engine import advance
from cloud_service.rollout.inbox import Heard, Key, newer_of
from cloud_service.rollout.log_entries import SERVICE, EntryMaker
from cloud_service.rollout.ports import FieldSource
from cloud_service.rollout.records import FieldFigures, Rollout, Seen, Step
from cloud_service.storage.rollout_pins import PinStore
from cloud_service.storage.rollout_store import RolloutStore
from shared.clock import Clock
from shared.errors import RolloutError
from shared.update.report import UpdateReport

_log = logging.getLogger(__name__)
_JUMP_S = 60.0


class Conductor:
    """Holds the newest report of each device and model; all else is in the store."""

    def __init__(self, store: RolloutStore, pins: PinStore, field: FieldSource, clock: Clock) -> None:
        self._store = store
        self._pins = pins
        self._field = field
        self._clock = clock
        self._reports: dict[Key, Heard] | None = None
        self._offset_s = clock.unix_s() - clock.monotonic_s()

    def hear(self, heard: Sequence[Heard]) -> None:
        """Write down what devices said.

        Raises:
            StorageError: the store cannot be written.
        """
        known = self._known()
        newest = [newer_of(known.get((each.report.device_id, each.report.model)), each) for each in heard]
        self._store.save_reports((each.report, each.heard_s) for each in newest)
        known.update({(each.report.device_id, each.report.model): each for each in newest})

    def advance(self, heard_for_s: float = math.inf) -> list[Step]:
        """One step of each rollout that has one to do. One that cannot be followed holds up no other.

        `heard_for_s`: see `Seen`.

        Raises:
            StorageError: the store cannot be used.
        """
        now_s = int(self._clock.unix_s())
        entries = EntryMaker(SERVICE, int(self._clock.unix_s() * 1000))
        reports = [each.report for each in self._known().values()]
        has_jumped = self._has_jumped()
        steps = []
        for rollout in self._store.active():
            try:
                field = self._field_of(rollout, now_s)
                pinned = self._pins.pinned(rollout.plan.model)
                rule = partial(_step, reports, pinned, Seen((), field, heard_for_s, has_jumped), now_s)
                if rule(rollout).rollout != rollout:
                    steps.append(self._store.change(rollout.id, rule, entries))
            except RolloutError as error:
                _log.warning("rollout %s cannot go on: %s", rollout.id, error)
        return steps

    def _field_of(self, rollout: Rollout, now_s: int) -> dict[str, FieldFigures]:
        """Of each ring since its devices first answered with the release."""
        plan, since = rollout.plan, dict[str, int]()
        for stage, progress in zip(plan.stages, rollout.stages, strict=True):
            if progress.state.is_reached and not stage.shadow_share:
                since.setdefault(stage.ring, progress.opened_s)
        return {ring: self._ring_field(rollout, ring, opened_s, now_s) for ring, opened_s in since.items()}

    def _ring_field(self, rollout: Rollout, ring: str, opened_s: int, now_s: int) -> FieldFigures:
        plan, before = rollout.plan, rollout.plan.fallback(ring)
        if plan.comparison and before and rollout.current == 0:
            arms = plan.release, before
            return self._field.arm_figures(plan.model, ring, *arms, opened_s, now_s, by_key=plan.splits_requests)
        return self._field.field_figures(plan.model, ring, plan.release, before, opened_s, now_s)

    def _has_jumped(self) -> bool:
        """Times that are in the store say little then."""
        before_s, self._offset_s = self._offset_s, self._clock.unix_s() - self._clock.monotonic_s()
        return abs(self._offset_s - before_s) > _JUMP_S

    def _known(self) -> dict[Key, Heard]:
        if self._reports is None:
            # a device's boot may have ended since: whatever it says now is newer
            loaded = (Heard(replace(report, sequence=0), 0) for report in self._store.load_reports())
            self._reports = {(each.report.device_id, each.report.model): each for each in loaded}
        return self._reports


def _step(reports: Sequence[UpdateReport], pinned: Collection[str], seen: Seen, now_s: int, rollout: Rollout) -> Step:
    return advance(rollout, replace(seen, figures=stage_figures(rollout, reports, pinned)), now_s)
