"""A store with years of telemetry, written straight into its tables: what the pages are measured on."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Table

from cloud_service.fleet.buckets import (
    ALL_TIME_S,
    DAY_S,
    HOUR_S,
    MINUTE_S,
    WHOLE_FLEET,
    Retention,
)
from cloud_service.fleet.tally import AUDIT_COLUMNS, COUNTER_NAMES, SparseHistogram, Tally, p99_ms
from cloud_service.storage import tables
from cloud_service.storage.encoding import encode_tally, json_text
from cloud_service.storage.engine import open_engine
from cloud_service.storage.schema import migrate
from cloud_service.storage.watch_rows import alarm_row, gate_row, policy_row, watch_row
from cloud_service.watch.records import (
    AlarmKind,
    GateAlarm,
    GateKey,
    GateWatch,
    IssuedPolicy,
    KnownGate,
    WatchKey,
    WatchKind,
    WatchState,
)
from shared.gate import Certificate, CertifiedThreshold, Gate, Risk, Score
from shared.types import AuditCounts, GatePolicy, LabelCounts, RequestCounters

MODEL = "intents"
RINGS = ("canary", "early", "everyone")
LABELS = (*(f"label_{number}" for number in range(75)), "卡片丢失", "余额查询")
GATE = Gate(
    model_digest="a" * 64,
    full_model_digest="f" * 64,
    score=Score.MARGIN,
    temperature=1.2,
    in_force={Risk.KEPT_DISAGREEMENT: 0.05},
    certificates=(
        Certificate(
            Risk.KEPT_DISAGREEMENT,
            0.05,
            1500,
            (
                CertifiedThreshold(0.02, 0.93, 1100, 12, 0.019, 0.27),
                CertifiedThreshold(0.05, 0.82, 1310, 48, 0.048, 0.13),
            ),
            "calibration",
            "c" * 64,
            "0.4.0",
        ),
    ),
)
_NO_JOURNAL = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -2000000"
"""Nobody needs a store that was filled in part; millions of rows in a journal take longer than all else."""
_KINDS = 16
_TOLD_EVERY = 1_000_000
_KEY_COLUMNS = ("width_s", "starts_s", "device_id", "model", "model_version", "variant", "ring")
_TALLY_COLUMNS = (*COUNTER_NAMES, *AUDIT_COLUMNS, "latency", "reasons", "labels")


@dataclass(frozen=True)
class Extent:
    """How far back the devices' own rows go, in seconds, for the three widths; the fleet's go back all the way."""

    devices: int = 10_000
    minutes_s: int = HOUR_S
    hours_s: int = 2 * DAY_S
    days_s: int = 62 * DAY_S

    @property
    def back_s(self) -> dict[int, int]:
        """By width of the devices' rows."""
        return {MINUTE_S: self.minutes_s, HOUR_S: self.hours_s, DAY_S: self.days_s}

    def device_rows(self, now_s: int) -> int:
        """How many rows the devices have, all together."""
        starts = (len(_starts(now_s - back_s, now_s, width_s)) for width_s, back_s in self.back_s.items())
        return self.devices * sum(starts)


def device_name(number: int) -> str:
    """The name of the device with this number."""
    return f"press-{number:05d}"


def ring_of(number: int) -> str:
    """One in a hundred is a canary, one in ten early."""
    return RINGS[0] if number % 100 == 0 else RINGS[1] if number % 10 == 1 else RINGS[2]


def version_of(number: int) -> str:
    """The canaries run the next version."""
    return "8" if number % 100 == 0 else "7"


def fill_store(file: Path, now_s: int, extent: Extent, tell: Callable[[str], None] = lambda words: None) -> int:
    """Fill the SQLite file, which must not exist, as it stands at `now_s`; returns the number of rows of counts.

    `tell` is told now and then how far it is.
    """
    engine = open_engine(f"sqlite:///{file}", writes=True)
    migrate(engine)
    engine.dispose()
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.executescript(_NO_JOURNAL)
        connection.execute("BEGIN")
        _insert(connection, tables.fleet_status, [_status(now_s)])
        _insert(connection, tables.devices, [_device(number, now_s) for number in range(extent.devices)])
        _insert(connection, tables.model_states, [_state(number, now_s) for number in range(extent.devices)])
        counted_columns = (*_KEY_COLUMNS, *_TALLY_COLUMNS)
        _insert(connection, tables.gates, [gate_row(KnownGate(GATE.digest, MODEL, "7", GATE))])
        _insert(connection, tables.gate_watches, [watch_row(_watch(ring, now_s)) for ring in RINGS])
        _insert(connection, tables.gate_alarms, [alarm_row(_alarm(now_s))])
        _insert(connection, tables.gate_policies, [policy_row(_policy(now_s))])
        _insert_values(connection, tables.counts, counted_columns, _fleet_rows(now_s))
        _add_device_rows(connection, now_s, extent, tell)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
        rows: int = connection.execute("SELECT count(*) FROM counts").fetchone()[0]
    return rows


def _insert(connection: sqlite3.Connection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    names = [column.name for column in table.columns]
    _insert_values(connection, table, names, (tuple(row[name] for name in names) for row in rows))


def _insert_values(
    connection: sqlite3.Connection, table: Table, names: Sequence[str], rows: Iterable[tuple[Any, ...]]
) -> None:
    command = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' for _ in names)})"
    connection.executemany(command, rows)


def counted(requests: int, step: int = 0, *, labels: Sequence[str] = ()) -> Tally:
    """Some `requests`, a part of them escalated, spread over many buckets of latency."""
    cloud, degraded, failed = requests * (8 + step % 7) // 100, requests // 90, requests // 400
    edge = requests - cloud - degraded - failed
    chosen = edge // 20
    disagreed = chosen // 30
    counters = RequestCounters(
        received=requests + step % 3,
        rejected=step % 3,
        accepted=requests,
        edge=edge,
        cloud=cloud,
        degraded=degraded,
        failed=failed,
        wanted=cloud + degraded,
        attempted=cloud + degraded,
        served=cloud,
        call_failed=degraded,
    )
    numbers = {"edge": edge, "cloud": cloud, "degraded": degraded, "failed": failed}
    latency = {
        outcome: SparseHistogram({12 + place + step % 5: max(1, number // 10) for place in range(10)}, number * 9.0)
        for outcome, number in numbers.items()
        if number
    }
    by_label = {
        label: LabelCounts(requests // len(labels), (cloud + degraded) // len(labels), chosen // len(labels), 1, 0, 0)
        for label in labels
    }
    reasons = {"confident": edge, "uncertain": cloud, "cloud_unavailable": degraded, "engine_failed": failed}
    audits = AuditCounts(chosen, chosen - disagreed, disagreed)
    return Tally(counters, latency, {key: number for key, number in reasons.items() if number}, audits, by_label)


def _rows(
    width_s: int, starts: range, owners: Sequence[tuple[str, str, str]], tallies: Sequence[dict[str, Any]]
) -> Iterator[tuple[Any, ...]]:
    """In the order of time, as they come in. `owners`: device, version, ring."""
    figures = [tuple(each[name] for name in _TALLY_COLUMNS) for each in tallies]
    for start in starts:
        for place, (device_id, version, ring) in enumerate(owners):
            told = figures[(place * 7 + start // max(1, width_s)) % len(figures)]
            yield (width_s, start, device_id, MODEL, version, "", ring, *told)


def _fleet_rows(now_s: int) -> Iterator[tuple[Any, ...]]:
    owners = [(WHOLE_FLEET, "8", RINGS[0]), *((WHOLE_FLEET, "7", ring) for ring in RINGS)]
    for width_s, since_s in Retention().kept_since(now_s).items():
        tallies = [encode_tally(counted(width_s * 400 + 997 * step, step, labels=LABELS)) for step in range(_KINDS)]
        yield from _rows(width_s, _starts(since_s, now_s, width_s), owners, tallies)
    whole = [encode_tally(counted(10**10, 3, labels=LABELS))]
    yield from _rows(ALL_TIME_S, range(0, 1), owners, whole)


def _add_device_rows(connection: sqlite3.Connection, now_s: int, extent: Extent, tell: Callable[[str], None]) -> None:
    """In the order of time, as they come in; put together by SQLite itself, as tens of millions are too many for us."""
    owners = [
        (number, device_name(number), MODEL, version_of(number), "", ring_of(number))
        for number in range(extent.devices)
    ]
    connection.execute("CREATE TEMP TABLE owners (place INTEGER PRIMARY KEY, device_id, model, version, variant, ring)")
    connection.executemany("INSERT INTO owners VALUES (?, ?, ?, ?, ?, ?)", owners)
    told = ", ".join(_TALLY_COLUMNS)
    connection.execute(f"CREATE TEMP TABLE told (kind INTEGER PRIMARY KEY, {told})")
    command = (
        f"INSERT INTO counts ({', '.join(_KEY_COLUMNS)}, {told}) "
        f"SELECT ?, ?, device_id, model, version, variant, ring, {told} "
        f"FROM owners CROSS JOIN told ON kind = (place * 7 + ?) % {_KINDS}"
    )
    done, rows = 0, extent.device_rows(now_s)
    for width_s, back_s in extent.back_s.items():
        _tell_kinds(connection, width_s)
        for start_s in _starts(now_s - back_s, now_s, width_s):
            connection.execute(command, (width_s, start_s, start_s // width_s))
            done += extent.devices
            if done // _TOLD_EVERY > (done - extent.devices) // _TOLD_EVERY:
                tell(f"{done:,} of {rows:,} rows of devices")


def _tell_kinds(connection: sqlite3.Connection, width_s: int) -> None:
    """The few different counts that the rows of one width have."""
    labels = LABELS[:40] if width_s == DAY_S else ()
    tallies = [encode_tally(counted(width_s // 8 + 13 * step, step, labels=labels)) for step in range(_KINDS)]
    connection.execute("DELETE FROM told")
    rows = ((kind, *(each[name] for name in _TALLY_COLUMNS)) for kind, each in enumerate(tallies))
    connection.executemany(f"INSERT INTO told VALUES ({', '.join('?' * (len(_TALLY_COLUMNS) + 1))})", rows)


def _starts(since_s: int, now_s: int, width_s: int) -> range:
    return range(since_s - since_s % width_s, now_s + 1, width_s)


def _status(now_s: int) -> dict[str, Any]:
    return {
        "id": 1,
        "writer_id": "filled",
        "started_s": now_s - DAY_S,
        "written_s": now_s,
        "broker": "localhost:1883",
        "is_broker_connected": True,
        "broker_error": "",
    }


def _device(number: int, now_s: int) -> dict[str, Any]:
    return {
        "device_id": device_name(number),
        "boot_id": f"boot-{number}",
        "is_online": number % 50 != 0,
        "agent_version": "0.4.0" if number % 3 else "0.3.9",
        "first_heard_s": now_s - 700 * DAY_S,
        "last_seen_s": now_s - (4000 if number % 70 == 0 else number % 10),
        "ring": ring_of(number),
    }


def _state(number: int, now_s: int) -> dict[str, Any]:
    is_refused = number % 500 == 7
    told = counted(20_000 + number * 37 % 90_000, number, labels=LABELS)
    return {
        "device_id": device_name(number),
        "model": MODEL,
        "boot_id": f"boot-{number}",
        "model_version": version_of(number),
        "variant": "",
        "ring": ring_of(number),
        "sequence": 1000 + number,
        "model_digest": "a" * 64,
        "gate_score": "margin",
        "gate_threshold": 0.8 + number % 9 / 100,
        "gate_digest": GATE.digest,
        "gate_in_force": json_text({"kept-disagreement": 0.05}),
        "policy_id": "" if number % 4 else "policy-1",
        "refused_policy_id": "policy-2" if is_refused else "",
        "refusal": "alpha 0.07 is not certified for kept-disagreement" if is_refused else "",
        "cloud_link": "open" if number % 40 == 0 else "closed",
        "heard_s": now_s - number % 10,
        **encode_tally(told),
        "audit_steps": json_text([[0.9 - step / 50, 1000 + step, 20 + step] for step in range(10)]),
        "label_steps": "[]",
        "score_counts": json_text([100] * 20),
        "p99_ms": p99_ms(told),
    }


def _watch(ring: str, now_s: int) -> GateWatch:
    """The canaries' is tightened; nobody has audited those of early."""
    key = WatchKey(GateKey(MODEL, "8" if ring == "canary" else "7", GATE.digest, ring), WatchKind.DISAGREEMENT)
    state = WatchState.TIGHTENED if ring == "canary" else WatchState.CERTIFIED
    judged = 0 if ring == "early" else 4200
    threshold = 0.93 if ring == "canary" else 0.82
    bounds = (0.0, 1.0) if ring == "early" else (0.021, 0.041)
    return GateWatch(key, state, 0.05, threshold, judged, judged // 33, *bounds, since_s=now_s - DAY_S, updated_s=now_s)


def _alarm(now_s: int) -> GateAlarm:
    gate = GateKey(MODEL, "8", GATE.digest, "canary")
    text = "Kept answers disagree with the full model more often than promised; the gate now keeps from 0.93 on."
    return GateAlarm("alarm-1", gate, AlarmKind.DISAGREEMENT, now_s - HOUR_S, text)


def _policy(now_s: int) -> IssuedPolicy:
    reason = "kept disagreement over 5%"
    policy = GatePolicy(
        "policy-1", 1, MODEL, GATE.digest, {"kept-disagreement": 0.02}, reason=reason, issued_by="watch"
    )
    return IssuedPolicy(policy, "canary", now_s - HOUR_S, now_s - HOUR_S + 1)
