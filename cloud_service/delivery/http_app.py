"""The repository's files over HTTP, with ranges: the other transport of the same files. Lists no folders."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Mapping

from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from cloud_service.delivery.files import FilePart, RepositoryFiles
from cloud_service.gateway.authentication import Authenticator
from shared.documents import sha256
from shared.errors import Unauthenticated
from shared.update.names import METADATA

_log = logging.getLogger(__name__)
_FOR_EVER = "private, max-age=31536000, immutable"
_ASK_EACH_TIME = "no-cache"
_MAY_CHANGE = re.compile(rf"{METADATA}/[^0-9][^/]*")
"""Metadata without a version in its name; all else has its version or its digest there, and never changes."""
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")
"""One range from a place on, as devices ask for; any other is answered with the whole file (RFC 9110, 14.2)."""
_PIECE_BYTES = 256 * 1024
_AGAIN_AFTER_S = 5


def make_http_app(files: RepositoryFiles, authenticator: Authenticator) -> Starlette:
    """GET and HEAD of the repository's files, for devices that `authenticator` knows."""

    async def serve(request: Request) -> Response:
        try:
            authenticator.device_of(_lower_case(request.headers))
        except Unauthenticated as error:
            return PlainTextResponse(str(error), 401, {"www-authenticate": "Bearer"})
        path = str(request.path_params["path"])
        try:
            return await _answer(files, path, request.headers, with_body=request.method == "GET")
        except FileNotFoundError:
            return PlainTextResponse("the repository has no such file", 404)
        except OSError as error:
            _log.error("%s cannot be read: %s", path, error)
            return PlainTextResponse("it cannot be read now", 503, {"retry-after": str(_AGAIN_AFTER_S)})

    return Starlette(routes=[Route("/{path:path}", serve, methods=["GET"])])


async def _answer(files: RepositoryFiles, path: str, asked: Mapping[str, str], *, with_body: bool) -> Response:
    """Raises: FileNotFoundError, OSError: see `RepositoryFiles`."""
    changes = bool(_MAY_CHANGE.fullmatch(path))
    begin, end = (0, None) if changes else _range_of(asked.get("range", ""))
    part = await _read(files, path, begin)
    mark = _mark(path, part, changes=changes)
    if begin and asked.get("if-range", mark) != mark:
        begin, end, part = 0, None, await _read(files, path, 0)
    length = part.file_length
    if begin and begin >= length:
        return Response(status_code=416, headers={"content-range": f"bytes */{length}"})
    stop = length if end is None else min(end, length)
    headers = {"etag": mark, "content-length": str(stop - begin), **_kept_for(changes=changes)}
    is_whole = stop - begin == length
    if not is_whole:
        headers["content-range"] = f"bytes {begin}-{stop - 1}/{length}"
    body = _pieces(files, path, part, begin, stop) if with_body else _nothing()
    return StreamingResponse(body, 200 if is_whole else 206, headers, "application/octet-stream")


def _kept_for(*, changes: bool) -> dict[str, str]:
    return {
        "accept-ranges": "none" if changes else "bytes",
        "cache-control": _ASK_EACH_TIME if changes else _FOR_EVER,
        "x-content-type-options": "nosniff",
    }


async def _nothing() -> AsyncIterator[bytes]:
    yield b""


async def _pieces(files: RepositoryFiles, path: str, part: FilePart, begin: int, stop: int) -> AsyncIterator[bytes]:
    """From `begin` to before `stop`; `part` is the first of it."""
    while True:
        data = part.data[: stop - begin]
        yield data
        begin += len(data)
        if begin >= stop:
            return
        if not data:
            raise OSError(f"{path} became shorter while it was sent")
        part = await _read(files, path, begin)


async def _read(files: RepositoryFiles, path: str, begin: int) -> FilePart:
    return await to_thread.run_sync(files.read, path, begin, _PIECE_BYTES)


def _range_of(asked: str) -> tuple[int, int | None]:
    """Begin, and end (exclusive) if there is one."""
    found = _RANGE.fullmatch(asked)
    if found is None or (found[2] and int(found[2]) < int(found[1])):
        return 0, None
    return int(found[1]), int(found[2]) + 1 if found[2] else None


def _mark(path: str, part: FilePart, *, changes: bool) -> str:
    """The same from every server of the same repository, so that a file may go on at another one."""
    told = part.data if changes else f"{path} {part.file_length}".encode()
    return f'"{sha256(told)[:32]}"'


def _lower_case(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
