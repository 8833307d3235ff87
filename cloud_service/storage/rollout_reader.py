"""Rollouts as pages and commands read them, and what telemetry says of a release. Blocking: from a worker thread."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Engine, func, select

from cloud_service.fleet.buckets import DAY_S, FINE_S, HOUR_S, MINUTE_S, WHOLE_FLEET
from cloud_service.fleet.tally import SparseHistogram
from cloud_service.rollout.plan import Release
from cloud_service.rollout.records import (
    DeviceFailure,
    FieldFigures,
    FieldSide,
    Rollout,
    RolloutCounts,
    RolloutState,
)
from cloud_service.rollout.ring_order import RingOrder
from cloud_service.rollout.telling import NEW_VARIANT, OLD_VARIANT
from cloud_service.storage import tables
from cloud_service.storage.offload_sums import merged_latency
from cloud_service.storage.read_only_store import ReadOnlyStore
from cloud_service.storage.rollout_rows import failure_of, order_of, report_of, rollout_of
from cloud_service.storage.rollout_tables import (
    device_orders,
    device_updates,
    ring_orders,
    rollout_failures,
    rollout_stages,
    rollouts,
)
from shared.histogram import quantile_ms
from shared.update.report import ErrorKind, UpdateReport

_FINE_UNTIL_S = 1800
_BEFORE_S = 3600
_LONGEST_S = 6 * 3600
_COUNTS = tables.counts.c


@dataclass(frozen=True)
class RingShare:
    """How many devices of a ring run one release with one gate, as they last said. `release` 0: it came with them."""

    ring: str
    version: str
    release: int
    gate_digest: str
    devices: int


class RolloutReader:
    """Reads only, from any process; a store that is not set up holds no rollouts."""

    def __init__(self, engine: Engine) -> None:
        self._store = ReadOnlyStore(engine)

    def rollouts(self, *, limit: int = 50, model: str = "") -> list[Rollout]:
        """The newest rollouts, newest first; of all models, or of one.

        Raises:
            StorageError: the store cannot be read.
            RolloutError: a newer Tandem wrote one of them.
        """
        columns = rollouts.c
        query = select(rollouts).order_by(columns.created_s.desc(), columns.id).limit(limit)
        if model:
            query = query.where(columns.model == model)
        with self._store.look() as connection:
            if connection is None:
                return []
            rows = connection.execute(query).mappings().all()
            stages = rollout_stages.c
            found = select(rollout_stages).where(stages.rollout_id.in_([row["id"] for row in rows]))
            told = connection.execute(found.order_by(stages.position)).mappings().all()
        return [rollout_of(row, [each for each in told if each["rollout_id"] == row["id"]]) for row in rows]

    def rollout(self, rollout_id: str) -> Rollout | None:
        """One rollout.

        Raises:
            StorageError, RolloutError: see `rollouts`.
        """
        with self._store.look() as connection:
            if connection is None:
                return None
            row = connection.execute(select(rollouts).where(rollouts.c.id == rollout_id)).mappings().first()
            query = select(rollout_stages).where(rollout_stages.c.rollout_id == rollout_id)
            stages = connection.execute(query.order_by(rollout_stages.c.position)).mappings().all()
        return None if row is None else rollout_of(row, stages)

    def orders(self, model: str = "") -> list[RingOrder]:
        """What each ring is to run, by ring; of all models, or of one.

        Raises:
            StorageError: the store cannot be read.
        """
        query = select(ring_orders).order_by(ring_orders.c.model, ring_orders.c.ring)
        if model:
            query = query.where(ring_orders.c.model == model)
        with self._store.look() as connection:
            return [order_of(row) for row in connection.execute(query).mappings()] if connection else []

    def ring_shares(self, model: str) -> list[RingShare]:
        """What the devices of each ring run of a model.

        Raises:
            StorageError: the store cannot be read.
        """
        columns = device_updates.c
        told = (columns.ring, columns.active_version, columns.active_release, columns.active_gate_digest)
        query = select(*told, func.count()).where(columns.model == model).group_by(*told).order_by(*told)
        with self._store.look() as connection:
            return [RingShare(*row) for row in connection.execute(query)] if connection else []

    def models(self) -> list[str]:
        """The models whose updates devices have told of, by name.

        Raises:
            StorageError: the store cannot be read.
        """
        query = select(device_updates.c.model).distinct().order_by(device_updates.c.model)
        with self._store.look() as connection:
            return list(connection.execute(query).scalars()) if connection else []

    def counts(self) -> RolloutCounts:
        """How many rollouts, devices and orders stand where.

        Raises:
            StorageError: the store cannot be read.
        """
        states, phases = (rollouts.c.model, rollouts.c.state), (device_updates.c.model, device_updates.c.phase)
        with self._store.look() as connection:
            if connection is None:
                return RolloutCounts({}, {}, 0)
            by_state = connection.execute(select(*states, func.count()).group_by(*states)).all()
            by_phase = connection.execute(select(*phases, func.count()).group_by(*phases)).all()
            unsigned = [
                connection.execute(select(func.count()).where(table.c.signed_s.is_(None))).scalar() or 0
                for table in (ring_orders, device_orders)
            ]
            return RolloutCounts(
                {(model, RolloutState(state)): count for model, state, count in by_state},
                {(model, phase): count for model, phase, count in by_phase},
                sum(unsigned),
            )

    def failures(self, rollout_id: str, *, limit: int = 100, offset: int = 0) -> list[DeviceFailure]:
        """The devices that could not take a rollout's release, the last heard first.

        Raises:
            StorageError: the store cannot be read.
        """
        columns = rollout_failures.c
        query = select(rollout_failures).where(columns.rollout_id == rollout_id)
        query = query.order_by(columns.heard_s.desc(), columns.device_id).limit(limit).offset(offset)
        with self._store.look() as connection:
            return [failure_of(row) for row in connection.execute(query).mappings()] if connection else []

    def failure_counts(self, rollout_id: str) -> dict[str, dict[ErrorKind, int]]:
        """By ring and kind: how many devices could not take a rollout's release, by the last reason of each.

        Raises:
            StorageError: the store cannot be read.
        """
        columns = rollout_failures.c
        query = select(columns.ring, columns.error_kind, func.count()).where(columns.rollout_id == rollout_id)
        found: dict[str, dict[ErrorKind, int]] = {}
        with self._store.look() as connection:
            rows = connection.execute(query.group_by(columns.ring, columns.error_kind)).all() if connection else []
        for ring, kind, devices in rows:
            found.setdefault(ring, {})[ErrorKind(kind)] = devices
        return found

    def report(self, device_id: str, model: str) -> UpdateReport | None:
        """A device's newest word on a model's updates.

        Raises:
            StorageError: the store cannot be read.
        """
        columns = device_updates.c
        query = select(device_updates).where(columns.device_id == device_id, columns.model == model)
        with self._store.look() as connection:
            row = connection.execute(query).mappings().first() if connection else None
        return None if row is None else report_of(row)

    def field_figures(
        self, model: str, ring: str, release: Release, before: Release | None, opened_s: int, now_s: int
    ) -> FieldFigures:
        """What telemetry counted in a ring of the release since its stage was opened, and of what ran there before.

        Telemetry tells versions apart, not gates: where both sides have one version, before and after are compared.
        The other side is counted from an hour before the opening on, neither for more than six hours.

        Raises:
            StorageError: the store cannot be read.
        """
        is_one_version = before is not None and before.version == release.version
        since_s = max(opened_s, now_s - _LONGEST_S)
        width_s = FINE_S if now_s - since_s < _FINE_UNTIL_S else MINUTE_S
        new_since_s = -(-since_s // width_s) * width_s if is_one_version else since_s - since_s % width_s
        place = [_COUNTS.device_id == WHOLE_FLEET, _COUNTS.model == model, _COUNTS.ring == ring]
        is_new = [*place, _COUNTS.model_version == release.version]
        is_old = [
            *place,
            _COUNTS.model_version == before.version if before else _COUNTS.model_version != release.version,
        ]
        old_since_s = max(opened_s - _BEFORE_S, now_s - _LONGEST_S - _BEFORE_S)
        old_until_s = opened_s if is_one_version else now_s
        with self._store.look() as connection:
            if connection is None:
                return FieldFigures()
            new = _side(connection, [*is_new, _COUNTS.width_s == width_s, _COUNTS.starts_s >= new_since_s])
            stretch = [_COUNTS.starts_s >= old_since_s, _COUNTS.starts_s <= old_until_s - MINUTE_S]
            old = _side(connection, [*is_old, _COUNTS.width_s == MINUTE_S, *stretch])
        return FieldFigures(new, old)

    def arm_figures(
        self, model: str, ring: str, new: Release, old: Release, opened_s: int, now_s: int, *, by_key: bool = False
    ) -> FieldFigures:
        """What telemetry counted of both arms of an A/B test since it was opened: by minutes for a day, then by hours.

        Arms of one version are told apart by their variants; where requests are split `by_key`, the old one is all
        that is not the new one's.

        Raises:
            StorageError: the store cannot be read.
        """
        width_s = MINUTE_S if now_s - opened_s < DAY_S else HOUR_S
        place = [_COUNTS.device_id == WHOLE_FLEET, _COUNTS.model == model, _COUNTS.ring == ring]
        place += [_COUNTS.width_s == width_s, _COUNTS.starts_s >= -(-opened_s // width_s) * width_s]
        sides = []
        with self._store.look() as connection:
            is_new = _COUNTS.variant == NEW_VARIANT
            is_old = ~is_new if by_key else _COUNTS.variant == OLD_VARIANT
            for release, variant in ((new, is_new), (old, is_old)):
                arm = [*place, _COUNTS.model_version == release.version]
                if new.version == old.version:
                    arm.append(variant)
                sides.append(_side(connection, arm) if connection else FieldSide())
        return FieldFigures(*sides)


def _side(connection: Connection, conditions: list[ColumnElement[bool]]) -> FieldSide:
    told = [_COUNTS.accepted, _COUNTS.wanted, _COUNTS.audit_agreed, _COUNTS.audit_disagreed, _COUNTS.latency]
    rows = connection.execute(select(*told).where(*conditions)).all()
    if not rows:
        return FieldSide()
    accepted, wanted, agreed, disagreed = (sum(row[place] for row in rows) for place in range(4))
    latency: SparseHistogram = merged_latency(row.latency for row in rows)
    return FieldSide(accepted, wanted, quantile_ms(latency.dense(), 0.5), agreed + disagreed, disagreed)
