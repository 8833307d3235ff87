"""Server-sent events (HTML Standard, section 9.2): what changes on the page, as long as the viewer stays."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from typing import Generic, Protocol, TypeVar

import anyio
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from cloud_service.dashboard.pages import Regions
from shared.errors import Overloaded

Shown = TypeVar("Shown", contravariant=True)


class Viewer(Protocol):
    """One who looks; see `cloud_service.dashboard.feed.Viewer`."""

    async def next(self) -> Regions | None:
        """The regions that changed since the last call; None when the server goes down."""
        ...


class Source(Protocol[Shown]):
    """What can be looked at, by what is shown of it; see `cloud_service.dashboard.feed.Feed`."""

    def viewer(self, shown: Shown) -> AbstractContextManager[Viewer]:
        """Someone who looks, for as long as the `with` block lasts. Raises Overloaded."""
        ...


class EventStream(Response, Generic[Shown]):
    """Events `regions`, with JSON from element id to HTML, and `still` when nothing has changed for a while."""

    def __init__(self, feed: Source[Shown], shown: Shown) -> None:
        super().__init__(media_type="text/event-stream")
        del self.headers["content-length"]
        self._feed = feed
        self._shown = shown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an ASGI application: ends when the viewer leaves or the server goes down."""
        try:
            with self._feed.viewer(self._shown) as viewer:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._send_all, viewer, send, tasks.cancel_scope)
                    await _left(receive)
                    tasks.cancel_scope.cancel()
        except Overloaded as error:
            refusal = PlainTextResponse(str(error), 503, {"Retry-After": f"{error.retry_after_s:.0f}"})
            await refusal(scope, receive, send)

    async def _send_all(self, viewer: Viewer, send: Send, until: anyio.CancelScope) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while (regions := await viewer.next()) is not None:
            await send({"type": "http.response.body", "body": _event(regions), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        until.cancel()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _event(regions: Regions) -> bytes:
    if not regions:
        return b"event: still\ndata:\n\n"
    data = json.dumps(regions, ensure_ascii=False, separators=(",", ":"))
    return f"event: regions\ndata: {data}\n\n".encode()
