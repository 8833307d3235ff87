"""Blocks through a real mosquitto: restarts, several publishers, many devices, bounded rates."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from cloud_service.delivery.bucket_files import BucketFiles
from shared import topics
from shared.clock import SystemClock
from shared.errors import FetchFailed, FileNotThere
from shared.mqtt import BrokerAddress, BrokerLink, Message
from shared.pb import fleet_pb2
from shared.update.blocks import BlockRange, BlockRequest
from shared.update.codec import decode_block, decode_publisher, encode_block_request
from tests.support.bucket import needs_obstore
from tests.support.mosquitto import EXECUTABLE, Mosquitto
from tests.support.repository_files import (
    BIG,
    EMPTY,
    PLENTY,
    QUICK,
    LinkedPublisher,
    LinkedSource,
    chunk_names,
    read_all,
    serving,
    write_repository,
)
from tests.support.tiny_s3 import open_s3, serving_s3

pytestmark = [pytest.mark.skipif(EXECUTABLE is None, reason="mosquitto is not installed"), pytest.mark.anyio]
_PATIENCE_S = 60.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def until(condition: Callable[[], bool], what: str) -> None:
    until_s = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s, f"waited in vain: {what}"
        await anyio.sleep(0.01)


async def test_files_come_whole_through_the_deployed_rules(tmp_path: Path) -> None:
    files = write_repository(tmp_path / "repository")
    words = {"d1": "one", "d2": "two", "tandem-publisher": "three"}
    with Mosquitto(tmp_path / "broker", words) as broker:
        device = LinkedSource(broker.port, "d1", password="one")
        publisher = LinkedPublisher(broker.port, "tandem-publisher", tmp_path / "repository", password="three")
        async with anyio.create_task_group() as tasks, serving(publisher):
            tasks.start_soon(device.link.run)
            assert await read_all(device.source, BIG) == files[BIG]
            assert await read_all(device.source, EMPTY) == b""
            names = chunk_names(files)
            got = {path: data async for path, data in device.source.read_many(names, most_bytes=20_000)}
            assert got == {name: files[name] for name in names}
            with pytest.raises(FileNotThere):
                await read_all(device.source, "metadata/9.root.json")
            tasks.cancel_scope.cancel()


@needs_obstore
async def test_many_devices_that_follow_one_hint_are_few_requests_to_the_bucket(tmp_path: Path) -> None:
    files = write_repository(tmp_path / "repository")
    with Mosquitto(tmp_path / "broker") as broker, serving_s3(tmp_path / "repository") as s3:
        bucket = BucketFiles(open_s3(s3), SystemClock())
        publisher = LinkedPublisher(broker.port, "p1", bucket)
        devices = [LinkedSource(broker.port, f"d{number}") for number in range(10)]
        got: list[dict[str, bytes]] = []

        async def follow(device: LinkedSource) -> None:
            paths = ["metadata/timestamp.json", *chunk_names(files)]
            got.append({path: data async for path, data in device.source.read_many(paths, most_bytes=20_000)})

        async with anyio.create_task_group() as tasks, serving(publisher):
            for device in devices:
                tasks.start_soon(device.link.run)
            await until(lambda: all(each.link.statistics().connected for each in devices), "connections")
            async with anyio.create_task_group() as following:
                for device in devices:
                    following.start_soon(follow, device)
            tasks.cancel_scope.cancel()
        wanted = {path: data for path, data in files.items() if path not in (BIG, EMPTY)}
        assert got == [wanted] * len(devices)
        assert sorted(set(s3.asked)) == sorted(f"GET {path}" for path in wanted)
        assert all(s3.asked.count(f"GET {path}") == 1 for path in chunk_names(files))


async def test_a_device_can_neither_serve_nor_ask_in_another_ones_name(tmp_path: Path) -> None:
    write_repository(tmp_path / "repository")
    with Mosquitto(tmp_path / "broker", {"d1": "one", "d2": "two", "tandem-publisher": "three"}) as broker:
        heard: list[Message] = []

        async def hear(message: Message) -> None:
            heard.append(message)

        address = BrokerAddress("127.0.0.1", broker.port, username="d2", password="two")
        thief = BrokerLink(address, "d2", SystemClock(), subscriptions=[topics.ALL_PUBLISHERS], on_message=hear)
        publisher = LinkedPublisher(broker.port, "tandem-publisher", tmp_path / "repository", password="three")
        async with anyio.create_task_group() as tasks, serving(publisher):
            tasks.start_soon(thief.run)
            await until(lambda: len(heard) == 1, "the publisher's presence")
            request = encode_block_request(BlockRequest("r1", (BlockRange(BIG),), 4096))
            await thief.publish(topics.block_request("d1"), request, retain=False)
            await thief.publish(topics.publisher("d2"), heard[0].payload, retain=True)
            await anyio.sleep(0.3)
            assert publisher.publisher.statistics().requests == 0
            assert len(heard) == 1
            tasks.cancel_scope.cancel()


async def test_a_broker_that_starts_again_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    files = write_repository(tmp_path / "repository", big_bytes=2_000_000)
    with Mosquitto(tmp_path / "broker") as broker:
        device = LinkedSource(broker.port, "d1")
        publisher = LinkedPublisher(broker.port, "p1", tmp_path / "repository")
        got = b""
        async with anyio.create_task_group() as tasks, serving(publisher):
            tasks.start_soon(device.link.run)
            with anyio.fail_after(_PATIENCE_S):
                async for data in device.source.read(BIG, most_bytes=1 << 30):
                    if not got:
                        await anyio.to_thread.run_sync(broker.kill)
                        await anyio.to_thread.run_sync(broker.start)
                    got += data
            tasks.cancel_scope.cancel()
        assert device.link.statistics().connections == 2
        assert got == files[BIG]


async def test_of_two_publishers_one_may_die(tmp_path: Path) -> None:
    files = write_repository(tmp_path / "repository", big_bytes=2_000_000)
    with Mosquitto(tmp_path / "broker") as broker:
        device = LinkedSource(broker.port, "d1")
        slow = replace(PLENTY, device_bytes_s=800_000.0)
        publishers = [LinkedPublisher(broker.port, name, tmp_path / "repository", slow) for name in ("p1", "p2")]
        got = b""
        async with anyio.create_task_group() as tasks:
            scopes = {}
            for each in publishers:
                scopes[each.publisher] = scope = anyio.CancelScope()
                tasks.start_soon(_within, scope, each)
            tasks.start_soon(device.link.run)
            with anyio.fail_after(_PATIENCE_S):
                async for data in device.source.read(BIG, most_bytes=1 << 30):
                    if not got:
                        serves = max(publishers, key=lambda each: each.publisher.statistics().bytes_sent)
                        scopes[serves.publisher].cancel()
                    got += data
            tasks.cancel_scope.cancel()
        assert got == files[BIG]
        assert all(each.publisher.statistics().bytes_sent for each in publishers)


async def _within(scope: anyio.CancelScope, publisher: LinkedPublisher) -> None:
    with scope:
        await publisher.run()


async def test_twenty_devices_at_once_share_what_there_is(tmp_path: Path) -> None:
    files = write_repository(tmp_path / "repository", big_bytes=200_000)
    devices = [f"d{number}" for number in range(20)]
    with Mosquitto(tmp_path / "broker") as broker:
        publisher = LinkedPublisher(
            broker.port, "p1", tmp_path / "repository", replace(PLENTY, total_bytes_s=1_000_000.0)
        )
        got: dict[str, bytes] = {}
        ended_s: dict[str, float] = {}

        async def fetch(name: str) -> None:
            device = LinkedSource(broker.port, name, replace(QUICK, least_timeout_s=1.0, longest_timeout_s=10.0))
            async with anyio.create_task_group() as own:
                own.start_soon(device.link.run)
                await until(lambda: device.link.statistics().connected, "a connection")
                everyone.append(name)
                await until(lambda: len(everyone) == len(devices), "all devices")
                got[name] = await read_all(device.source, BIG)
                ended_s[name] = time.monotonic()
                own.cancel_scope.cancel()

        everyone: list[str] = []
        async with serving(publisher), anyio.create_task_group() as tasks:
            began_s = time.monotonic()
            for name in devices:
                tasks.start_soon(fetch, name)
        assert got == dict.fromkeys(devices, files[BIG])
        took = sorted(at_s - began_s for at_s in ended_s.values())
        alone_s = len(files[BIG]) / 1_000_000
        assert took[0] > 4 * alone_s, "the first was served at the cost of the last"
        sent = publisher.publisher.statistics().bytes_sent
        assert sent <= 1_000_000 * (took[-1] + 1.5)


async def test_a_publisher_answers_nothing_outside_its_folder_and_lives_on(tmp_path: Path) -> None:
    files = write_repository(tmp_path / "repository")
    (tmp_path / "secret.json").write_text("s")
    (tmp_path / "repository" / "metadata" / "link.json").symlink_to(tmp_path / "secret.json")
    (tmp_path / "repository" / "metadata" / "folder").mkdir()
    heard: list[Message] = []

    async def hear(message: Message) -> None:
        heard.append(message)

    with Mosquitto(tmp_path / "broker") as broker:
        publisher = LinkedPublisher(broker.port, "p1", tmp_path / "repository")
        link = BrokerLink(
            BrokerAddress("127.0.0.1", broker.port),
            "d1",
            SystemClock(),
            subscriptions=[topics.block_data("d1")],
            on_message=hear,
        )
        async with anyio.create_task_group() as tasks, serving(publisher):
            tasks.start_soon(link.run)
            await until(lambda: link.statistics().connected and publisher.link.statistics().connected, "connections")
            for path in ("metadata/../../secret.json", "../secret.json", "/etc/passwd", "metadata/.hidden", ""):
                wild = fleet_pb2.BlockRequest(request_id="r1", block_bytes=4096)
                wild.ranges.add(path=path)
                await link.publish(topics.block_request("d1"), wild.SerializeToString(), retain=False)
            for payload in (b"\xff" * 100, b"", b"x" * 700_000):
                await link.publish(topics.block_request("d1"), payload, retain=False)
            await until(lambda: publisher.publisher.statistics().malformed == 8, "eight malformed requests")
            assert not heard
            ranges = [
                BlockRange("metadata/link.json"),
                BlockRange("metadata/folder"),
                BlockRange(BIG, (1 << 63) - 1, 1 << 63),
                BlockRange(BIG, 299_999, 1 << 60),
            ]
            for each in ranges:
                request = encode_block_request(BlockRequest("r1", (each,), 4096))
                await link.publish(topics.block_request("d1"), request, retain=False)
            await until(lambda: len(heard) == 4, "four answers")
            blocks = [decode_block(message.payload) for message in heard]
            assert [block.is_missing for block in blocks] == [True, True, True, False]
            assert blocks[3].data == files[BIG][-1:]
            tasks.cancel_scope.cancel()


async def test_presence_is_retained_and_the_last_will_takes_it_back(tmp_path: Path) -> None:
    write_repository(tmp_path / "repository")
    seen: list[bool] = []

    async def hear(message: Message) -> None:
        seen.append(decode_publisher(message.payload).online)

    with Mosquitto(tmp_path / "broker") as broker:
        publisher = LinkedPublisher(broker.port, "p1", tmp_path / "repository")
        ear = BrokerLink(
            BrokerAddress("127.0.0.1", broker.port), "ear", SystemClock(),
            subscriptions=[topics.ALL_PUBLISHERS], on_message=hear,
        )  # fmt: skip
        async with anyio.create_task_group() as tasks:
            async with serving(publisher):
                await until(lambda: publisher.link.statistics().connected, "a connection")
                tasks.start_soon(ear.run)
                await until(lambda: seen == [True], "its presence")
                await publisher.publisher.farewell()
            await until(lambda: seen == [True, False], "its end")
            tasks.cancel_scope.cancel()


async def test_without_a_broker_it_ends_with_a_reason() -> None:
    device = LinkedSource(1, "d1", replace(QUICK, stalled_after_s=0.3))
    with pytest.raises(FetchFailed, match="nothing came"):
        await read_all(device.source, BIG)
