"""A stream that ends when its visitor may no longer look."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from shared.clock import Clock

ASK_EVERY_S = 10.0


class WhileAllowed(Response):
    """Asks `is_allowed` again and again beside `stream`, and breaks it off at the first no."""

    def __init__(self, stream: Response, is_allowed: Callable[[], Awaitable[bool]], clock: Clock) -> None:
        super().__init__(media_type=stream.media_type)
        self._stream = stream
        self._is_allowed = is_allowed
        self._clock = clock
        self._is_begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an ASGI application."""

        async def noting_send(message: Message) -> None:
            self._is_begun = True
            await send(message)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_when_refused, send, tasks.cancel_scope)
            await self._stream(scope, receive, noting_send)
            tasks.cancel_scope.cancel()

    async def _end_when_refused(self, send: Send, stream: anyio.CancelScope) -> None:
        while True:
            await self._clock.sleep(ASK_EVERY_S)
            if not await self._is_allowed():
                break
        with anyio.CancelScope(shield=True):
            stream.cancel()
            if self._is_begun:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
