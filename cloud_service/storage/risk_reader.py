"""The store as the page of risks reads it: one consistent look. Blocking: call from a worker thread."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from pydantic_core import from_json
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    Select,
    and_,
    case,
    func,
    literal_column,
    or_,
    select,
)

from cloud_service.fleet.buckets import HOUR_S, WHOLE_FLEET
from cloud_service.fleet.risk_reading import MOST_NAMED, GateReading, GateUsers, Laggard, RingCounts, RiskReading
from cloud_service.storage import tables
from cloud_service.storage.policy_store import newest_sequence
from cloud_service.storage.present_words import is_newest_word, is_present_boot
from cloud_service.storage.read_only_store import ReadOnlyStore
from cloud_service.storage.rows import SERIES_COLUMNS
from cloud_service.storage.transactions import transaction
from cloud_service.storage.watch_rows import alarm_of, gate_of, policy_of, watch_of
from cloud_service.watch.records import GateAlarm, GateWatch, IssuedPolicy, KnownGate
from shared.errors import GateError
from shared.types import GateReport

_log = logging.getLogger(__name__)
_REPORT_COLUMNS = (
    "gate_score", "gate_threshold", "gate_digest", "gate_in_force", "policy_id", "refused_policy_id", "refusal",
)  # fmt: skip
_MOST_POLICIES = 500
_MOST_ALARMS = 50
_MOST_PARSED = 256
_STATES, _DEVICES = tables.model_states.c, tables.devices.c


@dataclass(frozen=True)
class _Asked:
    """What to tell of the gate shown."""

    ring: str
    counts_since_s: int
    seen_since_s: int


class RiskReader:
    """Reads only, from any process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = ReadOnlyStore(engine)
        self._known: dict[str, KnownGate | None] = {}

    def read(self, digest: str, ring: str, counts_since_s: int, seen_since_s: int) -> RiskReading | None:
        """One consistent look; `digest` names the gate to tell of, "" the one that most online devices run.

        Of `ring`, or the first there is, those are named who do not obey; who was not seen since `seen_since_s` is
        silent.

        None while the fleet service has not set up the store.

        Raises:
            StorageError: the store cannot be read.
        """
        asked = _Asked(ring, counts_since_s, seen_since_s)
        with self._store.look() as connection:
            return None if connection is None else self._read(connection, digest, asked)

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

    def _read(self, connection: Connection, digest: str, asked: _Asked) -> RiskReading:
        gates = self._gates(connection)
        reported = _reported(connection)
        shown = next((gate for gate in gates if gate.digest == digest), None)
        if shown is None and not digest:
            shown = max(gates, key=lambda gate: reported[gate.digest], default=None)
        return RiskReading(
            gates=gates,
            shown=None if shown is None else _gate_reading(connection, shown, asked),
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
        .join_from(tables.model_states, tables.devices, is_present_boot())
        .group_by(states.gate_digest)
    )
    return Counter({row[0]: int(row[1]) for row in connection.execute(query)})


def _gate_reading(connection: Connection, known: KnownGate, asked: _Asked) -> GateReading:
    found = GateReading(
        known=known,
        users=_users(connection, known.model, asked.seen_since_s),
        watches=_watches(connection, known.digest),
        counts=_counts(connection, known, asked.counts_since_s),
        policies=_policies(connection, known),
        alarms=_alarms(connection, known.digest),
    )
    policy = found.policy_of(found.ring_shown(asked.ring))
    return found if policy is None else replace(found, laggards=_laggards(connection, policy, asked.seen_since_s))


def _users(connection: Connection, model: str, seen_since_s: int) -> tuple[GateUsers, ...]:
    """The newest word of each device's present boot on the model: thousands of devices share a few reports.

    The words of a refusal are left out, so that one index holds all that is read.
    """
    columns = [_STATES[name] for name in _REPORT_COLUMNS if name != "refusal"]
    told = (_DEVICES.ring, _is_present(seen_since_s).label("is_present"), *columns)
    query = (
        select(*told, func.count().label("devices"))
        .join_from(tables.model_states, tables.devices, is_present_boot())
        .where(_STATES.model == model, is_newest_word())
        .group_by(*told)
    )
    return tuple(
        GateUsers(row["ring"], bool(row["is_present"]), _report(row), row["devices"])
        for row in connection.execute(query).mappings()
    )


def _laggards(connection: Connection, issued: IssuedPolicy, seen_since_s: int) -> tuple[Laggard, ...]:
    """Of the policy's ring, who refused, has not said yet, and is silent, in this order."""
    named = _named(issued, seen_since_s).subquery()
    is_named = and_(*(_STATES[name] == named.c[name] for name in SERIES_COLUMNS))
    query = (
        select(
            _DEVICES.device_id, _DEVICES.is_online, named.c.is_present, _DEVICES.last_seen_s,
            *(_STATES[name] for name in _REPORT_COLUMNS),
        )
        .join_from(named, tables.model_states, is_named)
        .join(tables.devices, _DEVICES.device_id == named.c.device_id)
        .order_by(named.c.stand, named.c.device_id)
    )  # fmt: skip
    return tuple(
        Laggard(row["device_id"], bool(row["is_online"]), bool(row["is_present"]), row["last_seen_s"], _report(row))
        for row in connection.execute(query).mappings()
    )


def _named(issued: IssuedPolicy, seen_since_s: int) -> Select[Any]:
    """By the columns that an index holds; the rows of those named alone are read whole."""
    policy, is_present = issued.policy, _is_present(seen_since_s)
    stand = case((~is_present, 2), (_STATES.refused_policy_id == policy.policy_id, 0), else_=1).label("stand")
    return (
        select(*(_STATES[name] for name in SERIES_COLUMNS), is_present.label("is_present"), stand)
        .join_from(tables.model_states, tables.devices, is_present_boot())
        .where(
            _STATES.model == policy.model,
            _STATES.gate_digest == policy.gate_digest,
            _DEVICES.ring == issued.ring,
            or_(~is_present, _STATES.policy_id != policy.policy_id),
            is_newest_word(),
        )
        .order_by(stand, _STATES.device_id)
        .limit(MOST_NAMED)
    )


def _is_present(seen_since_s: int) -> ColumnElement[bool]:
    """Written out, not bound: PostgreSQL must see that what is grouped by is what is selected."""
    return and_(_DEVICES.is_online, func.coalesce(_DEVICES.last_seen_s, 0) >= literal_column(str(seen_since_s)))


def _report(told: RowMapping) -> GateReport:
    return GateReport(
        score=told["gate_score"],
        threshold=told["gate_threshold"],
        digest=told["gate_digest"],
        in_force=from_json(told["gate_in_force"]),
        policy_id=told["policy_id"],
        refused_policy_id=told["refused_policy_id"],
        refusal=told.get("refusal", ""),
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
