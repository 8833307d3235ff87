from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from cloud_service.dashboard.while_allowed import ASK_EVERY_S, WhileAllowed
from tests.support.fake_clock import FakeClock

pytestmark = pytest.mark.anyio
SCOPE = {"type": "http", "method": "GET", "path": "/events", "headers": []}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Endless(Response):
    """A stream that says one thing and then waits until it is told to end."""

    def __init__(self) -> None:
        super().__init__(media_type="text/event-stream")
        self.ends = anyio.Event()
        self.begun = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"data", "more_body": True})
        self.begun.set()
        await self.ends.wait()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def nobody() -> Message:
    await anyio.sleep_forever()
    raise AssertionError


async def test_a_stream_ends_properly_once_its_visitor_may_no_longer_look() -> None:
    clock, sent, asked = FakeClock(), list[Message](), list[bool]()
    stream = Endless()

    async def is_allowed() -> bool:
        asked.append(len(asked) < 2)
        return asked[-1]

    async def send(message: Message) -> None:
        sent.append(message)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(WhileAllowed(stream, is_allowed, clock), SCOPE, nobody, send)
        await stream.begun.wait()
        for asked_so_far in range(3):
            while len(asked) <= asked_so_far:
                clock.advance(ASK_EVERY_S)
                await anyio.lowlevel.checkpoint()
    assert asked == [True, True, False]
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert sum(not message.get("more_body", True) for message in sent) == 1


async def test_a_stream_that_ends_by_itself_is_left_alone() -> None:
    clock, sent = FakeClock(), list[Message]()
    stream = Endless()
    stream.ends.set()

    async def is_allowed() -> bool:
        return True

    async def send(message: Message) -> None:
        sent.append(message)

    await WhileAllowed(stream, is_allowed, clock)(SCOPE, nobody, send)
    assert [message["type"] for message in sent] == ["http.response.start"] + 2 * ["http.response.body"]
