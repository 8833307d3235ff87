"""The broker link with a real mosquitto, and with a broker that misbehaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from shared.clock import SystemClock
from shared.errors import BrokerError
from shared.mqtt import BrokerAddress, BrokerLink, Message, check_broker
from tests.support.mosquitto import EXECUTABLE, Mosquitto, free_port

pytestmark = [pytest.mark.skipif(EXECUTABLE is None, reason="mosquitto is not installed"), pytest.mark.anyio]
_PATIENCE_S = 10.0


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both loops that the product runs on: they watch sockets in ways of their own."""
    return "asyncio", {"use_uvloop": request.param}


@asynccontextmanager
async def connected(link: BrokerLink) -> AsyncIterator[BrokerLink]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(link.run)
        await until(lambda: link.statistics().connected, "a connection")
        yield link
        tasks.cancel_scope.cancel()


async def until(condition: Callable[[], bool], what: str) -> None:
    until_s = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s, f"waited in vain: {what}"
        await asyncio.sleep(0.01)


def hearing(address: BrokerAddress, heard: list[Message], name: str = "ear") -> BrokerLink:
    async def hear(message: Message) -> None:
        heard.append(message)

    return BrokerLink(address, name, SystemClock(), subscriptions=("t/#",), on_message=hear)


async def test_what_is_published_is_heard_and_what_was_retained_says_so(tmp_path: Path) -> None:
    heard: list[Message] = []
    with Mosquitto(tmp_path) as broker:
        address = BrokerAddress("127.0.0.1", broker.port)
        async with connected(BrokerLink(address, "mouth", SystemClock())) as mouth:
            await mouth.publish("t/old", "früher".encode(), retain=True)
            async with connected(hearing(address, heard)):
                await until(lambda: len(heard) == 1, "the retained message")
                await mouth.publish("t/new", b"x" * 1_000_000, retain=False)
                await until(lambda: len(heard) == 2, "the large message")
    assert heard == [Message("t/old", "früher".encode(), True), Message("t/new", b"x" * 1_000_000, False)]


async def test_who_subscribes_once_more_hears_once_more_what_is_retained(tmp_path: Path) -> None:
    heard: list[Message] = []
    with Mosquitto(tmp_path) as broker:
        async with connected(hearing(BrokerAddress("127.0.0.1", broker.port), heard)) as link:
            await link.publish("t/policy", b"newest", retain=True)
            await until(lambda: len(heard) == 1, "the message")
            await link.subscribe("t/#")
            await until(lambda: len(heard) == 2, "the message once more")
    assert heard[1] == Message("t/policy", b"newest", True)


async def test_a_slow_listener_loses_nothing_of_what_comes_quickly(tmp_path: Path) -> None:
    heard: list[bytes] = []

    async def hear(message: Message) -> None:
        if len(heard) % 100 == 0:
            await asyncio.sleep(0.02)
        heard.append(message.payload)

    with Mosquitto(tmp_path) as broker:
        address = BrokerAddress("127.0.0.1", broker.port)
        ear = BrokerLink(address, "ear", SystemClock(), subscriptions=("t/#",), on_message=hear)
        async with connected(ear), connected(BrokerLink(address, "mouth", SystemClock())) as mouth:
            async with anyio.create_task_group() as tasks:
                for part in range(10):
                    tasks.start_soon(publish_many, mouth, part)
            await until(lambda: len(heard) == 3000, "all messages")
        assert sorted(heard) == sorted(f"{part}-{number}".encode() for part in range(10) for number in range(300))
        assert ear.statistics().received == 3000


async def publish_many(mouth: BrokerLink, part: int) -> None:
    for number in range(300):
        await mouth.publish("t/many", f"{part}-{number}".encode(), retain=False)


async def test_a_message_that_was_not_handled_is_not_acknowledged(tmp_path: Path) -> None:
    """The first listener dies over the message; the retained copy comes again to the next one."""
    heard: list[Message] = []

    async def die(message: Message) -> None:
        raise BrokerError("no")

    with Mosquitto(tmp_path) as broker:
        address = BrokerAddress("127.0.0.1", broker.port)
        ear = BrokerLink(address, "ear", SystemClock(), subscriptions=("t/#",), on_message=die)
        async with connected(BrokerLink(address, "mouth", SystemClock())) as mouth, connected(ear):
            await mouth.publish("t/x", b"1", retain=True)
            await until(lambda: ear.statistics().connections > 1, "the link to come back")
        async with connected(hearing(address, heard)):
            await until(lambda: bool(heard), "the message")


async def test_the_will_is_published_for_who_is_gone_and_not_for_who_leaves(tmp_path: Path) -> None:
    heard: list[Message] = []
    with Mosquitto(tmp_path) as broker:
        address = BrokerAddress("127.0.0.1", broker.port)
        async with connected(hearing(address, heard)):
            async with connected(BrokerLink(address, "polite", SystemClock(), will=Message("t/polite", b"gone"))):
                pass
            await steal_connection(address, "rude", Message("t/rude", b"gone"))
            await until(lambda: bool(heard), "the will")
    assert [message.topic for message in heard] == ["t/rude"]


async def steal_connection(address: BrokerAddress, name: str, will: Message) -> None:
    """A second client of the same name: the broker throws the first one out and publishes its will."""
    async with connected(BrokerLink(address, name, SystemClock(), will=will)):
        await check_broker(address, name)


async def test_a_wrong_password_is_refused_in_words(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, {"d1": "right"}) as broker:
        await check_broker(BrokerAddress("127.0.0.1", broker.port, "d1", "right"), "d1")
        with pytest.raises(BrokerError, match="Not authorized"):
            await check_broker(BrokerAddress("127.0.0.1", broker.port, "d1", "wrong"), "d1")


async def test_nobody_there_is_an_error_that_names_the_address() -> None:
    port = free_port()
    with pytest.raises(BrokerError, match=f"127.0.0.1:{port}"):
        await check_broker(BrokerAddress("127.0.0.1", port), "d1")


@asynccontextmanager
async def false_broker(
    behave: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    server = await asyncio.start_server(behave, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("greeting", "words"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "connection is lost"), (b"\x15\x03\x01\x00\x02\x02\x46", r"MQTT 3\.1\.1")],
)
async def test_who_speaks_something_else_is_left(greeting: bytes, words: str) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    async with false_broker(greet) as port:
        with pytest.raises(BrokerError, match=words):
            await check_broker(BrokerAddress("127.0.0.1", port), "d1")


@pytest.mark.parametrize(
    ("word", "words"), [(b"\x20\x02\x00\x03", "refuses us: Server unavailable"), (b"\x20\x02\x00\x01", r"MQTT 3\.1\.1")]
)
async def test_a_refusal_is_told_in_words(word: bytes, words: str) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(word)
        await reader.read(1000)
        writer.close()

    async with false_broker(refuse) as port:
        with pytest.raises(BrokerError, match=words):
            await check_broker(BrokerAddress("127.0.0.1", port), "d1")


async def test_who_takes_the_connection_and_says_nothing_is_left_after_5_s() -> None:
    is_over = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(100):
            pass
        writer.close()
        is_over.set()

    async with false_broker(listen) as port:
        with pytest.raises(BrokerError, match="no answer within 5 s"):
            await check_broker(BrokerAddress("127.0.0.1", port), "d1")
        await asyncio.wait_for(is_over.wait(), _PATIENCE_S)


async def test_who_gives_up_while_connecting_leaves_no_connection_behind() -> None:
    opened = closed = 0

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened, closed
        opened += 1
        while await reader.read(100):
            pass
        writer.close()
        closed += 1

    async with false_broker(listen) as port:
        for patience_s in (0.0, 0.0001, 0.001, 0.003, 0.01, 0.1):
            with anyio.move_on_after(patience_s):
                await check_broker(BrokerAddress("127.0.0.1", port), "d1")
        await until(lambda: opened > 0 and closed == opened, "the end of the connections")


async def test_a_broker_that_sends_without_a_window_is_slowed_down_and_nothing_is_lost() -> None:
    messages, payload = 20_000, b"x" * 1000
    sent, heard, may_go_on = 0, list[bytes](), asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"\x20\x02\x00\x00")
        subscribe = await reader.readuntil(b"t/#\x01")
        writer.write(b"\x90\x03" + subscribe[-8:-6] + b"\x01")
        for number in range(messages):
            body = b"\x00\x03t/x" + (number + 1).to_bytes(2, "big") + number.to_bytes(4, "big") + payload
            writer.write(b"\x32" + bytes([len(body) % 128 | 128, len(body) // 128]) + body)
            await writer.drain()
            sent += 1
        await reader.read()

    async def hear(message: Message) -> None:
        await may_go_on.wait()
        heard.append(message.payload[:4])

    async with false_broker(flood) as port:
        link = BrokerLink(
            BrokerAddress("127.0.0.1", port), "d1", SystemClock(), subscriptions=("t/#",), on_message=hear
        )
        async with connected(link):
            await until_it_rests(lambda: sent)
            assert sent < messages
            may_go_on.set()
            await until(lambda: len(heard) == messages, "all messages")
    assert heard == [number.to_bytes(4, "big") for number in range(messages)]


async def until_it_rests(count: Callable[[], int]) -> None:
    before = -1
    while count() == 0 or count() != before:
        before = count()
        await asyncio.sleep(0.5)


async def test_a_broker_that_falls_silent_is_left_and_tried_again() -> None:
    """It takes the connection and answers no ping."""
    connections = 0

    async def fall_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(b"\x20\x02\x00\x00")
        while await reader.read(100):
            pass
        writer.close()

    async with false_broker(fall_silent) as port:
        link = BrokerLink(BrokerAddress("127.0.0.1", port, keepalive_s=1), "d1", SystemClock())
        async with connected(link):
            await until(lambda: connections > 1, "a second try")
            assert link.statistics().last_error == "the broker is silent"


async def test_a_publish_without_acknowledgement_is_an_error() -> None:
    async def take_and_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x20\x02\x00\x00")
        await reader.readuntil(b"t/x")
        writer.close()

    async with false_broker(take_and_hang_up) as port:
        link = BrokerLink(BrokerAddress("127.0.0.1", port), "d1", SystemClock())
        async with connected(link):
            with pytest.raises(BrokerError, match="did not take the message"):
                await link.publish("t/x", b"1", retain=False)
