"""What the overview tells of gates: the newest watch over each, and alarms that nobody has acknowledged."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from sqlalchemy import Connection, select

from cloud_service.fleet.buckets import CountKey
from cloud_service.fleet.reading import GateGlance
from cloud_service.fleet.tally import Tally
from cloud_service.storage import tables
from cloud_service.storage.watch_rows import alarm_of, watch_of
from cloud_service.watch.records import GateAlarm, GateWatch, WatchKind
from shared.errors import GateError
from shared.gate import Gate, parse_gate

_MOST_ALARMS = 50


def open_alarms(connection: Connection) -> tuple[GateAlarm, ...]:
    """Newest first."""
    columns = tables.gate_alarms.c
    query = select(tables.gate_alarms).where(columns.acknowledged_s.is_(None)).order_by(columns.raised_s.desc())
    return tuple(alarm_of(row) for row in connection.execute(query.limit(_MOST_ALARMS)).mappings())


def glances(connection: Connection, figures: Iterable[tuple[CountKey, Tally]]) -> tuple[GateGlance, ...]:
    """Of each model version in each ring, the disagreement watch heard last, with its `figures`."""
    columns = tables.gate_watches.c
    query = select(tables.gate_watches).where(columns.kind == WatchKind.DISAGREEMENT.value).order_by(columns.updated_s)
    newest = {}
    for row in connection.execute(query).mappings():
        newest[(row["model"], row["model_version"], row["ring"])] = watch_of(row)
    counts: dict[tuple[str, str, str], tuple[int, int]] = {}
    for key, tally in figures:
        place = (key.model, key.model_version, key.ring)
        wanted, accepted = counts.get(place, (0, 0))
        counts[place] = (wanted + tally.counters.wanted, accepted + tally.counters.accepted)
    gates = _gates(connection, newest.values())
    return tuple(
        GateGlance(watch, gates.get(watch.key.gate.gate_digest), *counts.get(place, (0, 0)))
        for place, watch in sorted(newest.items())
    )


def _gates(connection: Connection, watches: Iterable[GateWatch]) -> dict[str, Gate]:
    columns = tables.gates.c
    digests = {watch.key.gate.gate_digest for watch in watches}
    rows = connection.execute(select(columns.digest, columns.document).where(columns.digest.in_(digests)))
    found = {row.digest: _parsed(row.document) for row in rows}
    return {digest: gate for digest, gate in found.items() if gate is not None}


@lru_cache(maxsize=64)
def _parsed(document: str) -> Gate | None:
    """A document never changes under its digest. None of one that another Tandem wrote."""
    try:
        return parse_gate(document.encode())
    except GateError:
        return None
