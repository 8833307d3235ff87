"""Thousands of devices as real MQTT 3.1.1 clients in few processes: one connection and one last will each.

The packets are written here by hand (OASIS MQTT 3.1.1, section 3), because a client library's threads and queues
would cost more than the service that is measured. `python -m tests.support.device_swarm '{...}'` is one process;
`Swarm` starts several and adds up what they say.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import cast

import anyio
import uvloop

from shared import topics
from shared.types import RequestCounters
from tests.support.swarm_words import MODEL, Profile, Vocabulary, presence

ROOT = Path(__file__).resolve().parents[2]
_CONNACK, _PUBACK, _PINGRESP = 0x20, 0x40, 0xD0
_CONNECTS_PER_S = 400
_RECONNECT_S = 1.0
_CONNECT_TIMEOUT_S = 60.0
_LAST_WORD_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Plan:
    """Which devices one process plays, and how. Each reports at every interval, `steps` times in all."""

    port: int
    first: int
    devices: int
    interval_s: float
    steps: int

    @property
    def keepalive_s(self) -> int:
        """Long enough that the reports themselves keep the connection alive (3.1.2.10)."""
        return max(60, round(self.interval_s * 3))


@dataclass(frozen=True)
class Outcome:
    """What became of a plan. `messages` and `acknowledged` count telemetry; `lost_links` connections that broke."""

    counters: RequestCounters
    messages: int
    acknowledged: int
    lost_links: int
    latest_s: float
    cpu_s: float


class Device(asyncio.Protocol):
    """One client. `steps` is how many times it has reported."""

    def __init__(self, number: int, plan: Plan, vocabulary: Vocabulary) -> None:
        self.number = number
        self.device_id = f"device-{number:05d}"
        self.steps = self.messages = self.acknowledged = self.lost_links = 0
        self.is_ready, self.is_acknowledged = asyncio.Event(), asyncio.Event()
        self._plan = plan
        self._vocabulary = vocabulary
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._packet = 0
        self._telemetry_packets: set[int] = set()
        self._is_leaving = False

    async def connect(self) -> None:
        """Open the connection; `is_ready` is set once the broker has taken it."""
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._plan.port)

    def report(self) -> None:
        """The next telemetry message. Where the connection is broken, the next one says it all again."""
        self.steps += 1
        self._say_counts()

    def leave(self) -> None:
        """DISCONNECT: the broker publishes no will."""
        self._is_leaving = True
        if self._transport:
            self._transport.write(b"\xe0\x00")
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's inherits from nothing of asyncio's
        self._transport.write(connect_packet(self.device_id, self._plan.keepalive_s))

    def data_received(self, data: bytes) -> None:
        """The broker's answers; all that a device without subscriptions hears are of 2 or 4 bytes."""
        received = self._received + data
        while len(received) >= 2 and len(received) >= 2 + received[1]:
            kind, body, received = received[0] & 0xF0, received[2 : 2 + received[1]], received[2 + received[1] :]
            if kind == _CONNACK:
                assert body[1] == 0, f"the broker refuses {self.device_id}: {body[1]}"
                self._welcome()
            elif kind == _PUBACK and int.from_bytes(body, "big") in self._telemetry_packets:
                self._telemetry_packets.discard(int.from_bytes(body, "big"))
                self.acknowledged += 1
                if not self._telemetry_packets:
                    self.is_acknowledged.set()
        self._received = received

    def connection_lost(self, error: Exception | None) -> None:
        self._transport, self._received = None, b""
        if not self._is_leaving:
            self.lost_links += 1
            asyncio.get_running_loop().call_later(_RECONNECT_S, self._begin_anew)

    def _begin_anew(self) -> None:
        self._again = asyncio.ensure_future(self.connect())

    def _welcome(self) -> None:
        self._publish(topics.presence(self.device_id), presence(self.device_id, online=True))
        if self.steps:
            self._say_counts()
        self.is_ready.set()

    def _say_counts(self) -> None:
        payload = self._vocabulary.telemetry(self.number, self.device_id, self.steps)
        packet = self._publish(topics.telemetry(self.device_id, MODEL.name), payload)
        if packet:
            self.messages += 1
            self._telemetry_packets.add(packet)
            self.is_acknowledged.clear()

    def _publish(self, topic: str, payload: bytes) -> int:
        """With QoS 1, retained. The packet's identifier, or 0 where there is no connection."""
        if self._transport is None:
            return 0
        self._packet = self._packet % 65_535 + 1
        self._transport.write(publish_packet(topic, payload, self._packet))
        return self._packet


def connect_packet(device_id: str, keepalive_s: int) -> bytes:
    """CONNECT with a clean session and the last will that says the device is gone (3.1)."""
    will_flag, will_qos_1, will_retain, clean_session = 0x04, 0x08, 0x20, 0x02
    flags = bytes([will_flag | will_qos_1 | will_retain | clean_session])
    head = _text("MQTT") + b"\x04" + flags + keepalive_s.to_bytes(2, "big")
    will = _text(topics.presence(device_id)), _sized(presence(device_id, online=False))
    return _packet(0x10, head + _text(device_id) + b"".join(will))


def publish_packet(topic: str, payload: bytes, identifier: int) -> bytes:
    """PUBLISH with QoS 1, retained (3.3)."""
    return _packet(0x33, _text(topic) + identifier.to_bytes(2, "big") + payload)


def _packet(first: int, body: bytes) -> bytes:
    """With the remaining length in seven bits a byte (2.2.3)."""
    length, digits = len(body), []
    while True:
        length, digit = divmod(length, 128)
        digits.append(digit | (0x80 if length else 0))
        if not length:
            return bytes([first, *digits]) + body


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _text(value: str) -> bytes:
    return _sized(value.encode())


async def connect_all(plan: Plan) -> list[Device]:
    """All devices of a plan, each connected, a few hundred a second."""
    vocabulary = Vocabulary()
    devices = [Device(plan.first + place, plan, vocabulary) for place in range(plan.devices)]
    for device in devices:
        await device.connect()
        await asyncio.sleep(1 / _CONNECTS_PER_S)
    for device in devices:
        await asyncio.wait_for(device.is_ready.wait(), _CONNECT_TIMEOUT_S)
    return devices


async def report_all(devices: list[Device], plan: Plan) -> float:
    """Every device in its turn, evenly over each interval. Returns by how much the latest one was late, seconds."""
    loop = asyncio.get_running_loop()
    began_s, latest_s = loop.time(), 0.0
    for step in range(plan.steps):
        for place, device in enumerate(devices):
            due_s = began_s + (step + place / len(devices)) * plan.interval_s
            if due_s > loop.time():
                await asyncio.sleep(due_s - loop.time())
            latest_s = max(latest_s, loop.time() - due_s)
            device.report()
    return latest_s


async def wait_for_acknowledgements(devices: list[Device]) -> None:
    """Until the broker has taken every message, or too long."""
    with anyio.move_on_after(_LAST_WORD_TIMEOUT_S):
        for device in devices:
            await device.is_acknowledged.wait()


async def play(plan: Plan) -> None:
    """Connect, wait for a line on standard input, report, say the outcome, and leave at the end of input."""
    devices = await connect_all(plan)
    _tell("connected")
    await asyncio.to_thread(sys.stdin.readline)
    latest_s = await report_all(devices, plan)
    await wait_for_acknowledgements(devices)
    _tell(json.dumps(asdict(outcome_of(devices, latest_s))))
    await asyncio.to_thread(sys.stdin.readline)
    for device in devices:
        device.leave()


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def outcome_of(devices: list[Device], latest_s: float) -> Outcome:
    """What these devices have done, and what they have told in all."""
    return Outcome(
        added([Profile.of(device.number).counters(device.steps) for device in devices]),
        sum(device.messages for device in devices),
        sum(device.acknowledged for device in devices),
        sum(device.lost_links for device in devices),
        latest_s,
        time.process_time(),
    )


def added(counters: list[RequestCounters]) -> RequestCounters:
    """The sum."""
    names = [item.name for item in fields(RequestCounters)]
    return RequestCounters(**{name: sum(getattr(each, name) for each in counters) for name in names})


class Swarm:
    """`with Swarm(port, 10_000, interval_s=10, steps=60) as swarm:` has all devices connected when the block begins."""

    def __init__(self, port: int, devices: int, *, interval_s: float, steps: int, processes: int = 2) -> None:
        bounds = [devices * place // processes for place in range(processes + 1)]
        plans = [
            Plan(port, bounds[place], bounds[place + 1] - bounds[place], interval_s, steps)
            for place in range(processes)
        ]
        self._players = [_started(plan) for plan in plans]

    def __enter__(self) -> Swarm:
        try:
            for player in self._players:
                assert _line(player) == "connected\n", "a process of the swarm did not connect"
        except AssertionError:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def begin(self) -> None:
        """All devices report from now on."""
        for player in self._players:
            _go_on(player)

    def outcome(self) -> Outcome:
        """Waits until every device has reported all its steps; the devices stay connected."""
        told = [json.loads(_line(player)) for player in self._players]
        return Outcome(
            added([RequestCounters(**each["counters"]) for each in told]),
            sum(each["messages"] for each in told),
            sum(each["acknowledged"] for each in told),
            sum(each["lost_links"] for each in told),
            max(each["latest_s"] for each in told),
            sum(each["cpu_s"] for each in told),
        )

    def leave(self) -> None:
        """Every device says that it goes, without its will."""
        for player in self._players:
            _go_on(player)
        for player in self._players:
            player.wait(_LAST_WORD_TIMEOUT_S)

    def kill(self) -> None:
        """SIGKILL: the broker publishes every will."""
        for player in self._players:
            player.kill()
            player.communicate()


def _started(plan: Plan) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.support.device_swarm", json.dumps(asdict(plan))]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _line(player: subprocess.Popen[str]) -> str:
    assert player.stdout is not None
    return player.stdout.readline()


def _go_on(player: subprocess.Popen[str]) -> None:
    assert player.stdin is not None
    player.stdin.write("\n")
    player.stdin.flush()


if __name__ == "__main__":
    uvloop.run(play(Plan(**json.loads(sys.argv[1]))))
