"""The HTTP interface for applications on the device. How requests are answered is the pipeline's matter."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
from pydantic_core import from_json
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive

from edge_agent.answers import Json, error_json, refusal_of
from edge_agent.config import HttpSettings
from edge_agent.http_schema import openapi, parse_item
from edge_agent.metrics import CONTENT_TYPE, MetricsPage
from edge_agent.pipeline import Pipeline
from shared.errors import InputError, NotReady, Overloaded, RequestTooLarge, TandemError

_log = logging.getLogger(__name__)
_STATIC = Path(__file__).parent / "static"
_BODY_TIMEOUT_S = 30.0
_CLIENT_CLOSED_REQUEST = 499


@dataclass(frozen=True)
class Reply:
    """What one request is told."""

    status: int
    content: Json | list[Json]
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """As JSON in UTF-8."""
        body = json.dumps(self.content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return Response(body.encode(), self.status, self.headers, "application/json")


class HttpApi:
    """The routes. `pipeline` is None until the models are loaded; `metrics` too."""

    def __init__(self, settings: HttpSettings) -> None:
        self.pipeline: Pipeline | None = None
        self.metrics: MetricsPage | None = None
        self._settings = settings
        self._openapi = b""

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/infer", self._infer, methods=["POST"]),
                Route("/livez", self._livez),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
                Route("/openapi.json", self._openapi_json),
                Route("/docs", partial(_static, "docs.html")),
                Route("/docs.js", partial(_static, "docs.js")),
            ]
        )

    async def _infer(self, request: Request) -> Response:
        if self.pipeline is None:
            return _refused(NotReady("the models are being loaded")).response()
        try:
            body = await _read_body(request, self._settings.max_body_bytes)
            content = _parse(body)
        except ClientDisconnect:
            return Response(status_code=_CLIENT_CLOSED_REQUEST)
        except InputError as error:
            self.pipeline.reject_unreadable()
            return _refused(error).response()
        work = self._answer_list(content) if isinstance(content, list) else _answer_one(self.pipeline, content)
        reply = await _unless_disconnected(request.receive, work)
        return reply.response() if reply else Response(status_code=_CLIENT_CLOSED_REQUEST)

    async def _answer_list(self, items: list[object]) -> Reply:
        assert self.pipeline is not None
        if len(items) > self._settings.max_list_items:
            self.pipeline.reject_unreadable()
            return _refused(
                RequestTooLarge(f"the list has {len(items)} items, at most {self._settings.max_list_items} are taken")
            )
        replies: list[Json] = [{} for _ in items]

        async def answer(pipeline: Pipeline, position: int) -> None:
            content = (await _answer_one(pipeline, items[position])).content
            assert isinstance(content, dict)
            replies[position] = content

        async with anyio.create_task_group() as tasks:
            for position in range(len(items)):
                tasks.start_soon(answer, self.pipeline, position)
        return Reply(200, replies)

    async def _livez(self, request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def _readyz(self, request: Request) -> Response:
        if self.pipeline is None:
            return PlainTextResponse("starting\n", 503)
        return PlainTextResponse("ready\n") if self.pipeline.admission.is_open else PlainTextResponse("draining\n", 503)

    async def _metrics(self, request: Request) -> Response:
        if self.metrics is None:
            return PlainTextResponse("starting\n", 503)
        return Response(self.metrics.render(), media_type=CONTENT_TYPE)

    async def _openapi_json(self, request: Request) -> Response:
        self._openapi = self._openapi or json.dumps(openapi()).encode()
        return Response(self._openapi, media_type="application/json")


async def _answer_one(pipeline: Pipeline, item: object) -> Reply:
    fields = item if isinstance(item, dict) else {}
    request_id = fields.get("request_id") if isinstance(fields.get("request_id"), str) else None
    try:
        request = parse_item(item)
    except InputError as error:
        pipeline.reject_unreadable(fields.get("model") if isinstance(fields.get("model"), str) else None)
        return _refused(error, request_id)
    try:
        return Reply(200, (await pipeline.answer(request)).to_json())
    except TandemError as error:
        return _refused(error, request_id)


def _refused(error: TandemError, request_id: str | None = None) -> Reply:
    headers = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, RequestTooLarge):
        headers["Connection"] = "close"
    status = refusal_of(error).status
    if status >= 500:
        _log.warning("request %s: %s", request_id or "without id", error)
    return Reply(status, error_json(error, request_id), headers)


async def _read_body(request: Request, limit_bytes: int) -> bytes:
    """Raises: RequestTooLarge: more than `limit_bytes`, said or sent. InputError: it does not arrive."""
    too_large = RequestTooLarge(f"the body has more than {limit_bytes} bytes")
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > limit_bytes:
        raise too_large
    pieces, length = [], 0
    with anyio.move_on_after(_BODY_TIMEOUT_S):
        async for piece in request.stream():
            length += len(piece)
            if length > limit_bytes:
                raise too_large
            pieces.append(piece)
        return b"".join(pieces)
    raise InputError(f"the body did not arrive within {_BODY_TIMEOUT_S:g} s")


def _parse(body: bytes) -> object:
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InputError(f"the body is not JSON: {error}") from error


async def _unless_disconnected(receive: Receive, work: Awaitable[Reply]) -> Reply | None:
    """The reply, or None when the client went away first; then `work` is cancelled."""
    reply: Reply | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_call_on_disconnect, receive, tasks.cancel_scope.cancel)
        reply = await work
        tasks.cancel_scope.cancel()
    return reply


async def _call_on_disconnect(receive: Receive, cancel: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    cancel()


async def _static(name: str, request: Request) -> Response:
    return FileResponse(_STATIC / name)
