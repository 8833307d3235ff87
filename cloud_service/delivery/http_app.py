"""The repository's files over HTTP, with ranges: the other transport of the same files. Lists no folders."""

from __future__ import annotations

import re
from collections.abc import Mapping

from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from cloud_service.delivery.files import FolderFiles
from cloud_service.gateway.authentication import Authenticator
from shared.errors import Unauthenticated
from shared.update.names import METADATA

_FOR_EVER = "private, max-age=31536000, immutable"
_ASK_EACH_TIME = "no-cache"
_MAY_CHANGE = re.compile(rf"{METADATA}/[^0-9][^/]*")
"""Metadata without a version in its name; all else has its version or its digest there, and never changes."""


def make_http_app(files: FolderFiles, authenticator: Authenticator) -> Starlette:
    """GET and HEAD of the repository's files, for devices that `authenticator` knows."""

    async def serve(request: Request) -> Response:
        try:
            authenticator.device_of(_lower_case(request.headers))
        except Unauthenticated as error:
            return PlainTextResponse(str(error), 401, {"www-authenticate": "Bearer"})
        path = str(request.path_params["path"])
        try:
            file = await to_thread.run_sync(files.locate, path)
        except FileNotFoundError:
            return PlainTextResponse("the repository has no such file", 404)
        caching = _ASK_EACH_TIME if _MAY_CHANGE.fullmatch(path) else _FOR_EVER
        headers = {"cache-control": caching, "x-content-type-options": "nosniff"}
        return FileResponse(file, headers=headers, media_type="application/octet-stream")

    return Starlette(routes=[Route("/{path:path}", serve, methods=["GET"])])


def _lower_case(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
