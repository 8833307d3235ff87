"""Blocks over MQTT through mosquitto, against a bare loop of the same client, and the memory that a delivery takes.

Publisher, device and broker are processes of their own. The bare loop is paho's own: the subscriber lets the publisher
have so many blocks under way as the device's window has, and throws them away. Rounds of both alternate.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import re
import tempfile
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path

import anyio
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from cloud_service.delivery.fair_queue import DeliveryLimits
from cloud_service.event_loop import run_on_event_loop
from edge_agent.update.windows import TransferLimits
from shared.update.blocks import MAX_BLOCK_BYTES
from shared.update.names import chunk_path
from tests.bench.report import Figure, finish
from tests.support.mosquitto import Mosquitto
from tests.support.repository_files import BIG, LinkedPublisher, LinkedSource

ROUNDS, ROUND_BYTES = 9, 128 << 20
SET_FILES, SET_FILE_BYTES = 200, 1_000_000
LIMITS = TransferLimits()
NO_LIMIT = DeliveryLimits(1e12, 1e12, MAX_BLOCK_BYTES, 10_000, 1024)
_DATA, _CREDIT = "bare/data", "bare/credit"


def bare_publisher(port: int, pipe: Connection) -> None:
    """Sends as many blocks as it is told."""
    payload = random.Random(1).randbytes(LIMITS.block_bytes)
    client = _bare_client(port, "bare-publisher", _CREDIT)

    def send(one: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        for _ in range(int(message.payload)):
            one.publish(_DATA, payload, 0)

    client.on_message = send
    pipe.send("ready")
    client.loop_forever()


def bare_subscriber(port: int, pipe: Connection) -> None:
    """Each "go" is answered with the seconds that a round took."""
    client = _bare_client(port, "bare-subscriber", _DATA)
    blocks, window = ROUND_BYTES // LIMITS.block_bytes, LIMITS.window_bytes // LIMITS.block_bytes
    quarter = window // 4
    counts = {"asked": 0, "came": 0, "bytes": 0}

    def hear(one: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        counts["came"] += 1
        counts["bytes"] += len(message.payload)
        more = min(quarter, blocks - counts["asked"])
        if more > 0 and counts["asked"] - counts["came"] <= window - quarter:
            counts["asked"] += more
            one.publish(_CREDIT, str(more), 0)

    client.on_message = hear
    pipe.send("ready")
    while pipe.recv() == "go":
        counts.update(asked=window, came=0, bytes=0)
        began_s = time.perf_counter()
        client.publish(_CREDIT, str(window), 0)
        while counts["came"] < blocks:
            client.loop(1.0)
        pipe.send(time.perf_counter() - began_s)


def block_publisher(port: int, folder: str, pipe: Connection) -> None:
    """The product's publisher, without limits of rate."""

    async def run() -> None:
        publisher = LinkedPublisher(port, "p1", Path(folder), NO_LIMIT)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publisher.run)
            await _until(lambda: publisher.link.statistics().connected)
            pipe.send("ready")

    run_on_event_loop(run())


def block_device(port: int, pipe: Connection) -> None:
    """The product's source. Each "go" is answered with the seconds that a round took."""

    async def rounds(device: LinkedSource) -> None:
        while await anyio.to_thread.run_sync(pipe.recv) == "go":
            began_s, came = time.perf_counter(), 0
            async for data in device.source.read(BIG, most_bytes=ROUND_BYTES):
                came += len(data)
            assert came == ROUND_BYTES, came
            pipe.send(time.perf_counter() - began_s)

    run_on_event_loop(_connected(port, rounds, pipe))


def growing_device(port: int, pipe: Connection) -> None:
    """Takes in a set of files in a fresh process; answers with by how many MB its memory grew at its highest."""

    async def fetch(device: LinkedSource) -> None:
        await anyio.to_thread.run_sync(pipe.recv)
        _forget_highest_memory()
        before_mb = _memory_mb("VmRSS")
        paths = [_set_path(number) for number in range(SET_FILES)]
        came = 0
        async for _, data in device.source.read_many(paths, most_bytes=SET_FILE_BYTES):
            hashlib.sha256(data).digest()
            came += len(data)
        assert came == SET_FILES * SET_FILE_BYTES, came
        pipe.send(_memory_mb("VmHWM") - before_mb)

    run_on_event_loop(_connected(port, fetch, pipe))


async def _connected(port: int, work: Callable[[LinkedSource], Awaitable[None]], pipe: Connection) -> None:
    device = LinkedSource(port, "d1", LIMITS)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(device.link.run)
        await _until(lambda: device.link.statistics().connected)
        pipe.send("ready")
        await work(device)
        tasks.cancel_scope.cancel()


async def _until(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until_s
        await anyio.sleep(0.01)


def _bare_client(port: int, name: str, topic: str) -> paho.Client:
    client = paho.Client(CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv311)
    client.max_inflight_messages_set(0)
    subscribed = []
    client.on_subscribe = lambda *_: subscribed.append(True)
    client.connect("127.0.0.1", port)
    while not client.is_connected():
        client.loop(1.0)
    client.subscribe(topic, 0)
    while not subscribed:
        client.loop(1.0)
    return client


def _memory_mb(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found
    return int(found[1]) / 1024


def _forget_highest_memory() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _set_path(number: int) -> str:
    return chunk_path(f"{number:064x}")


class Peer:
    """A process with a pipe; it is ready when this is made."""

    def __init__(self, target: Callable[..., None], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=target, args=(*arguments, theirs), daemon=True)
        self._process.start()
        assert self._pipe.recv() == "ready"

    def measure(self) -> float:
        """One round."""
        self._pipe.send("go")
        answer = self._pipe.recv()
        assert isinstance(answer, float)
        return answer

    def end(self) -> None:
        self._process.kill()
        self._process.join()


def rates(port: int, folder: Path) -> tuple[list[float], list[float]]:
    """MB/s of the bare loop and of ours, round by round; the first round of each warms up."""
    subscriber, _publisher = Peer(bare_subscriber, port), Peer(bare_publisher, port)
    publisher, device = Peer(block_publisher, port, str(folder)), Peer(block_device, port)
    bare, ours = [], []
    for _ in range(ROUNDS + 1):
        bare.append(ROUND_BYTES / 1e6 / subscriber.measure())
        ours.append(ROUND_BYTES / 1e6 / device.measure())
    for peer in (subscriber, _publisher, publisher, device):
        peer.end()
    return bare[1:], ours[1:]


def growth(port: int, folder: Path) -> float:
    """MB by which a fresh device process grows."""
    publisher, device = Peer(block_publisher, port, str(folder)), Peer(growing_device, port)
    grown = device.measure()
    for peer in (publisher, device):
        peer.end()
    return grown


def write_files(folder: Path) -> None:
    """One large file for the rates, and a set of chunks."""
    for path, length in [(BIG, ROUND_BYTES), *((_set_path(number), SET_FILE_BYTES) for number in range(SET_FILES))]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(os.urandom(length))


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name, Mosquitto(Path(name) / "broker") as broker:
        folder = Path(name) / "repository"
        write_files(folder)
        bare, ours = rates(broker.port, folder)
        grown = [growth(broker.port, folder) for _ in range(3)]
    size = f"blocks of {LIMITS.block_bytes >> 10} KiB, window {LIMITS.window_bytes >> 20} MiB, QoS 0"
    figures = [
        Figure.of(f"bare loop, {size}", bare, "MB/s"),
        Figure.of("blocks over MQTT, the same", ours, "MB/s"),
        Figure.of("their ratio, round by round", [b / a for a, b in zip(bare, ours, strict=True)], "", "≥ 0.5"),
        Figure.of(f"memory grown by {SET_FILES * SET_FILE_BYTES // 10**6} MB delivered", grown, "MB", "≤ 32"),
    ]
    finish(figures, __doc__ or "")


if __name__ == "__main__":
    main()
