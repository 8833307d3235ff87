"""`POST /v1/infer`, straight on ASGI: this path is measured in tenths of a millisecond."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
from pydantic_core import from_json
from starlette.types import Receive, Scope, Send

from edge_agent.answers import Json, error_json, refusal_of
from edge_agent.config import HttpSettings
from edge_agent.http_schema import parse_item
from edge_agent.pipeline import Pipeline
from edge_agent.request_spans import answer_span, request_span, tell_of
from shared.errors import InputError, NotReady, Overloaded, RequestTooLarge, TandemError
from shared.tracing import TRACING, UNTRACED

_log = logging.getLogger(__name__)
_BODY_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Reply:
    """What one request is told."""

    status: int
    content: Json | list[Json]
    headers: dict[str, str] = field(default_factory=dict)

    async def send(self, send: Send) -> None:
        """As JSON in UTF-8."""
        body = json.dumps(self.content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers += [(name.encode(), value.encode()) for name, value in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class ClientGone(Exception):
    """The client hung up before it had sent its request."""


class InferEndpoint:
    """An ASGI application for one path. `pipeline` is None until the models are loaded."""

    def __init__(self, settings: HttpSettings) -> None:
        self.pipeline: Pipeline | None = None
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; says nothing to a client that has hung up."""
        if self.pipeline is None:
            await refused(NotReady("the models are being loaded")).send(send)
            return
        try:
            content = parse_json(await read_body(scope, receive, self._settings.max_body_bytes))
        except ClientGone:
            return
        except InputError as error:
            self.pipeline.reject_unreadable()
            await refused(error).send(send)
            return
        with request_span(scope) if TRACING.is_on else UNTRACED:
            reply = await _unless_disconnected(receive, self._answer(self.pipeline, content))
        if reply:
            await reply.send(send)

    async def _answer(self, pipeline: Pipeline, content: object) -> Reply:
        if isinstance(content, list):
            return await self._answer_list(pipeline, content)
        return await _answer_one(pipeline, content)

    async def _answer_list(self, pipeline: Pipeline, items: list[object]) -> Reply:
        limit = self._settings.max_list_items
        if len(items) > limit:
            pipeline.reject_unreadable()
            return refused(RequestTooLarge(f"the list has {len(items)} items, at most {limit} are taken"))
        replies: list[Json] = [{} for _ in items]

        async def answer(position: int) -> None:
            content = (await _answer_one(pipeline, items[position])).content
            assert isinstance(content, dict)
            replies[position] = content

        async with anyio.create_task_group() as tasks:
            for position in range(len(items)):
                tasks.start_soon(answer, position)
        return Reply(200, replies)


async def _answer_one(pipeline: Pipeline, item: object) -> Reply:
    fields = item if isinstance(item, dict) else {}
    request_id = _text_or_none(fields.get("request_id"))
    try:
        request = parse_item(item)
    except InputError as error:
        pipeline.reject_unreadable(_text_or_none(fields.get("model")))
        return refused(error, request_id)
    try:
        with answer_span(request) if TRACING.is_on else UNTRACED:
            answer = await pipeline.answer(request)
            if TRACING.is_on:
                tell_of(answer)
        return Reply(200, answer.to_json())
    except TandemError as error:
        return refused(error, request_id)


def refused(error: TandemError, request_id: str | None = None) -> Reply:
    """What `error` is told as."""
    headers = {}
    if isinstance(error, Overloaded):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, RequestTooLarge):
        headers["connection"] = "close"
    status = refusal_of(error).status
    if status >= 500:
        _log.warning("request %s: %s", request_id or "without id", error)
    return Reply(status, error_json(error, request_id), headers)


async def read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """The whole body.

    Raises:
        RequestTooLarge: it has more than `limit_bytes`, said or sent.
        InputError: it does not arrive.
        ClientGone: the client hung up.
    """
    too_large = RequestTooLarge(f"the body has more than {limit_bytes} bytes")
    said = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    if said.isdigit() and int(said) > limit_bytes:
        raise too_large
    pieces, length = [], 0
    with anyio.move_on_after(_BODY_TIMEOUT_S):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            pieces.append(message.get("body", b""))
            length += len(pieces[-1])
            if length > limit_bytes:
                raise too_large
            if not message.get("more_body", False):
                return b"".join(pieces)
    raise InputError(f"the body did not arrive within {_BODY_TIMEOUT_S:g} s")


def parse_json(body: bytes) -> object:
    """Raises: InputError: it is not JSON."""
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InputError(f"the body is not JSON: {error}") from error


async def _unless_disconnected(receive: Receive, work: Awaitable[Reply]) -> Reply | None:
    """The reply, or None when the client went away first; then `work` is cancelled.

    One task with this function as its owner: a task group would cost a tenth of a millisecond more.
    """
    with anyio.CancelScope() as scope:
        watch = asyncio.create_task(_call_on_disconnect(receive, scope.cancel))
        try:
            return await work
        finally:
            watch.cancel()
    return None


async def _call_on_disconnect(receive: Receive, cancel: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    cancel()


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None
