"""The store as the page of risks reads it: one consistent look. Blocking: call from a worker thread."""

from __future__ import annotations

import logging
from collections import Counter

from pydantic_core import from_json
from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, and_, func, select
from sqlalchemy.exc import SQLAlchemyError

from cloud_service.fleet.buckets import HOUR_S, WHOLE_FLEET
from cloud_service.fleet.risk_reading import GateReading, GateUser, RingCounts, RiskReading
from cloud_service.storage import tables
from cloud_service.storage.encoding import Row
from cloud_service.storage.fleet_reader import is_missing
from cloud_service.storage.policy_store import newest_sequence
from cloud_service.storage.schema import is_current
from cloud_service.storage.transactions import transaction
from cloud_service.storage.watch_rows import alarm_of, gate_of, policy_of, watch_of
from cloud_service.watch.records import GateAlarm, GateWatch, IssuedPolicy, KnownGate
from shared.errors import GateError, StorageError
from shared.types import GateReport

_log = logging.getLogger(__name__)
_REPORT_COLUMNS = (
    "gate_score", "gate_threshold", "gate_digest", "gate_in_force", "policy_id", "refused_policy_id", "refusal",
)  # fmt: skip
_MOST_POLICIES = 500
_MOST_ALARMS = 50
_MOST_PARSED = 256


class RiskReader:
    """Reads only, from any process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._is_ready = False
        self._known: dict[str, KnownGate | None] = {}

    def read(self, digest: str, counts_since_s: int) -> RiskReading | None:
        """One consistent look; `digest` names the gate to tell of, "" the one that most online devices run.

        None while the fleet service has not set up the store.

        Raises:
            StorageError: the store cannot be read.
        """
        if is_missing(self._engine):
            return None
        try:
            with self._engine.begin() as connection:
                self._is_ready = self._is_ready or is_current(connection)
                return self._read(connection, digest, counts_since_s) if self._is_ready else None
        except SQLAlchemyError as error:
            self._is_ready = False
            raise StorageError(f"the store cannot be read: {error}") from error

    def alarm(self, alarm_id: str) -> GateAlarm | None:
        """One alarm; None where there is none such.

        Raises:
            StorageError: the store cannot be read.
        """
        query = select(tables.gate_alarms).where(tables.gate_alarms.c.id == alarm_id)
        with transaction(self._engine) as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else alarm_of(row)

    def newest_sequence(self, ring: str, model: str) -> int:
        """See `cloud_service.storage.policy_store.newest_sequence`.

        Raises:
            StorageError: the store cannot be read.
        """
        with transaction(self._engine) as connection:
            return newest_sequence(connection, ring, model)

    def _read(self, connection: Connection, digest: str, counts_since_s: int) -> RiskReading:
        gates = self._gates(connection)
        reported = _reported(connection)
        shown = next((gate for gate in gates if gate.digest == digest), None)
        if shown is None and not digest:
            shown = max(gates, key=lambda gate: reported[gate.digest], default=None)
        return RiskReading(
            gates=gates,
            shown=None if shown is None else _gate_reading(connection, shown, counts_since_s),
            reported_digests=frozenset(name for name in reported if name),
            has_gateless="" in reported,
        )

    def _gates(self, connection: Connection) -> tuple[KnownGate, ...]:
        columns = tables.gates.c
        query = select(tables.gates).order_by(columns.model, columns.model_version.desc(), columns.digest)
        found = (self._known_gate(row) for row in connection.execute(query).mappings())
        return tuple(known for known in found if known is not None)

    def _known_gate(self, row: RowMapping) -> KnownGate | None:
        """A document never changes under its digest; one that cannot be read is told of once."""
        digest: str = row["digest"]
        if digest not in self._known:
            if len(self._known) >= _MOST_PARSED:
                self._known.clear()
            try:
                self._known[digest] = gate_of(row)
            except GateError as error:
                _log.warning("gate %s in the store: %s", digest, error)
                self._known[digest] = None
        return self._known[digest]


def _reported(connection: Connection) -> Counter[str]:
    """How many present boots name each gate; "" for those without one."""
    states = tables.model_states.c
    query = (
        select(states.gate_digest, func.count())
        .join_from(tables.model_states, tables.devices, _is_present_boot())
        .group_by(states.gate_digest)
    )
    return Counter({row[0]: int(row[1]) for row in connection.execute(query)})


def _is_present_boot() -> ColumnElement[bool]:
    states, devices = tables.model_states.c, tables.devices.c
    return and_(states.device_id == devices.device_id, states.boot_id == devices.boot_id)


def _gate_reading(connection: Connection, known: KnownGate, counts_since_s: int) -> GateReading:
    return GateReading(
        known=known,
        users=_users(connection, known.model),
        watches=_watches(connection, known.digest),
        counts=_counts(connection, known, counts_since_s),
        policies=_policies(connection, known),
        alarms=_alarms(connection, known.digest),
    )


def _users(connection: Connection, model: str) -> tuple[GateUser, ...]:
    """The newest word of each device's present boot on the model. Thousands of devices share a few reports."""
    states, devices = tables.model_states.c, tables.devices.c
    query = (
        select(
            states.device_id,
            devices.ring,
            devices.is_online,
            devices.last_seen_s,
            states.model_version,
            *(states[name] for name in _REPORT_COLUMNS),
        )
        .join_from(tables.model_states, tables.devices, _is_present_boot())
        .where(states.model == model)
        .order_by(states.device_id, states.heard_s, states.sequence)
    )
    reports: dict[tuple[object, ...], GateReport] = {}
    users: dict[str, GateUser] = {}
    for device_id, ring, is_online, last_seen_s, version, *told in connection.execute(query):
        key = tuple(told)
        if key not in reports:
            reports[key] = _report(dict(zip(_REPORT_COLUMNS, told, strict=True)))
        users[device_id] = GateUser(device_id, ring, bool(is_online), last_seen_s, version, reports[key])
    return tuple(users.values())


def _report(told: Row) -> GateReport:
    return GateReport(
        score=told["gate_score"],
        threshold=told["gate_threshold"],
        digest=told["gate_digest"],
        in_force=from_json(told["gate_in_force"]),
        policy_id=told["policy_id"],
        refused_policy_id=told["refused_policy_id"],
        refusal=told["refusal"],
    )


def _watches(connection: Connection, digest: str) -> tuple[GateWatch, ...]:
    table = tables.gate_watches
    query = select(table).where(table.c.gate_digest == digest).order_by(table.c.ring, table.c.kind)
    return tuple(watch_of(row) for row in connection.execute(query).mappings())


def _counts(connection: Connection, known: KnownGate, since_s: int) -> dict[str, RingCounts]:
    columns = tables.counts.c
    sums = (columns.accepted, columns.wanted, columns.edge, columns.audit_chosen)
    query = (
        select(columns.ring, *(func.sum(column) for column in sums))
        .where(
            columns.width_s == HOUR_S,
            columns.device_id == WHOLE_FLEET,
            columns.starts_s >= since_s,
            columns.model == known.model,
            columns.model_version == known.model_version,
        )
        .group_by(columns.ring)
    )
    return {row[0]: RingCounts(*(int(each) for each in row[1:])) for row in connection.execute(query)}


def _policies(connection: Connection, known: KnownGate) -> tuple[IssuedPolicy, ...]:
    columns = tables.gate_policies.c
    query = (
        select(tables.gate_policies)
        .where(columns.model == known.model, columns.gate_digest == known.digest)
        .order_by(columns.issued_s.desc(), columns.sequence.desc())
        .limit(_MOST_POLICIES)
    )
    return tuple(policy_of(row) for row in connection.execute(query).mappings())


def _alarms(connection: Connection, digest: str) -> tuple[GateAlarm, ...]:
    columns = tables.gate_alarms.c
    query = (
        select(tables.gate_alarms)
        .where(columns.gate_digest == digest)
        .order_by(columns.raised_s.desc(), columns.id)
        .limit(_MOST_ALARMS)
    )
    return tuple(alarm_of(row) for row in connection.execute(query).mappings())
