"""Blocks over MQTT between a real source and real publishers, over links that misbehave."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from cloud_service.delivery.fair_queue import DeliveryLimits
from cloud_service.delivery.files import FolderFiles
from cloud_service.delivery.publisher import BlockPublisher
from edge_agent.update.mqtt_source import MqttSource
from edge_agent.update.windows import TransferLimits
from shared import topics
from shared.clock import SystemClock
from shared.errors import FetchFailed, FileNotThere
from shared.mqtt import Message
from shared.update.blocks import Block, BlockRequest, PublisherPresence
from shared.update.codec import decode_block, decode_block_request, encode_block, encode_publisher
from tests.support.lossy_link import LossyLink
from tests.support.repository_files import BIG, EMPTY, PLENTY, QUICK, chunk_names, read_all, write_repository

pytestmark = pytest.mark.anyio
DEVICE = "d1"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def linked(**how: float) -> AsyncIterator[LossyLink]:
    async with anyio.create_task_group() as tasks:
        yield LossyLink(tasks, **how)  # type: ignore[arg-type]
        tasks.cancel_scope.cancel()


def source_on(link: LossyLink, limits: TransferLimits = QUICK) -> MqttSource:
    source = MqttSource(DEVICE, link.publish, SystemClock(), limits)
    for topic in source.subscriptions:
        link.listen(topic, source.hear)
    return source


async def publisher_on(
    link: LossyLink, folder: Path, name: str = "p1", limits: DeliveryLimits = PLENTY
) -> tuple[BlockPublisher, anyio.CancelScope]:
    publisher = BlockPublisher(name, FolderFiles(folder), link.publish, SystemClock(), limits)
    for topic in publisher.subscriptions:
        link.listen(topic, publisher.hear)
    await publisher.introduce()
    scope = anyio.CancelScope()

    async def run() -> None:
        with scope:
            await publisher.run()

    link.tasks.start_soon(run)
    return publisher, scope


Answer = Callable[[BlockRequest], list[Block]]


async def scripted(link: LossyLink, answer: Answer, name: str = "p1", waiting: int = 0) -> list[BlockRequest]:
    """A publisher that answers as it is told to."""
    heard: list[BlockRequest] = []

    async def hear(message: Message) -> None:
        request = decode_block_request(message.payload)
        if request.publisher == name:
            heard.append(request)
            for block in answer(request):
                await link.publish(topics.block_data(DEVICE), encode_block(block), retain=False)

    link.listen(topics.ALL_BLOCK_REQUESTS, hear)
    presence = PublisherPresence(name, True, 1, ranges_waiting=waiting)
    await link.publish(topics.publisher(name), encode_publisher(presence), retain=True)
    return heard


def faithful(data: bytes, name: str = "p1") -> Answer:
    def answer(request: BlockRequest) -> list[Block]:
        return [
            Block(request.request_id, name, each.path, each.offset, len(data), data[each.offset :][: each.length])
            for each in request.ranges
        ]

    return answer


@pytest.mark.parametrize("seed", range(4))
async def test_a_file_comes_whole_over_a_link_that_loses_doubles_and_reorders(tmp_path: Path, seed: int) -> None:
    files = write_repository(tmp_path)
    with anyio.fail_after(60):
        async with linked(lost_share=0.15, doubled_share=0.15, seed=seed) as link:
            await publisher_on(link, tmp_path)
            source = source_on(link)
            assert await read_all(source, BIG) == files[BIG]
            assert await read_all(source, EMPTY) == b""
            assert source.bytes_received >= len(files[BIG])


async def test_many_files_come_each_whole_over_a_lossy_link(tmp_path: Path) -> None:
    files = write_repository(tmp_path)
    names = chunk_names(files)
    with anyio.fail_after(60):
        async with linked(lost_share=0.1, doubled_share=0.1) as link:
            await publisher_on(link, tmp_path)
            got = {path: data async for path, data in source_on(link).read_many(names, most_bytes=20_000)}
    assert got == {name: files[name] for name in names}


async def test_files_longer_than_the_window_come_whole_too(tmp_path: Path) -> None:
    files = write_repository(tmp_path)
    names = [BIG, *chunk_names(files), EMPTY]
    with anyio.fail_after(60):
        async with linked() as link:
            await publisher_on(link, tmp_path)
            source = source_on(link, replace(QUICK, window_bytes=8192))
            assert {path: data async for path, data in source.read_many(names, most_bytes=1 << 20)} == {
                name: files[name] for name in names
            }


async def test_a_window_bounds_what_is_asked_for_and_not_yet_handed_on(tmp_path: Path) -> None:
    files = write_repository(tmp_path)
    async with linked() as link:
        await publisher_on(link, tmp_path)
        source = source_on(link)
        pieces = source.read(BIG, most_bytes=1 << 30)
        got = b""
        async for piece in pieces:
            got += piece
            await anyio.sleep(0.01)
            asked = {
                each
                for message in link.carried
                if message.topic == topics.block_request(DEVICE)
                for each in decode_block_request(message.payload).ranges
            }
            assert sum(each.length for each in asked) - len(got) <= QUICK.window_bytes + QUICK.block_bytes
        assert got == files[BIG]


async def test_a_missing_file_says_so_and_what_came_before_stands(tmp_path: Path) -> None:
    files = write_repository(tmp_path)
    names = chunk_names(files)[:5]
    async with linked() as link:
        await publisher_on(link, tmp_path)
        got = {}
        with pytest.raises(FileNotThere, match="chunks/ff"):
            async for path, data in source_on(link).read_many([*names, "chunks/ff/" + "f" * 64], most_bytes=20_000):
                got[path] = data
        assert got.items() <= {name: files[name] for name in names}.items()


async def test_a_file_longer_than_it_may_be_is_not_taken(tmp_path: Path) -> None:
    write_repository(tmp_path)
    async with linked() as link:
        await publisher_on(link, tmp_path)
        source = source_on(link)
        with pytest.raises(FetchFailed, match="300000 bytes, more than 1000"):
            await read_all(source, BIG, most_bytes=1000)
        assert source.bytes_received <= 1000


async def test_a_path_that_climbs_is_not_even_asked_for() -> None:
    async with linked() as link:
        source = source_on(link)
        for path in ("metadata/../../secret", "/etc/passwd", "targets/../targets/x", ".hidden"):
            with pytest.raises(FileNotThere, match="is no path in a repository"):
                await read_all(source, path)
        assert not link.carried


def bent(block: Block, data: bytes) -> list[Block]:
    """What a hostile publisher, or a stranger, may send beside the right block."""
    return [
        replace(block, request_id="0123456789abcdef"),
        replace(block, path="metadata/root.json"),
        replace(block, offset=block.offset + 1, file_length=len(data) + 1),
        replace(block, data=block.data[:-1]),
        replace(block, data=b""),
        replace(block, publisher="p9", data=b"", is_missing=True),
        replace(block, publisher="p9", data=b"", retry_after_ms=60_000),
    ]


@pytest.mark.parametrize("kind", range(7))
async def test_blocks_that_were_not_asked_for_change_nothing(kind: int) -> None:
    data = bytes(range(256)) * 200

    def answer(request: BlockRequest) -> list[Block]:
        right = faithful(data)(request)
        return [each for block in right for each in (bent(block, data)[kind], block, block)]

    with anyio.fail_after(30):
        async with linked(delay_s=0.0) as link:
            await scripted(link, answer)
            assert await read_all(source_on(link), BIG) == data


async def test_malformed_messages_change_nothing(tmp_path: Path) -> None:
    files = write_repository(tmp_path)
    async with linked() as link:
        await publisher_on(link, tmp_path)
        source = source_on(link)
        for payload in (b"", b"\xff" * 40, b"x" * 600_000):
            await source.hear(Message(topics.block_data(DEVICE), payload))
            await source.hear(Message(topics.publisher("p1"), payload))
        impostor = encode_publisher(PublisherPresence("p1", False, 1))
        await source.hear(Message(topics.publisher("p2"), impostor))
        assert await read_all(source, BIG) == files[BIG]


async def test_a_file_that_changes_on_the_way_is_not_pieced_together() -> None:
    def answer(request: BlockRequest) -> list[Block]:
        return [block for each in request.ranges for block in faithful(bytes(50_000 + (each.offset > 0)))(request)]

    async with linked() as link:
        await scripted(link, answer)
        with pytest.raises(FetchFailed, match="changed while it was fetched"):
            await read_all(source_on(link), BIG)


async def test_a_publisher_that_falls_silent_is_replaced_by_another(tmp_path: Path) -> None:
    files = write_repository(tmp_path)
    with anyio.fail_after(60):
        async with linked() as link:
            await scripted(link, lambda request: [], "dead")
            source = source_on(link)
            await anyio.sleep(0.05)
            reading = source.read(BIG, most_bytes=1 << 30)
            second, _ = await publisher_on(link, tmp_path, "p2")
            assert b"".join([data async for data in reading]) == files[BIG]
            assert second.statistics().bytes_sent >= len(files[BIG])


async def test_a_publisher_that_dies_in_the_middle_is_replaced_at_once(tmp_path: Path) -> None:
    files = write_repository(tmp_path)
    with anyio.fail_after(60):
        async with linked() as link:
            slow = replace(PLENTY, device_bytes_s=60_000.0)
            first, scope = await publisher_on(link, tmp_path, "p1", slow)
            source = source_on(link, replace(QUICK, first_timeout_s=20.0, least_timeout_s=20.0, longest_timeout_s=20.0))
            got = b""
            async for data in source.read(BIG, most_bytes=1 << 30):
                if not got:
                    await publisher_on(link, tmp_path, "p2")
                    scope.cancel()
                    link.forget(first.hear)
                    await link.publish(first.will.topic, first.will.payload, retain=True)
                got += data
            assert got == files[BIG]


async def test_a_publisher_that_starts_again_is_asked_again(tmp_path: Path) -> None:
    files = write_repository(tmp_path)
    with anyio.fail_after(60):
        async with linked() as link:
            first, scope = await publisher_on(link, tmp_path, limits=replace(PLENTY, device_bytes_s=60_000.0))
            source = source_on(link)
            got = b""
            async for data in source.read(BIG, most_bytes=1 << 30):
                if not got:
                    scope.cancel()
                    link.forget(first.hear)
                    await anyio.sleep(0.3)
                    await publisher_on(link, tmp_path)
                got += data
            assert got == files[BIG]


async def test_a_broker_that_is_away_for_a_while_delays_and_loses_nothing(tmp_path: Path) -> None:
    files = write_repository(tmp_path)
    with anyio.fail_after(60):
        async with linked() as link:
            await publisher_on(link, tmp_path)
            source = source_on(link)
            got = b""
            async for data in source.read(BIG, most_bytes=1 << 30):
                if not got:
                    link.is_down = True
                    link.tasks.start_soon(_bring_back, link, source)
                got += data
            assert got == files[BIG]


async def _bring_back(link: LossyLink, source: MqttSource) -> None:
    await anyio.sleep(0.4)
    link.is_down = False
    await source.reconnected()


async def test_word_to_ask_later_is_heeded() -> None:
    data = b"d" * 10_000
    refused_until = anyio.current_time() + 0.5
    early: list[float] = []

    def answer(request: BlockRequest) -> list[Block]:
        now = anyio.current_time()
        if now < refused_until:
            early.append(now)
            first = request.ranges[0]
            return [
                Block(request.request_id, "p1", first.path, first.offset, first.offset, retry_after_ms=600),
            ]
        return faithful(data)(request)

    with anyio.fail_after(30):
        async with linked() as link:
            await scripted(link, answer)
            assert await read_all(source_on(link), BIG) == data
    assert len(early) == 1


async def test_a_busy_publisher_sends_the_device_to_another_one(tmp_path: Path) -> None:
    files = write_repository(tmp_path)

    def busy(request: BlockRequest) -> list[Block]:
        first = request.ranges[0]
        return [Block(request.request_id, "p0", first.path, first.offset, first.offset, retry_after_ms=60_000)]

    with anyio.fail_after(30):
        async with linked() as link:
            heard = await scripted(link, busy, "p0")
            source = source_on(link)
            await anyio.sleep(0.05)
            link.tasks.start_soon(publisher_on, link, tmp_path, "p2")
            assert await read_all(source, BIG) == files[BIG]
    assert len(heard) == 1


async def test_the_publisher_with_the_fewest_waiting_is_asked() -> None:
    data = b"d" * 10_000
    async with linked() as link:
        busier = await scripted(link, faithful(data, "a"), "a", waiting=500)
        idler = await scripted(link, faithful(data, "b"), "b", waiting=3)
        source = source_on(link)
        await anyio.sleep(0.05)
        assert await read_all(source, BIG) == data
    assert idler
    assert not busier


async def test_with_nobody_there_it_ends_with_a_reason() -> None:
    async with linked() as link:
        with pytest.raises(FetchFailed, match="nothing came for"):
            await read_all(source_on(link, replace(QUICK, stalled_after_s=0.3)), BIG)


async def test_a_trickle_is_too_slow() -> None:
    data = b"d" * 100_000

    def answer(request: BlockRequest) -> list[Block]:
        return faithful(data)(request)[:1]

    limits = replace(QUICK, block_bytes=1, window_bytes=1, grace_s=0.5, least_bytes_per_s=10_000.0)
    with anyio.fail_after(30):
        async with linked(delay_s=0.02) as link:
            await scripted(link, answer)
            with pytest.raises(FetchFailed, match="bytes/s"):
                await read_all(source_on(link, limits), BIG)


async def test_transfers_side_by_side_share_the_window_and_both_end(tmp_path: Path) -> None:
    files = write_repository(tmp_path)
    names = chunk_names(files)
    with anyio.fail_after(60):
        async with linked(lost_share=0.05) as link:
            await publisher_on(link, tmp_path)
            source = source_on(link)
            got = {}
            async for path, data in source.read_many(names, most_bytes=20_000):
                got[path] = data
                if len(got) == 3:
                    assert await read_all(source, BIG) == files[BIG]
            assert len(got) == len(names)


async def test_blocks_carry_who_sent_them(tmp_path: Path) -> None:
    write_repository(tmp_path)
    async with linked() as link:
        await publisher_on(link, tmp_path)
        await read_all(source_on(link), BIG)
        sent = [decode_block(each.payload) for each in link.carried if each.topic == topics.block_data(DEVICE)]
    assert {block.publisher for block in sent} == {"p1"}
