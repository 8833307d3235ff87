"""What an older Tandem has counted is still there, in the ring "default", and days begin with it."""

from __future__ import annotations

import json
from typing import Any

from alembic import command
from sqlalchemy import Engine, MetaData, Table, func, insert, select

from cloud_service.fleet.buckets import DAY_S, HOUR_S, WHOLE_FLEET
from cloud_service.fleet.tally import COUNTER_NAMES
from cloud_service.storage import schema, tables
from cloud_service.storage.fleet_store import FleetStore
from cloud_service.storage.rows import count_of
from cloud_service.storage.schema import migrate

NOON_S = 20_000 * DAY_S + 12 * HOUR_S


def migrate_to(engine: Engine, revision: str) -> None:
    config = schema._config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def count(width_s: int, starts_s: int, edge: int, device_id: str = WHOLE_FLEET) -> dict[str, Any]:
    return {
        "width_s": width_s,
        "device_id": device_id,
        "starts_s": starts_s,
        "model": "intents",
        "model_version": "1",
        "variant": "",
        **dict.fromkeys(COUNTER_NAMES, 0),
        "received": edge,
        "accepted": edge,
        "edge": edge,
        "latency": json.dumps({"edge": [2.0 * edge, [4, 9], [edge - 1, 1]]}),
        "reasons": json.dumps({"confident": edge}),
    }


def fill_old_store(engine: Engine) -> None:
    migrate_to(engine, "0001")
    told = MetaData()
    told.reflect(engine)
    counts, devices, states = (told.tables[name] for name in ("counts", "devices", "model_states"))
    device = {"device_id": "d1", "boot_id": "b1", "is_online": True, "agent_version": "0.3", "first_heard_s": NOON_S}
    state = {
        **{name: value for name, value in count(0, 0, 3, "d1").items() if name not in ("width_s", "starts_s")},
        **{"boot_id": "b1", "sequence": 7, "model_digest": "a" * 64, "gate_score": "margin", "gate_threshold": 0.7},
        **{"cloud_link": "closed", "heard_s": NOON_S},
    }
    rows = [
        count(0, 0, 30),
        count(60, NOON_S, 3, "d1"),
        count(HOUR_S, NOON_S, 3),
        count(HOUR_S, NOON_S + HOUR_S, 4),
        count(HOUR_S, NOON_S + DAY_S, 5),
        count(HOUR_S, NOON_S, 3, "d1"),
    ]
    with engine.begin() as connection:
        _insert(connection, devices, [{**device, "last_seen_s": None}])
        _insert(connection, states, [state])
        _insert(connection, counts, rows)


def _insert(connection: Any, table: Table, rows: list[dict[str, Any]]) -> None:
    connection.execute(insert(table), rows)


def test_old_counts_are_carried_over_and_summed_up_by_day(writing: Engine) -> None:
    fill_old_store(writing)
    migrate(writing)
    with writing.begin() as connection:
        counted = dict(count_of(row) for row in connection.execute(select(tables.counts)).mappings())
    assert {key.ring for key in counted} == {"default"} and len(counted) == 6 + 3
    days = {
        (key.device_id, key.bucket.starts_s): tally for key, tally in counted.items() if key.bucket.width_s == DAY_S
    }
    today = NOON_S - NOON_S % DAY_S
    assert {key: tally.counters.edge for key, tally in days.items()} == {
        (WHOLE_FLEET, today): 7,
        (WHOLE_FLEET, today + DAY_S): 5,
        ("d1", today): 3,
    }
    assert days[(WHOLE_FLEET, today)].reasons == {"confident": 7}
    assert days[(WHOLE_FLEET, today)].latency["edge"].counts == {4: 5, 9: 2}
    assert days[(WHOLE_FLEET, today)].latency["edge"].sum_ms == 14.0


def test_devices_and_their_newest_words_are_carried_over(writing: Engine) -> None:
    fill_old_store(writing)
    store = FleetStore(writing)
    migrate(writing)
    (device,), (state,) = store.load()
    assert (device.device_id, device.ring, state.ring) == ("d1", "default", "default")
    assert (state.snapshot.sequence, state.snapshot.tally.counters.edge) == (7, 3)
    assert (state.gate.score, state.gate.threshold, state.gate.digest) == ("margin", 0.7, "")


def test_the_step_back_leaves_the_older_tables_with_all_they_held(writing: Engine) -> None:
    fill_old_store(writing)
    migrate_to(writing, "0002")
    config = schema._config()
    with writing.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    told = MetaData()
    told.reflect(writing)
    assert "ring" not in told.tables["counts"].columns and "gates" not in told.tables
    with writing.begin() as connection:
        assert connection.execute(select(func.count()).select_from(told.tables["counts"])).scalar_one() == 6
