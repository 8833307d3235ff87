"""A folder that looks like a repository, and what is needed to serve and to fetch it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from cloud_service.delivery.fair_queue import DeliveryLimits
from cloud_service.delivery.files import FolderFiles, RepositoryFiles
from cloud_service.delivery.publisher import BlockPublisher
from edge_agent.update.mqtt_source import MqttSource
from edge_agent.update.windows import TransferLimits
from shared.clock import SystemClock
from shared.mqtt import BrokerAddress, BrokerLink
from shared.update.names import chunk_path

BIG = "targets/models/m/big.json"
EMPTY = "targets/models/m/empty.json"
QUICK = TransferLimits(
    block_bytes=4096,
    window_bytes=64 * 1024,
    first_timeout_s=0.2,
    least_timeout_s=0.05,
    longest_timeout_s=1.0,
    stalled_after_s=20.0,
)
PLENTY = DeliveryLimits(1e9, 1e9, 256 * 1024, 10_000, 1024)


def write_repository(folder: Path, *, big_bytes: int = 300_000, chunks: int = 40) -> dict[str, bytes]:
    """Files of random bytes, by their path."""
    drawn = random.Random(7)
    files = {BIG: drawn.randbytes(big_bytes), EMPTY: b"", "metadata/timestamp.json": b"{}"}
    for number in range(chunks):
        files[chunk_path(f"{number:064x}")] = drawn.randbytes(drawn.randrange(1, 20_000))
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return files


def chunk_names(files: dict[str, bytes]) -> list[str]:
    return [path for path in files if path.startswith("chunks/")]


async def read_all(source: MqttSource, path: str, most_bytes: int = 1 << 30) -> bytes:
    return b"".join([data async for data in source.read(path, most_bytes=most_bytes)])


class LinkedSource:
    """A device's source with a broker link of its own."""

    def __init__(self, port: int, device_id: str, limits: TransferLimits = QUICK, password: str | None = None) -> None:
        self.source = MqttSource(device_id, self._publish, SystemClock(), limits)
        self.link = BrokerLink(
            BrokerAddress("127.0.0.1", port, username=device_id if password else None, password=password),
            device_id,
            SystemClock(),
            subscriptions=self.source.subscriptions,
            on_connect=self.source.reconnected,
            on_message=self.source.hear,
        )

    async def _publish(self, topic: str, payload: bytes, *, retain: bool, qos: int) -> None:
        await self.link.publish(topic, payload, retain=retain, qos=qos)


class LinkedPublisher:
    """A publisher with a broker link of its own."""

    def __init__(
        self,
        port: int,
        name: str,
        place: Path | RepositoryFiles,
        limits: DeliveryLimits = PLENTY,
        password: str | None = None,
    ) -> None:
        files = FolderFiles(place) if isinstance(place, Path) else place
        self.publisher = BlockPublisher(name, files, self._publish, SystemClock(), limits)
        self.link = BrokerLink(
            BrokerAddress("127.0.0.1", port, username=name if password else None, password=password),
            name,
            SystemClock(),
            will=self.publisher.will,
            subscriptions=self.publisher.subscriptions,
            on_connect=self.publisher.introduce,
            on_message=self.publisher.hear,
        )

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.link.run)
            tasks.start_soon(self.publisher.run)

    async def _publish(self, topic: str, payload: bytes, *, retain: bool, qos: int = 1) -> None:
        await self.link.publish(topic, payload, retain=retain, qos=qos)


@asynccontextmanager
async def serving(*publishers: LinkedPublisher) -> AsyncIterator[None]:
    """Runs them until the block ends."""
    async with anyio.create_task_group() as tasks:
        for publisher in publishers:
            tasks.start_soon(publisher.run)
        yield
        tasks.cancel_scope.cancel()
