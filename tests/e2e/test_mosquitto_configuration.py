"""The broker's configuration as it is shipped: mosquitto starts on it and is closed to all who should stay out."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import aiomqtt
import anyio
import pytest

from deploy.demo.access import password_line
from deploy.demo.broker import ACL_FILE, find_mosquitto
from deploy.demo.configuration import choose_ports
from deploy.demo.plans import accepts
from deploy.demo.processes import DemoProcess, ProcessPlan, Warden
from shared.clock import SystemClock
from shared.mqtt import BrokerAddress, BrokerLink, Message

pytestmark = pytest.mark.skipif(
    find_mosquitto() is None or shutil.which("openssl") is None, reason="mosquitto or openssl is not installed"
)
TOPIC = "tandem/v1/devices/device-1/presence"


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """The port of a mosquitto that runs on the shipped files, moved from /etc/mosquitto to a folder of the test."""
    number = choose_ports(1, 8090).broker
    configuration = write_installation(tmp_path, number)
    warden = Warden(tmp_path.name)
    command = (find_mosquitto() or "", "-c", str(configuration))
    process = DemoProcess(ProcessPlan("mosquitto", command, tmp_path / "log", accepts(number)), warden.mark)
    process.start()
    anyio.run(process.wait_until_ready)
    yield number
    anyio.run(process.stop)
    warden.close()


def write_installation(folder: Path, port: int) -> Path:
    (folder / "certs").mkdir()
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    key, certificate = folder / "certs" / "server.key", folder / "certs" / "server.crt"
    make = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject)
    subprocess.run([*make, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    (folder / "passwords").write_text(password_line("device-1", "one", bytes(12)) + "\n", encoding="utf-8")
    shutil.copy(ACL_FILE, folder / "acl")
    text = (ACL_FILE.parent / "mosquitto.conf").read_text(encoding="utf-8")
    text = text.replace("/etc/mosquitto", str(folder)).replace("/var/lib/mosquitto", str(folder))
    text = text.replace("listener 8883", f"listener {port} 127.0.0.1")
    (folder / "mosquitto.conf").write_text(f"{text}\nuser {folder.owner()}\n", encoding="utf-8")
    return folder / "mosquitto.conf"


def test_a_device_gets_in_with_its_password_over_tls_and_keeps_its_words(port: int, tmp_path: Path) -> None:
    tls = ssl.create_default_context(cafile=str(tmp_path / "certs" / "server.crt"))

    async def play() -> bytes:
        async with aiomqtt.Client(
            "127.0.0.1", port, username="device-1", password="one", tls_context=tls, timeout=5
        ) as client:
            await client.publish(TOPIC, b"here", qos=1, retain=True)
            await client.subscribe(TOPIC, qos=1)
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                return message.payload
        raise AssertionError("the connection ended")

    assert anyio.run(play) == b"here"


def test_the_link_over_tls_loses_nothing_large_or_frequent(port: int, tmp_path: Path) -> None:
    authority = str(tmp_path / "certs" / "server.crt")
    payloads = [bytes([number]) * size for number in range(40) for size in (1, 900, 20_000)] + [bytes(900_000)]
    heard: list[bytes] = []

    async def play() -> None:
        has_heard_all = anyio.Event()

        async def hear(message: Message) -> None:
            heard.append(message.payload)
            if len(heard) == len(payloads):
                has_heard_all.set()

        async def speak() -> None:
            async with anyio.create_task_group() as publishing:
                for payload in payloads:
                    publishing.start_soon(partial(link.publish, TOPIC, payload, retain=False))

        address = BrokerAddress("127.0.0.1", port, "device-1", "one", authority)
        link = BrokerLink(address, "device-1", SystemClock(), subscriptions=(TOPIC,), on_connect=speak, on_message=hear)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(link.run)
                await has_heard_all.wait()
                tasks.cancel_scope.cancel()

    anyio.run(play)
    assert heard == payloads


@pytest.mark.parametrize(
    ("user", "password", "tls"), [(None, None, True), ("device-1", "wrong", True), ("device-1", "one", False)]
)
def test_who_has_no_password_or_no_tls_stays_out(
    port: int, tmp_path: Path, user: str | None, password: str | None, tls: bool
) -> None:
    context = ssl.create_default_context(cafile=str(tmp_path / "certs" / "server.crt")) if tls else None

    async def enter() -> None:
        async with aiomqtt.Client("127.0.0.1", port, username=user, password=password, tls_context=context, timeout=3):
            pass

    with pytest.raises(aiomqtt.MqttError):
        anyio.run(enter)
