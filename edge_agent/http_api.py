"""The HTTP interface for applications on the device."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from edge_agent.config import HttpSettings, LabelSettings
from edge_agent.http_infer import InferEndpoint
from edge_agent.http_labels import LabelsEndpoint
from edge_agent.http_schema import openapi
from edge_agent.labelling import LabelDesk
from edge_agent.metrics import CONTENT_TYPE, MetricsPage
from edge_agent.pipeline import Pipeline

INFER_PATH = "/v1/infer"
LABELS_PATH = "/v1/labels"
_STATIC = Path(__file__).parent / "static"


class HttpApi:
    """The ASGI application. It serves from the start, and answers once `open` has given it a pipeline."""

    def __init__(self, settings: HttpSettings, labels: LabelSettings | None = None) -> None:
        self._infer = InferEndpoint(settings)
        self._labels = LabelsEndpoint(settings, labels or LabelSettings())
        self._metrics_page: MetricsPage | None = None
        self._pages = Starlette(
            routes=[
                Route("/livez", self._livez),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
                Route("/openapi.json", _openapi_json),
                Route("/docs", partial(_static, "docs.html")),
                Route("/docs.js", partial(_static, "docs.js")),
                Route(INFER_PATH, self._infer, methods=["POST"]),
                Route(LABELS_PATH, self._labels, methods=["POST"]),
            ]
        )

    def open(self, pipeline: Pipeline, metrics: MetricsPage, desk: LabelDesk | None = None) -> None:
        """Answer from now on, and take true labels where there is a `desk`."""
        self._infer.pipeline = pipeline
        self._labels.desk = desk
        self._metrics_page = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection's request; those to the hot path take no way round."""
        if scope["type"] == "http" and scope["path"] == INFER_PATH and scope["method"] == "POST":
            await self._infer(scope, receive, send)
        else:
            await self._pages(scope, receive, send)

    async def _livez(self, request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def _readyz(self, request: Request) -> Response:
        pipeline = self._infer.pipeline
        if pipeline is None:
            return PlainTextResponse("starting\n", 503)
        return PlainTextResponse("ready\n") if pipeline.admission.is_open else PlainTextResponse("draining\n", 503)

    async def _metrics(self, request: Request) -> Response:
        if self._metrics_page is None:
            return PlainTextResponse("starting\n", 503)
        return Response(self._metrics_page.render(), media_type=CONTENT_TYPE)


async def _openapi_json(request: Request) -> Response:
    return Response(json.dumps(openapi()), media_type="application/json")


async def _static(name: str, request: Request) -> Response:
    return FileResponse(_STATIC / name)
