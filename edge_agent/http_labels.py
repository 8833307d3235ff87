"""`POST /v1/labels`: true labels of earlier requests."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import Receive, Scope, Send

from edge_agent.answers import Json, error_json
from edge_agent.config import HttpSettings, LabelSettings
from edge_agent.http_infer import ClientGone, Reply, parse_json, read_body, refused
from edge_agent.http_schema import parse_claim
from edge_agent.labelling import LabelClaim, LabelDesk, LabelReceipt
from shared.errors import InputError, NotReady, RequestTooLarge, TandemError


class LabelsEndpoint:
    """An ASGI application for one path. `desk` is None until the device's state is open."""

    def __init__(self, http: HttpSettings, labels: LabelSettings) -> None:
        self.desk: LabelDesk | None = None
        self._max_body_bytes = http.max_body_bytes
        self._max_list_items = labels.max_list_items

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; says nothing to a client that has hung up."""
        if self.desk is None:
            await refused(NotReady("the device's answers are being opened")).send(send)
            return
        try:
            content = parse_json(await read_body(scope, receive, self._max_body_bytes))
            reply = await self._answer(self.desk, content)
        except ClientGone:
            return
        except InputError as error:
            reply = refused(error)
        await reply.send(send)

    async def _answer(self, desk: LabelDesk, content: object) -> Reply:
        if not isinstance(content, list):
            claim = parse_claim(content)
            result = (await desk.take([claim]))[0]
            return (
                refused(result, claim.request_id) if isinstance(result, TandemError) else Reply(200, result.to_json())
            )
        if len(content) > self._max_list_items:
            raise RequestTooLarge(f"the list has {len(content)} items, at most {self._max_list_items} are taken")
        return Reply(200, await _answer_list(desk, content))


async def _answer_list(desk: LabelDesk, items: Sequence[object]) -> list[Json]:
    """Each item by itself: a receipt or an error, in the order told."""
    read = [_claim_or_error(item) for item in items]
    results = iter(await desk.take([each for each in read if isinstance(each, LabelClaim)]))
    return [
        _item_json(next(results) if isinstance(each, LabelClaim) else each, item)
        for each, item in zip(read, items, strict=True)
    ]


def _claim_or_error(item: object) -> LabelClaim | TandemError:
    try:
        return parse_claim(item)
    except InputError as error:
        return error


def _item_json(result: LabelReceipt | TandemError, item: object) -> Json:
    if isinstance(result, LabelReceipt):
        return result.to_json()
    told = item.get("request_id") if isinstance(item, dict) else None
    return error_json(result, told if isinstance(told, str) else None)
