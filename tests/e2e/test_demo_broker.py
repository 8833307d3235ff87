"""The demo's brokers keep devices apart: real clients, on mosquitto and on the embedded broker."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import anyio
import pytest

from deploy.demo.broker import BrokerKind, find_mosquitto, plan_broker
from deploy.demo.configuration import choose_ports
from deploy.demo.errors import DemoError
from deploy.demo.plans import accepts
from deploy.demo.processes import DemoProcess, ProcessPlan, Warden

PREFIX = "tandem/v1/devices"
PASSWORDS = {"device-1": "one", "device-2": "two", "tandem-fleet": "fleet"}
ENOUGH_S = 0.3
KINDS = [
    pytest.param(
        BrokerKind.MOSQUITTO,
        marks=pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed"),
    ),
    BrokerKind.EMBEDDED,
]


class Broker:
    """A running broker and ways to be its client."""

    def __init__(self, port: int, process: DemoProcess) -> None:
        self.port = port
        self.process = process

    def client(
        self, user: str | None, password: str | None = None, name: str | None = None, will: aiomqtt.Will | None = None
    ) -> aiomqtt.Client:
        right = PASSWORDS.get(user or "")
        return aiomqtt.Client(
            "127.0.0.1", self.port, username=user, password=password or right, identifier=name, will=will, timeout=5
        )


@pytest.fixture(params=KINDS)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    port = choose_ports(1, 8090).broker
    plan = plan_broker(request.param, tmp_path / "broker", port, PASSWORDS)
    warden = Warden(tmp_path.name)
    process = DemoProcess(ProcessPlan("broker", plan.command, tmp_path / "broker.log", accepts(port)), warden.mark)
    process.start()
    anyio.run(process.wait_until_ready)
    yield Broker(port, process)
    anyio.run(process.stop)
    warden.close()


@asynccontextmanager
async def collecting(client: aiomqtt.Client, *topics: str) -> AsyncIterator[list[tuple[str, bytes]]]:
    """What `client` gets on `topics` while the block runs, and a moment longer."""
    seen: list[tuple[str, bytes]] = []

    async def collect() -> None:
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            seen.append((str(message.topic), message.payload))

    async with anyio.create_task_group() as group:
        group.start_soon(collect)
        for topic in topics:
            await client.subscribe(topic, qos=1)
        yield seen
        await anyio.sleep(ENOUGH_S)
        group.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("user", "password"), [(None, None), ("device-1", "two"), ("device-3", "one"), ("tandem-fleet", "one")]
)
def test_who_has_no_password_stays_out(broker: Broker, user: str | None, password: str | None) -> None:
    async def enter() -> None:
        async with broker.client(user, password):
            pass

    with pytest.raises(aiomqtt.MqttError):
        anyio.run(enter)


def test_a_device_is_heard_by_the_fleet_and_hears_itself(broker: Broker) -> None:
    own = f"{PREFIX}/device-1/presence"

    async def play() -> tuple[list[tuple[str, bytes]], list[tuple[str, bytes]]]:
        async with (
            broker.client("tandem-fleet") as fleet,
            broker.client("device-1") as device,
            collecting(fleet, f"{PREFIX}/+/presence") as heard,
            collecting(device, own) as echoed,
        ):
            await device.publish(own, b"here", qos=1)
        return heard, echoed

    assert anyio.run(play) == ([(own, b"here")], [(own, b"here")])


@pytest.mark.parametrize(
    "filter_", ["#", f"{PREFIX}/#", f"{PREFIX}/+/presence", f"{PREFIX}/device-1/#", f"{PREFIX}/device-1/presence"]
)
def test_a_device_cannot_read_anothers_topics(broker: Broker, filter_: str) -> None:
    async def play() -> list[tuple[str, bytes]]:
        async with broker.client("device-1") as victim, broker.client("device-2") as spy:
            await victim.publish(f"{PREFIX}/device-1/presence", b"kept", qos=1, retain=True)
            async with collecting(spy, filter_) as seen:
                await victim.publish(f"{PREFIX}/device-1/presence", b"new", qos=1)
        return seen

    assert anyio.run(play) == []


def test_a_device_that_comes_late_gets_nothing_that_the_fleet_had_asked_for(broker: Broker) -> None:
    async def play() -> list[tuple[str, bytes]]:
        async with broker.client("tandem-fleet") as fleet, broker.client("device-1") as device:
            await fleet.subscribe(f"{PREFIX}/#", qos=1)
            await device.publish(f"{PREFIX}/device-1/presence", b"kept", qos=1, retain=True)
            async with broker.client("device-2") as spy, collecting(spy) as seen:
                pass
        return seen

    assert anyio.run(play) == []


@pytest.mark.parametrize("topic", [f"{PREFIX}/device-1/presence", f"{PREFIX}/device-1/models/m/telemetry", "other"])
def test_a_device_cannot_publish_as_another(broker: Broker, topic: str) -> None:
    async def play() -> list[tuple[str, bytes]]:
        async with (
            broker.client("tandem-fleet") as fleet,
            broker.client("device-2") as liar,
            collecting(fleet, f"{PREFIX}/#") as seen,
        ):
            await liar.publish(topic, b"lie", qos=1, retain=True)
        return seen

    assert anyio.run(play) == []


def test_the_fleet_service_cannot_speak_for_a_device(broker: Broker) -> None:
    async def play() -> list[tuple[str, bytes]]:
        async with (
            broker.client("tandem-fleet") as fleet,
            broker.client("device-1") as device,
            collecting(device, f"{PREFIX}/device-1/#") as seen,
        ):
            await fleet.publish(f"{PREFIX}/device-1/presence", b"lie", qos=1)
        return seen

    assert anyio.run(play) == []


@pytest.mark.parametrize("topic", [f"{PREFIX}/device-1/presence", f"{PREFIX}/device-2/presence"])
def test_a_last_will_is_heard_where_the_device_might_have_spoken_itself(broker: Broker, topic: str) -> None:
    async def play() -> list[tuple[str, bytes]]:
        async with broker.client("tandem-fleet") as fleet, collecting(fleet, f"{PREFIX}/#") as seen:
            await die(broker, topic)
        return seen

    assert anyio.run(play) == ([(topic, b"gone")] if "device-2" in topic else [])


async def die(broker: Broker, topic: str) -> None:
    """As device-2: connect with a last will, and vanish without a word."""
    code = (
        "import os, sys, paho.mqtt.client as mqtt; client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2); "
        "client.username_pw_set('device-2', 'two'); client.will_set(sys.argv[2], b'gone', qos=1, retain=True); "
        "client.on_connect = lambda *_: os._exit(1); client.connect('127.0.0.1', int(sys.argv[1])); "
        "client.loop_forever(retry_first_connection=False)"
    )
    await anyio.run_process([sys.executable, "-c", code, str(broker.port), topic], check=False)


@pytest.mark.parametrize(("user", "password"), [("device-2", "two"), (None, None), ("tandem-fleet", "wrong")])
def test_nobody_takes_the_fleets_place_by_its_client_id(broker: Broker, user: str | None, password: str | None) -> None:
    own = f"{PREFIX}/device-1/presence"

    async def play() -> list[tuple[str, bytes]]:
        async with (
            broker.client("tandem-fleet", name="tandem-fleet") as fleet,
            broker.client("device-1") as device,
            collecting(fleet, f"{PREFIX}/+/presence") as heard,
        ):
            await intrude(broker, user, password)
            await device.publish(own, b"here", qos=1)
        return heard

    assert anyio.run(play) == [(own, b"here")]


async def intrude(broker: Broker, user: str | None, password: str | None) -> None:
    """Connect under the fleet's client id, with and without keeping its place in the broker."""
    for clean in (True, False):
        client = aiomqtt.Client(
            "127.0.0.1", broker.port, username=user, password=password, identifier="tandem-fleet", clean_session=clean
        )
        with contextlib.suppress(aiomqtt.MqttError):
            async with client:
                await anyio.sleep(0.1)


def test_a_device_that_connects_anew_takes_its_own_place(broker: Broker) -> None:
    own = f"{PREFIX}/device-1/presence"

    async def play() -> list[tuple[str, bytes]]:
        async with broker.client("tandem-fleet") as fleet, collecting(fleet, f"{PREFIX}/+/presence") as heard:
            old = broker.client("device-1", will=aiomqtt.Will(own, b"gone", qos=1, retain=True))
            await old.__aenter__()
            async with broker.client("device-1") as new:
                await anyio.sleep(ENOUGH_S)
                await new.publish(own, b"here", qos=1, retain=True)
                await anyio.sleep(ENOUGH_S)
            with contextlib.suppress(aiomqtt.MqttError):
                await old.__aexit__(None, None, None)
        return heard

    assert anyio.run(play)[-1] == (own, b"here")


def test_secrets_are_files_that_nobody_else_may_read(broker: Broker, tmp_path: Path) -> None:
    for file in (tmp_path / "broker").iterdir():
        assert file.stat().st_mode & 0o077 == 0, file.name


def test_the_broker_stops_when_it_is_told_to(broker: Broker) -> None:
    pid = broker.process.pid
    assert pid is not None

    async def play() -> None:
        with anyio.fail_after(5):
            await broker.process.stop()

    anyio.run(play)
    assert broker.process.pid is None


def test_mosquitto_that_is_wanted_and_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.demo.broker.find_mosquitto", lambda: None)
    with pytest.raises(DemoError, match="--broker embedded"):
        plan_broker(BrokerKind.MOSQUITTO, tmp_path, 1883, PASSWORDS)
    assert plan_broker(BrokerKind.AUTO, tmp_path, 1883, PASSWORDS).kind is BrokerKind.EMBEDDED
