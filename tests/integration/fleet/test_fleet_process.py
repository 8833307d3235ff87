"""The real fleet service between a real broker and a real store, and what may go wrong around it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_service.fleet.reading import FleetReading
from cloud_service.fleet.tally import Tally, total
from shared import topics
from shared.codec import encode_telemetry
from shared.types import Outcome, RequestCounters
from tests.support.fleet_process import CloudRole, StoreWatch, wait_until, write_cloud_toml
from tests.support.mosquitto import EXECUTABLE, Mosquitto
from tests.support.simulated_device import CountedModel, SimulatedDevice

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="mosquitto is not installed")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def config(tmp_path: Path, broker: Mosquitto) -> Path:
    return write_cloud_toml(tmp_path, broker.port)


@pytest.fixture
def store(config: Path) -> StoreWatch:
    return StoreWatch(config)


def truth(*models: CountedModel) -> RequestCounters:
    return total(Tally(model.counters()) for model in models).counters


def booked(reading: FleetReading, *models: CountedModel) -> bool:
    return reading.all_time.counters == truth(*models)


def online(reading: FleetReading) -> dict[str, bool]:
    return {device.state.device_id: device.state.is_online for device in reading.devices}


def test_what_devices_report_is_booked_with_their_presence(config: Path, broker: Mosquitto, store: StoreWatch) -> None:
    with (
        CloudRole(config, "fleet") as fleet,
        SimulatedDevice(broker.port, "d1") as one,
        SimulatedDevice(broker.port, "d2", version="2") as two,
    ):
        for device, outcome in ((one, Outcome.EDGE), (two, Outcome.CLOUD)):
            device.model.serve(outcome, 5)
            device.report()
        reading = store.wait_for(lambda now: booked(now, one.model, two.model), "both devices' counts")
        store.wait_for(lambda now: online(now) == {"d1": True, "d2": True}, "both online")
        assert {device.models[0].series.model_version for device in reading.devices} == {"1", "2"}
        assert reading.status is not None and reading.status.is_broker_connected
        assert fleet.metric('tandem_fleet_messages_total{kind="telemetry"}') == 2
        assert fleet.metric('tandem_fleet_devices{presence="online"}') == 2
        two.kill()
        store.wait_for(lambda now: online(now) == {"d1": True, "d2": False}, "the killed one offline by its will")
        assert fleet.terminate() == 0


def test_a_killed_fleet_service_loses_and_doubles_nothing(config: Path, broker: Mosquitto, store: StoreWatch) -> None:
    with SimulatedDevice(broker.port, "d1") as device, SimulatedDevice(broker.port, "d2", boot_id="old") as gone:
        models = [device.model, gone.model]
        with CloudRole(config, "fleet"):
            for each in (device, gone):
                each.model.serve(Outcome.EDGE, 3)
                each.report()
            store.wait_for(lambda now: booked(now, *models), "the first counts")
        device.model.serve(Outcome.DEGRADED, 4)
        device.report()
        gone.__exit__(None, None, None)
        with SimulatedDevice(broker.port, "d2", boot_id="new") as back:
            back.model.serve(Outcome.EDGE, 2)
            back.report()
            with CloudRole(config, "fleet"):
                store.wait_for(lambda now: booked(now, *models, back.model), "what was counted meanwhile")
                store.wait_for(lambda now: online(now) == {"d1": True, "d2": True}, "both online again")


def test_a_killed_broker_costs_no_count_once_it_is_back(config: Path, broker: Mosquitto, store: StoreWatch) -> None:
    with CloudRole(config, "fleet"), SimulatedDevice(broker.port, "d1") as device:
        device.model.serve(Outcome.EDGE, 3)
        device.report()
        store.wait_for(lambda now: booked(now, device.model), "the first counts")
        broker.kill()
        store.wait_for(
            lambda now: now.status is not None and not now.status.is_broker_connected, "word that the broker is away"
        )
        device.model.serve(Outcome.DEGRADED, 2)
        broker.start()
        store.wait_for(lambda now: booked(now, device.model), "the counts of the time without a broker")
        reading = store.wait_for(lambda now: online(now) == {"d1": True}, "the device online again")
        assert reading.status is not None and reading.status.is_broker_connected


def test_messages_that_cannot_be_believed_change_nothing(config: Path, broker: Mosquitto, store: StoreWatch) -> None:
    with CloudRole(config, "fleet") as fleet, SimulatedDevice(broker.port, "d1") as device:
        stranger = CountedModel("d2", "b1")
        stranger.serve(Outcome.EDGE, 1000)
        wait_until(lambda: fleet.metric('tandem_fleet_messages_total{kind="presence"}') == 1, "the service to listen")
        device.say(topics.telemetry("d1", "intents"), b"\xff\xffno message")
        device.say(topics.telemetry("d1", "intents"), encode_telemetry(stranger.telemetry()))
        device.say(topics.presence("d3"), b"x" * 100_000)
        device.model.serve(Outcome.EDGE, 1)
        device.report()
        reading = store.wait_for(lambda now: booked(now, device.model), "the honest counts alone")
        assert online(reading) == {"d1": True}
        assert fleet.metric('tandem_fleet_messages_dropped_total{reason="malformed"}') == 2
        assert fleet.metric('tandem_fleet_messages_dropped_total{reason="wrong_speaker"}') == 1


def test_a_device_cannot_speak_for_another_through_a_closed_broker(tmp_path: Path) -> None:
    words = {"d1": "one", "d2": "two", "tandem-fleet": "fleet"}
    (tmp_path / "password").write_text("fleet\n")
    with Mosquitto(tmp_path / "closed", words) as broker:
        login = 'username = "tandem-fleet"\npassword_file = "password"'
        config = write_cloud_toml(tmp_path, broker.port, login)
        store = StoreWatch(config)
        with CloudRole(config, "fleet") as fleet, SimulatedDevice(broker.port, "d1", password="one") as device:
            device.model.serve(Outcome.EDGE, 2)
            forged = CountedModel("d2", "b1")
            forged.serve(Outcome.EDGE, 1000)
            device.say(topics.telemetry("d2", "intents"), encode_telemetry(forged.telemetry()))
            device.report()
            store.wait_for(lambda now: booked(now, device.model), "the device's own counts alone")
            assert fleet.metric('tandem_fleet_messages_total{kind="telemetry"}') == 1


def test_a_service_that_starts_before_its_broker_finds_it_later(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "broker")
    config = write_cloud_toml(tmp_path, broker.port)
    store = StoreWatch(config)
    with CloudRole(config, "fleet"):
        store.wait_for(lambda now: now.status is not None and not now.status.is_broker_connected, "no broker yet")
        with broker, SimulatedDevice(broker.port, "d1") as device:
            device.model.serve(Outcome.EDGE, 2)
            device.report()
            store.wait_for(lambda now: booked(now, device.model), "the counts")


def test_of_two_fleet_services_on_one_store_the_first_ends_with_a_clear_word(
    config: Path, broker: Mosquitto, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(config.read_text().replace("[fleet]", '[fleet]\nclient_id = "other"'))
    with CloudRole(config, "fleet") as first, CloudRole(other, "fleet"):
        assert first.wait() == 2
        assert "another fleet service writes to this store" in "".join(first.log)


def test_a_message_heard_before_the_end_is_booked_before_the_end(broker: Mosquitto, tmp_path: Path) -> None:
    config = write_cloud_toml(tmp_path, broker.port)
    config.write_text(config.read_text().replace("commit_interval_ms = 100", "commit_interval_ms = 60000"))
    with CloudRole(config, "fleet") as fleet, SimulatedDevice(broker.port, "d1") as device:
        wait_until(lambda: fleet.metric('tandem_fleet_messages_total{kind="presence"}') == 1, "the service to listen")
        device.model.serve(Outcome.EDGE, 2)
        device.report()
        wait_until(lambda: fleet.metric('tandem_fleet_messages_total{kind="telemetry"}') == 1, "the message heard")
        assert fleet.terminate() == 0
    reading = StoreWatch(config).read()
    assert reading is not None and booked(reading, device.model)


def test_a_taken_port_is_a_clear_error(config: Path, broker: Mosquitto) -> None:
    taken = config.read_text().replace("metrics_port = 0", f"metrics_port = {broker.port}")
    config.write_text(taken.replace("port = 0", f"port = {broker.port}"))
    for role, words in (("fleet", "the fleet service's metrics cannot listen"), ("web", "page cannot listen")):
        process = CloudRole(config, role)
        assert process.wait() == 2
        assert words in "".join(process.log)
