from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from cloud_service.fleet.book import Changes, ModelState
from cloud_service.fleet.buckets import ALL_TIME_S, WHOLE_FLEET, Bucket, CountKey
from cloud_service.fleet.deltas import series_of, snapshot_of
from cloud_service.fleet.presence import DeviceState
from cloud_service.fleet.reading import DeviceCounts, FleetReading, Question
from cloud_service.fleet.status import FleetStatus
from cloud_service.fleet.tally import Tally
from cloud_service.storage import tables
from cloud_service.storage.engine import open_engine
from cloud_service.storage.fleet_reader import FleetReader
from cloud_service.storage.fleet_store import FleetStore
from cloud_service.storage.schema import migrate
from shared.errors import ConfigurationError, StorageError, StoreTaken
from shared.types import Outcome
from tests.support.simulated_device import CountedModel

NOW_S = 1_800_000_000
STATUS = FleetStatus(NOW_S, NOW_S, "localhost:1883", True)
QUESTION = Question(
    chart_width_s=10,
    chart_since_s=NOW_S - 900,
    figures_width_s=60,
    figures_since_s=NOW_S - 900,
    recent_since_s=NOW_S - 60,
    seen_since_s=NOW_S - 30,
    until_s=NOW_S + 1,
    device_limit=10,
)


def model_with(device_id: str = "d1", boot_id: str = "b1", version: str = "1") -> CountedModel:
    model = CountedModel(device_id, boot_id, version=version)
    model.serve(Outcome.EDGE, 3, latency_ms=2)
    model.serve(Outcome.CLOUD, 2, latency_ms=30)
    model.begin(1)
    return model


def state_of(model: CountedModel, heard_s: int = NOW_S) -> ModelState:
    told = model.telemetry()
    return ModelState(series_of(told), snapshot_of(told), told.model.digest, told.gate, "closed", heard_s, told.ring)


def changes_of(model: CountedModel, *, is_online: bool = True) -> Changes:
    """Everything that the model's first word changes, booked at NOW_S."""
    state = state_of(model)
    series = state.series
    device = DeviceState(series.device_id, series.boot_id, is_online, "1.0", NOW_S, NOW_S)
    counts = {
        CountKey(Bucket(width_s, start), owner, series.model, series.model_version, ""): state.snapshot.tally
        for owner in (WHOLE_FLEET, series.device_id)
        for width_s, start in ((ALL_TIME_S, 0), (10, NOW_S), (60, NOW_S))
    }
    return Changes({series.device_id: device}, {series: state}, counts)


def claimed(engine: Engine) -> FleetStore:
    store = FleetStore(engine)
    store.claim(STATUS)
    return store


def read(engine: Engine, question: Question = QUESTION) -> FleetReading:
    reading = FleetReader(engine).read(question)
    assert reading is not None
    return reading


def test_what_was_committed_is_loaded_again(writing: Engine) -> None:
    store, changes = claimed(writing), changes_of(model_with())
    store.commit(changes, STATUS)
    devices, states = store.load()
    assert devices == list(changes.devices.values())
    assert states == list(changes.states.values())
    assert store.load_counts(Bucket(60, NOW_S)) == {
        key: tally for key, tally in changes.counts.items() if key.bucket.width_s == 60
    }


def test_a_row_that_is_there_is_replaced_whole(writing: Engine) -> None:
    store, model = claimed(writing), model_with()
    store.commit(changes_of(model), STATUS)
    model.serve(Outcome.DEGRADED, 4)
    later = changes_of(model, is_online=False)
    store.commit(later, STATUS)
    devices, states = store.load()
    assert devices == list(later.devices.values()) and states == list(later.states.values())


def test_a_commit_that_fails_leaves_nothing_behind(writing: Engine) -> None:
    store, changes = claimed(writing), changes_of(model_with())
    broken = {replace(key, model="x" * 100): None for key in changes.counts}
    with pytest.raises((StorageError, AttributeError)):
        store.commit(replace(changes, counts=broken), STATUS)  # type: ignore[arg-type]
    assert store.load() == ([], [])


def test_a_second_fleet_service_takes_the_store_and_the_first_can_write_no_more(writing: Engine) -> None:
    first = claimed(writing)
    second = claimed(writing)
    with pytest.raises(StoreTaken):
        first.commit(changes_of(model_with()), STATUS)
    assert second.load() == ([], [])
    second.commit(Changes(), STATUS)


def test_old_buckets_and_forgotten_series_are_pruned_and_all_time_stays(writing: Engine) -> None:
    store, model = claimed(writing), model_with()
    changes = changes_of(model)
    store.commit(changes, STATUS)
    gone = store.prune({10: NOW_S + 1, 60: NOW_S}, list(changes.states))
    assert gone == 3
    assert store.load_counts(Bucket(10, NOW_S)) == {}
    assert store.load_counts(Bucket(60, NOW_S)) and store.load_counts(Bucket(ALL_TIME_S, 0))
    assert store.load()[1] == []


def test_the_page_reads_one_look_of_everything(writing: Engine, reading: Engine) -> None:
    store = claimed(writing)
    one, two = model_with("d1"), model_with("d2", version="2")
    store.commit(changes_of(one), STATUS)
    store.commit(changes_of(two, is_online=False), replace(STATUS, is_broker_connected=False, broker_error="gone"))
    told = read(reading)
    assert told.status == replace(STATUS, is_broker_connected=False, broker_error="gone")
    assert told.device_counts == DeviceCounts(online=1, silent=0, offline=1)
    assert told.all_time.counters.accepted == told.figures.counters.accepted == 12
    assert list(told.chart) == [NOW_S] and told.recent.counters.wanted == 4
    assert (told.in_flight, told.calls_in_flight) == (1, 0)
    assert [device.state.device_id for device in told.devices] == ["d1", "d2"]
    assert told.devices[1].tallies["intents"] == state_of(two).snapshot.tally
    assert told.devices[1].models[0].series.model_version == "2"


def test_the_charts_counters_are_the_sum_over_what_the_fleet_runs(writing: Engine, reading: Engine) -> None:
    store = claimed(writing)
    for name, version in (("d1", "1"), ("d2", "2")):
        store.commit(changes_of(model_with(name, version=version)), STATUS)
    told = read(reading)
    assert told.chart == {NOW_S: Tally(told.all_time.counters)}
    assert told.all_time.counters.accepted == 12


def test_a_device_not_heard_for_long_is_silent(writing: Engine, reading: Engine) -> None:
    claimed(writing).commit(changes_of(model_with()), STATUS)
    assert read(reading, replace(QUESTION, seen_since_s=NOW_S + 1)).device_counts == DeviceCounts(0, 1, 0)


def test_only_the_present_boots_newest_model_is_shown(writing: Engine, reading: Engine) -> None:
    store = claimed(writing)
    store.commit(changes_of(model_with(boot_id="b1")), STATUS)
    older = replace(state_of(model_with(boot_id="b2")), heard_s=NOW_S - 5)
    newer = state_of(model_with(boot_id="b2", version="2"))
    device = DeviceState("d1", "b2", True, "1.0", NOW_S, NOW_S)
    store.commit(Changes({"d1": device}, {each.series: each for each in (newer, older)}), STATUS)
    (shown,) = read(reading).devices
    assert [each.series.model_version for each in shown.models] == ["2"]


def test_buckets_outside_the_question_are_not_read(writing: Engine, reading: Engine) -> None:
    claimed(writing).commit(changes_of(model_with()), STATUS)
    later = replace(QUESTION, chart_since_s=NOW_S + 10, figures_since_s=NOW_S + 60, until_s=NOW_S + 100)
    told = read(reading, later)
    assert told.chart == {} and told.figures == Tally() and told.all_time != Tally()


def test_more_devices_than_the_limit_are_counted_and_not_listed(writing: Engine, reading: Engine) -> None:
    store = claimed(writing)
    for number in range(5):
        store.commit(changes_of(model_with(f"d{number}")), STATUS)
    told = read(reading, replace(QUESTION, device_limit=2))
    assert len(told.devices) == 2 and told.device_counts.online == 5


def test_a_store_not_set_up_yet_says_so(writing: Engine, reading: Engine) -> None:
    assert FleetReader(reading).read(QUESTION) is None
    with writing.connect():
        pass
    assert FleetReader(reading).read(QUESTION) is None


def test_the_page_cannot_write(writing: Engine, reading: Engine) -> None:
    claimed(writing)
    if reading.dialect.name != "sqlite":
        pytest.skip("on PostgreSQL the page's login decides")
    with pytest.raises(SQLAlchemyError, match="readonly"), reading.begin() as connection:
        connection.execute(text("DELETE FROM devices"))


def test_migrations_make_exactly_the_tables_that_the_code_knows(writing: Engine) -> None:
    migrate(writing)
    migrate(writing)
    made = inspect(writing)
    for table in tables.metadata.sorted_tables:
        columns = {column["name"]: column for column in made.get_columns(table.name)}
        assert set(columns) == {column.name for column in table.columns}
        assert {name for name, column in columns.items() if not column["nullable"]} == {
            column.name for column in table.columns if not column.nullable
        }
        assert made.get_pk_constraint(table.name)["constrained_columns"] == [
            column.name for column in table.primary_key
        ]
    made_indexes = {index["name"] for index in made.get_indexes("counts")}
    assert made_indexes == {index.name for index in tables.counts.indexes}


def test_a_store_of_a_newer_tandem_is_left_alone(writing: Engine) -> None:
    migrate(writing)
    with writing.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match="newer Tandem"):
        migrate(writing)


@pytest.mark.parametrize("url", ["mysql://localhost/x", "no url at all", "postgresql+nodriver://localhost/x"])
def test_a_url_that_cannot_be_a_store_is_a_clear_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"storage\.url"):
        open_engine(url, writes=True)
