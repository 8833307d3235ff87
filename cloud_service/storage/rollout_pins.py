"""Devices that run a release of their own, in the store. Blocking: call from a worker thread.

An order and its entry in the log of actions are one transaction; it then waits until the director has signed it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import ColumnElement, Connection, Engine, delete, func, select, update

from cloud_service.access.action_log import Entry
from cloud_service.rollout.device_order import DeviceOrder
from cloud_service.storage.action_store import append
from cloud_service.storage.read_only_store import ReadOnlyStore
from cloud_service.storage.rollout_rows import device_order_of, device_order_row
from cloud_service.storage.rollout_tables import device_orders
from cloud_service.storage.transactions import transaction
from cloud_service.storage.upserting import upsert
from shared.errors import RolloutError

_COLUMNS = device_orders.c
_IN_FORCE = _COLUMNS.document != ""


class PinStore:
    """Several may write: the rollout service and whoever gives orders. `engine`: of `open_durable_engine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def pin(self, order: DeviceOrder, entry: Entry, *, most: int) -> DeviceOrder:
        """Let a device run what the order says, with `entry` in the log; at most so many pins are in force at once.

        Returns the order with its sequence. Raises:
            RolloutError: there would be more than `most`.
            StorageError: the store cannot be written.
        """
        with transaction(self._engine) as connection:
            # first, as those who write to the log wait for one another
            append(connection, entry)
            before = _newest(connection, order.device_id, order.model, locked=True)
            pinned = connection.execute(select(func.count()).select_from(device_orders).where(_IN_FORCE)).scalar() or 0
            if pinned >= most and not (before and before.assignment):
                raise RolloutError(
                    f"{pinned} devices are pinned, and {most} may be (registry.device_assignments): unpin one, "
                    "or use a ring for them"
                )
            return _write(connection, order, before)

    def unpin(
        self, device_id: str, model: str, entry_of: Callable[[DeviceOrder], Entry], by: str, reason: str, now_s: int
    ) -> DeviceOrder:
        """Let a device follow its ring again. `entry_of`: the entry in the log, made from the pin that ends.

        Returns the order that ends it. Raises:
            RolloutError: it is not pinned.
            StorageError: the store cannot be written.
        """
        with transaction(self._engine) as connection:
            found = _newest(connection, device_id, model)
            if found is None or found.assignment is None:
                raise RolloutError(f"device {device_id} is not pinned to a release of {model}")
            append(connection, entry_of(found))
            before = _newest(connection, device_id, model, locked=True)
            if before is None or before.sequence != found.sequence:
                raise RolloutError(f"device {device_id} was told something else at this moment")
            ended = replace(before, assignment=None, decided_s=now_s, decided_by=by, reason=reason, signed_s=None)
            return _write(connection, ended, before)

    def pinned(self, model: str) -> frozenset[str]:
        """The devices that have a release of `model` of their own, told of it or not yet.

        Raises:
            StorageError: the store cannot be read.
        """
        query = select(_COLUMNS.device_id).where(_IN_FORCE, _COLUMNS.model == model)
        with transaction(self._engine) as connection:
            return frozenset(connection.execute(query).scalars())

    def orders(self, *, unsigned: bool = False) -> list[DeviceOrder]:
        """Every device's newest order; `unsigned`: those alone that the director has not signed yet.

        Raises:
            StorageError: the store cannot be read.
        """
        query = select(device_orders).order_by(_COLUMNS.decided_s, _COLUMNS.device_id, _COLUMNS.model)
        if unsigned:
            query = query.where(_COLUMNS.signed_s.is_(None))
        with transaction(self._engine) as connection:
            return [device_order_of(row) for row in connection.execute(query).mappings()]

    def mark_signed(self, order: DeviceOrder, now_s: int) -> None:
        """The director has signed this very order; a newer one still waits.

        Raises:
            StorageError: the store cannot be written.
        """
        with transaction(self._engine) as connection:
            connection.execute(update(device_orders).where(*_same(order)).values(signed_s=now_s))

    def renumber(self, order: DeviceOrder, sequence: int) -> DeviceOrder | None:
        """Give this very order another sequence, above one that the store does not know; None where a newer one waits.

        Raises:
            StorageError: the store cannot be written.
        """
        changed = _numbered(order, sequence)
        with transaction(self._engine) as connection:
            done = connection.execute(update(device_orders).where(*_same(order)).values(device_order_row(changed)))
        return changed if done.rowcount else None

    def prune(self, kept_since_s: int) -> None:
        """Forget pins that ended before, and whose end was signed.

        Raises:
            StorageError: the store cannot be written.
        """
        ended = (~_IN_FORCE, _COLUMNS.signed_s.is_not(None), _COLUMNS.decided_s < kept_since_s)
        with transaction(self._engine) as connection:
            connection.execute(delete(device_orders).where(*ended))


class PinReader:
    """Reads only, from any process; a store that is not set up holds no pins."""

    def __init__(self, engine: Engine) -> None:
        self._store = ReadOnlyStore(engine)

    def pins(self, *, model: str = "", device_id: str = "") -> list[DeviceOrder]:
        """Those in force, by device; of all models and devices, or of one.

        Raises:
            StorageError: the store cannot be read.
        """
        query = select(device_orders).where(_IN_FORCE).order_by(_COLUMNS.device_id, _COLUMNS.model)
        if model:
            query = query.where(_COLUMNS.model == model)
        if device_id:
            query = query.where(_COLUMNS.device_id == device_id)
        with self._store.look() as connection:
            return [device_order_of(row) for row in connection.execute(query).mappings()] if connection else []


def _newest(connection: Connection, device_id: str, model: str, *, locked: bool = False) -> DeviceOrder | None:
    query = select(device_orders).where(_COLUMNS.device_id == device_id, _COLUMNS.model == model)
    if locked:
        query = query.with_for_update()
    row = connection.execute(query).mappings().first()
    return None if row is None else device_order_of(row)


def _write(connection: Connection, order: DeviceOrder, before: DeviceOrder | None) -> DeviceOrder:
    """Sequences follow the clock, so that they grow even after what ended was forgotten."""
    numbered = _numbered(order, max(before.sequence + 1 if before else 0, order.decided_s))
    upsert(connection, device_orders, [device_order_row(numbered)])
    return numbered


def _numbered(order: DeviceOrder, sequence: int) -> DeviceOrder:
    assignment = order.assignment and replace(order.assignment, sequence=sequence)
    return replace(order, sequence=sequence, assignment=assignment)


def _same(order: DeviceOrder) -> tuple[ColumnElement[bool], ...]:
    return (
        _COLUMNS.device_id == order.device_id,
        _COLUMNS.model == order.model,
        _COLUMNS.sequence == order.sequence,
    )
