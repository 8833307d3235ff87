from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from shared import topics
from shared.codec import decode_presence, decode_telemetry
from shared.types import ModelTelemetry, Presence
from tests.support.agent_process import AgentProcess
from tests.support.edge_parts import assert_counters_add_up
from tests.support.mosquitto import EXECUTABLE, Mosquitto

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="mosquitto is not installed")

WriteConfig = Callable[..., Path]
_PATIENCE_S = 15.0


class Ear:
    """Remembers the newest presence and telemetry that the broker has of a device."""

    def __init__(self) -> None:
        self.presence: Presence | None = None
        self.telemetry: ModelTelemetry | None = None
        self.unreadable = 0

    def hear(self, topic: str, payload: bytes) -> None:
        kind = topics.parse(topic).kind
        if kind == "presence":
            self.presence = decode_presence(payload)
        elif kind == "telemetry":
            self.telemetry = decode_telemetry(payload)
            assert_counters_add_up(self.telemetry.counters)

    def wait_until(self, condition: Callable[[Ear], bool]) -> None:
        until_s = time.monotonic() + _PATIENCE_S
        while not condition(self):
            assert time.monotonic() < until_s, f"{self.presence} {self.telemetry}"
            time.sleep(0.02)


@contextmanager
def listening(port: int, username: str | None = None, password: str | None = None) -> Iterator[Ear]:
    ear = Ear()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(username, password)
    client.on_message = lambda client, data, message: ear.hear(message.topic, bytes(message.payload))
    client.on_connect = lambda client, *rest: client.subscribe(topics.ROOT + "/#", qos=1)
    client.reconnect_delay_set(1, 1)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        yield ear
    finally:
        client.disconnect()
        client.loop_stop()


def broker_section(broker: Mosquitto, more: str = "") -> str:
    return f'[broker]\nhost = "127.0.0.1"\nport = {broker.port}\ntelemetry_interval_ms = 100\n{more}'


def served(ear: Ear, count: int) -> bool:
    if ear.telemetry is None:
        return False
    return ear.telemetry.counters.received == count and ear.telemetry.counters.in_flight == 0


def online(ear: Ear) -> bool:
    return ear.presence is not None and ear.presence.online


def offline(ear: Ear) -> bool:
    return ear.presence is not None and not ear.presence.online


def test_a_device_reports_its_counts_and_says_goodbye(tmp_path: Path, write_config: WriteConfig) -> None:
    with Mosquitto(tmp_path / "broker") as broker, AgentProcess(write_config(broker_section(broker))) as agent:
        with listening(broker.port) as ear:
            agent.post([{"text": "card"}, {"text": "card cash"}, {"text": ""}])
            ear.wait_until(lambda ear: served(ear, 3) and online(ear))
        telemetry = ear.telemetry
        assert telemetry is not None and telemetry.cloud_link == "none" and telemetry.gate.threshold == 0.9
        assert telemetry.reasons == {"confident": 1, "no_cloud": 1, "bad_input": 1}
        agent.post({"text": "card"})
        assert agent.terminate() == 0
        with listening(broker.port) as ear:
            ear.wait_until(lambda ear: served(ear, 4) and offline(ear))
        assert ear.presence is not None and ear.presence.boot_id == telemetry.boot_id


def test_a_killed_device_is_offline_by_its_last_will(tmp_path: Path, write_config: WriteConfig) -> None:
    with Mosquitto(tmp_path / "broker") as broker, listening(broker.port) as ear:
        with AgentProcess(write_config(broker_section(broker))):
            ear.wait_until(online)
        ear.wait_until(offline)


def test_a_killed_broker_costs_no_count_once_it_is_back(tmp_path: Path, write_config: WriteConfig) -> None:
    with Mosquitto(tmp_path / "broker") as broker, AgentProcess(write_config(broker_section(broker))) as agent:
        with listening(broker.port) as ear:
            agent.post({"text": "card"})
            ear.wait_until(lambda ear: served(ear, 1))
        broker.kill()
        assert agent.post({"text": "card"})[0] == 200
        broker.start()
        with listening(broker.port) as ear:
            ear.wait_until(lambda ear: served(ear, 2) and online(ear))


def test_an_agent_that_starts_before_its_broker_finds_it_later(tmp_path: Path, write_config: WriteConfig) -> None:
    broker = Mosquitto(tmp_path / "broker")
    with AgentProcess(write_config(broker_section(broker))) as agent:
        assert agent.post({"text": "card"})[0] == 200
        with broker, listening(broker.port) as ear:
            ear.wait_until(lambda ear: served(ear, 1) and online(ear))


def test_a_device_logs_in_by_itself_and_hears_nothing_of_another(tmp_path: Path, write_config: WriteConfig) -> None:
    (tmp_path / "password").write_text("open\n")
    section = 'password_file = "password"\n'
    with (
        Mosquitto(tmp_path / "broker", {"d1": "open", "d2": "other"}) as broker,
        AgentProcess(write_config(broker_section(broker, section))),
        listening(broker.port, "d1", "open") as own,
        listening(broker.port, "d2", "other") as stranger,
    ):
        own.wait_until(online)
        own.wait_until(lambda ear: ear.telemetry is not None and ear.telemetry.sequence > 3)
        assert stranger.presence is None and stranger.telemetry is None
