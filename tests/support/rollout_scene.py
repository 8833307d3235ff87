"""A store as the rollout service would have written it, for tests of what is shown and ordered."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sqlalchemy import Engine, insert

from cloud_service.fleet.buckets import FINE_S, MINUTE_S
from cloud_service.fleet.tally import SparseHistogram, Tally
from cloud_service.rollout.counting import stage_figures
from cloud_service.rollout.engine import advance
from cloud_service.rollout.log_entries import SERVICE, EntryMaker
from cloud_service.rollout.orders import start
from cloud_service.rollout.plan import Plan
from cloud_service.rollout.records import FieldFigures, Rollout, Seen, Step
from cloud_service.storage import tables
from cloud_service.storage.encoding import encode_tally
from cloud_service.storage.rollout_reader import RolloutReader
from cloud_service.storage.rollout_store import RolloutStore
from shared.types import AuditCounts, RequestCounters
from shared.update.report import UpdateReport
from tests.support.rollout_parts import MODEL


class RolloutScene:
    """Takes rollouts on by the real rules. `now_s` is the moment at which it ends."""

    def __init__(self, writing: Engine, now_s: int) -> None:
        self.now_s = now_s
        self.store = RolloutStore(writing)
        self.reader = RolloutReader(writing)
        self._engine = writing
        self._entries = EntryMaker(SERVICE, now_s * 1000)

    def begin(self, rollout_id: str, plan: Plan, *, by: str = "anna", ago_s: int = 0) -> None:
        self.store.add(start(rollout_id, plan, by, self.now_s - ago_s), self._entries)

    def turn(self, rollout_id: str, *, ago_s: int = 0, field: FieldFigures | None = None) -> Rollout:
        """One step, by the newest reports; `field`: what telemetry shows in every ring."""
        reports = self.store.load_reports()

        def rule(rollout: Rollout) -> Step:
            shown = dict.fromkeys(rollout.plan.rings, field or FieldFigures())
            return advance(rollout, Seen(stage_figures(rollout, reports), shown), self.now_s - ago_s)

        return self.change(rollout_id, rule)

    def change(self, rollout_id: str, rule: Callable[[Rollout], Step]) -> Rollout:
        """Any other step."""
        return self.store.change(rollout_id, rule, self._entries).rollout

    def sign(self) -> None:
        """As the director does."""
        for order in self.store.orders(unsigned=True):
            self.store.mark_signed(order, self.now_s)

    def hear(self, reports: Iterable[UpdateReport], *, ago_s: int = 0) -> None:
        self.store.save_reports((report, self.now_s - ago_s) for report in reports)

    def count(self, version: str, minutes: range, *, ring: str = "canary", variant: str = "", wrong: int = 1) -> None:
        """In each of these minutes before the end 100 requests, 30 audits, `wrong` of them with a wrong answer."""
        tally = Tally(
            RequestCounters(received=100, accepted=100, edge=80, cloud=20, wanted=20),
            {"edge": SparseHistogram({10: 100}, 500.0)},
            {},
            AuditCounts(chosen=30, agreed=30 - wrong, disagreed=wrong),
        )
        first_s = self.now_s - self.now_s % 60
        row = {"device_id": "", "model": MODEL, "model_version": version, "ring": ring, "variant": variant}
        with self._engine.begin() as connection:
            for minute in minutes:
                for width_s in (FINE_S, MINUTE_S):
                    key = {**row, "width_s": width_s, "starts_s": first_s - 60 * minute}
                    connection.execute(insert(tables.counts).values({**key, **encode_tally(tally)}))
