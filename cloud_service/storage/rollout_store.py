"""Rollouts in the store, as they are written. Blocking: call from a worker thread.

A decision, the orders that follow from it and its entry in the log of actions are one transaction: there are all or
none. The orders then wait there until the director has signed them, through any crash.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection, Engine, RowMapping, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from cloud_service.access.action_log import Entry
from cloud_service.rollout.records import TELLS_A_RING, Decision, Rollout, RolloutState, Step
from cloud_service.rollout.ring_order import RingOrder
from cloud_service.rollout.telling import assignment_for
from cloud_service.storage.action_store import append
from cloud_service.storage.read_only_store import is_missing
from cloud_service.storage.rollout_rows import (
    failure_row,
    order_of,
    order_row,
    report_of,
    report_row,
    rollout_of,
    rollout_row,
    stage_rows,
)
from cloud_service.storage.rollout_tables import (
    device_updates,
    ring_orders,
    rollout_claims,
    rollout_failures,
    rollout_stages,
    rollouts,
)
from cloud_service.storage.schema import is_current
from cloud_service.storage.transactions import transaction
from cloud_service.storage.upserting import upsert
from shared.errors import RolloutError, StorageError
from shared.update.report import ErrorKind, UpdateReport

_log = logging.getLogger(__name__)
_Read = TypeVar("_Read")
EntryOf = Callable[[Rollout, Decision], Entry]
"""Makes a decision's entry in the log of actions."""
_PRUNED_AT_ONCE = 500
_ACTIVE = [state.value for state in RolloutState if state.is_active]


class RolloutStore:
    """Several may write: the rollout service and whoever gives orders. `engine`: of `open_durable_engine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def is_ready(self) -> bool:
        """Whether the store has been set up.

        Raises:
            StorageError: the store cannot be reached.
        """
        if is_missing(self._engine):
            return False
        with transaction(self._engine) as connection:
            return is_current(connection)

    def save_reports(self, heard: Iterable[tuple[UpdateReport, int]]) -> None:
        """Remember these reports, each with when it was heard (s), in the place of the devices' earlier ones.

        Why a device could not take a release stays beside, for the rollouts that there are.

        Raises:
            StorageError: the store cannot be written.
        """
        told = list(heard)
        failed = [(report, heard_s) for report, heard_s in told if report.error_kind is not ErrorKind.NONE]
        with transaction(self._engine) as connection:
            upsert(connection, device_updates, [report_row(*each) for each in told])
            known = _known_ids(connection, {report.rollout for report, _ in failed})
            upsert(connection, rollout_failures, [failure_row(*each) for each in failed if each[0].rollout in known])

    def load_reports(self) -> list[UpdateReport]:
        """The newest report of each device and model; what a newer Tandem wrote is left out.

        Raises:
            StorageError: the store cannot be read.
        """
        with transaction(self._engine) as connection:
            return list(_readable(connection.execute(select(device_updates)).mappings(), report_of))

    def active(self) -> list[Rollout]:
        """The rollouts that have not ended, oldest first; one that a newer Tandem wrote is left out.

        Raises:
            StorageError: the store cannot be read.
        """
        query = select(rollouts).where(rollouts.c.state.in_(_ACTIVE)).order_by(rollouts.c.created_s, rollouts.c.id)
        with transaction(self._engine) as connection:
            rows = connection.execute(query).mappings().all()
            return list(_readable(rows, partial(_whole, connection)))

    def add(self, step: Step, entry_of: EntryOf) -> None:
        """Begin a rollout.

        Raises:
            RolloutError: one of its rings has another rollout of this model under way.
            StorageError: the store cannot be written.
        """
        rollout = step.rollout
        try:
            with transaction(self._engine) as connection:
                _claim(connection, rollout)
                connection.execute(insert(rollouts).values(rollout_row(rollout)))
                _write(connection, step, entry_of)
        except Exception as error:
            if isinstance(error.__cause__, IntegrityError):
                raise RolloutError("another rollout began in one of its rings at this moment") from error
            raise

    def change(self, rollout_id: str, rule: Callable[[Rollout], Step], entry_of: EntryOf) -> Step:
        """Let `rule` take the rollout, as it is now, to its next step; nobody else changes it meanwhile.

        Raises:
            RolloutError: there is no such rollout, `rule` refuses, or a ring has been told something else since.
            StorageError: the store cannot be written.
        """
        query = select(rollouts).where(rollouts.c.id == rollout_id).with_for_update()
        with transaction(self._engine) as connection:
            row = connection.execute(query).mappings().first()
            if row is None:
                raise RolloutError(f"there is no rollout {rollout_id}")
            before = _whole(connection, row)
            step = rule(before)
            if step.rollout == before and not step.decisions:
                return step
            if not before.state.is_active:
                _require_still_ours(connection, step)
            changed = update(rollouts).where(rollouts.c.id == rollout_id).values(rollout_row(step.rollout))
            connection.execute(changed)
            _write(connection, step, entry_of)
        return step

    def orders(self, *, unsigned: bool = False) -> list[RingOrder]:
        """Every ring's newest order; `unsigned`: those alone that the director has not signed yet.

        Raises:
            StorageError: the store cannot be read.
        """
        query = select(ring_orders).order_by(ring_orders.c.decided_s, ring_orders.c.ring, ring_orders.c.model)
        if unsigned:
            query = query.where(ring_orders.c.signed_s.is_(None))
        with transaction(self._engine) as connection:
            return [order_of(row) for row in connection.execute(query).mappings()]

    def mark_signed(self, order: RingOrder, now_s: int) -> None:
        """The director has signed this very order; a newer one still waits.

        Raises:
            StorageError: the store cannot be written.
        """
        columns = ring_orders.c
        same = (columns.ring == order.ring) & (columns.model == order.model) & (columns.sequence == order.sequence)
        with transaction(self._engine) as connection:
            connection.execute(update(ring_orders).where(same).values(signed_s=now_s))

    def renumber(self, order: RingOrder, sequence: int) -> RingOrder | None:
        """Give this very order another sequence, above one that the store does not know; None where a newer one waits.

        Raises:
            StorageError: the store cannot be written.
        """
        columns = ring_orders.c
        same = (columns.ring == order.ring) & (columns.model == order.model) & (columns.sequence == order.sequence)
        assignment = order.assignment and replace(order.assignment, sequence=sequence)
        changed = replace(order, sequence=sequence, assignment=assignment)
        with transaction(self._engine) as connection:
            done = connection.execute(update(ring_orders).where(same).values(order_row(changed)))
        return changed if done.rowcount else None

    def prune(self, kept_since_s: int) -> int:
        """Forget rollouts that ended before, but none by which a ring still runs, and devices not heard of since.

        Returns how many rollouts were forgotten. Raises:
            StorageError: the store cannot be written.
        """
        ended = (rollouts.c.state.not_in(_ACTIVE)) & (rollouts.c.updated_s < kept_since_s)
        in_use = select(ring_orders.c.rollout_id)
        with transaction(self._engine) as connection:
            found = connection.execute(select(rollouts.c.id).where(ended, rollouts.c.id.not_in(in_use))).scalars()
            leaving = list(found.all())[:_PRUNED_AT_ONCE]
            for ids in (rollout_failures.c.rollout_id, rollout_stages.c.rollout_id, rollouts.c.id):
                connection.execute(delete(ids.table).where(ids.in_(leaving)))
            connection.execute(delete(device_updates).where(device_updates.c.heard_s < kept_since_s))
        return len(leaving)

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()


def _readable(rows: Iterable[RowMapping], read: Callable[[RowMapping], _Read]) -> Iterator[_Read]:
    """One that cannot be read holds up no other."""
    for row in rows:
        try:
            yield read(row)
        except (StorageError, RolloutError) as error:
            _log.warning("left out: %s", error)


def _known_ids(connection: Connection, rollout_ids: set[str]) -> set[str]:
    if not rollout_ids:
        return set()
    return set(connection.execute(select(rollouts.c.id).where(rollouts.c.id.in_(rollout_ids))).scalars())


def _whole(connection: Connection, row: RowMapping) -> Rollout:
    query = select(rollout_stages).where(rollout_stages.c.rollout_id == row["id"]).order_by(rollout_stages.c.position)
    return rollout_of(row, connection.execute(query).mappings().all())


def _claim(connection: Connection, rollout: Rollout) -> None:
    columns = rollout_claims.c
    rings = rollout.plan.rings
    taken = select(rollout_claims).where(columns.model == rollout.plan.model, columns.ring.in_(rings))
    claim = connection.execute(taken).mappings().first()
    if claim is not None:
        raise RolloutError(
            f"ring {claim['ring']} has rollout {claim['rollout_id']} of {claim['model']} under way: "
            "wait for its end, promote or abort it"
        )
    rows = [{"ring": ring, "model": rollout.plan.model, "rollout_id": rollout.id} for ring in rings]
    connection.execute(insert(rollout_claims), rows)


def _write(connection: Connection, step: Step, entry_of: EntryOf) -> None:
    rollout = step.rollout
    upsert(connection, rollout_stages, stage_rows(rollout))
    for decision in step.decisions:
        if decision.kind in TELLS_A_RING:
            _order(connection, rollout, decision.ring)
        append(connection, entry_of(rollout, decision))
    if not rollout.state.is_active:
        connection.execute(delete(rollout_claims).where(rollout_claims.c.rollout_id == rollout.id))


def _order(connection: Connection, rollout: Rollout, ring: str) -> None:
    """Sequences follow the clock, so that they grow even if the store was lost and begun anew."""
    columns = ring_orders.c
    query = select(columns.sequence).where(columns.ring == ring, columns.model == rollout.plan.model)
    before = connection.execute(query).scalar() or 0
    sequence = max(before + 1, rollout.updated_s)
    assignment = assignment_for(rollout, ring, sequence)
    order = RingOrder(ring, rollout.plan.model, rollout.id, sequence, assignment, rollout.updated_s)
    upsert(connection, ring_orders, [order_row(order)])


def _require_still_ours(connection: Connection, step: Step) -> None:
    """A rollout that has ended may not take back what another one has told a ring since, or is about to."""
    rings = [decision.ring for decision in step.decisions if decision.kind in TELLS_A_RING]
    for table in (ring_orders, rollout_claims):
        columns = table.c
        is_other = (columns.model == step.rollout.plan.model) & (columns.rollout_id != step.rollout.id)
        query = select(columns.ring, columns.rollout_id).where(is_other, columns.ring.in_(rings))
        other = connection.execute(query).first()
        if other is not None:
            raise RolloutError(f"ring {other.ring} is told what to run by rollout {other.rollout_id} by now")
