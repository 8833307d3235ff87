"""The log of actions, newest first, a page at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from cloud_service.access.action_log import LoggedAction
from cloud_service.access.roles import Role
from cloud_service.dashboard.refusals import Refused
from cloud_service.dashboard.site import Site
from cloud_service.storage.action_store import ActionLog, Wanted
from shared.errors import StorageError

_ROWS = 50
_MOST_DIGITS = 18


def routes(site: Site) -> list[BaseRoute]:
    """See `cloud_service.dashboard.site`."""
    return [Route("/log", site.require(Role.OPERATOR)(_Page(site).show))]


@dataclass(frozen=True)
class LogView:
    """One page of the log. `older` and `newest` are addresses, empty where they lead nowhere."""

    rows: tuple[LoggedAction, ...]
    kinds: tuple[str, ...]
    actor: str
    action: str
    older: str
    newest: str
    head: str
    now_s: int


class _Page:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._log = ActionLog(site.reading)

    async def show(self, request: Request) -> Response:
        wanted = _wanted(request)
        try:
            view = await self._site.read(self._look, wanted)
        except StorageError as error:
            raise Refused(503, "The log cannot be read", "Try again soon.") from error
        return self._site.render(request, "log.html", view=view, details_of=details_of)

    def _look(self, wanted: Wanted) -> LogView:
        """In a worker thread."""
        found = self._log.read(wanted)
        rows, is_more = found[:_ROWS], len(found) > _ROWS
        asked = {"actor": wanted.actor, "action": wanted.action}
        return LogView(
            rows=tuple(rows),
            kinds=tuple(self._log.kinds()),
            actor=wanted.actor,
            action=wanted.action,
            older=_address(asked, rows[-1].seq) if is_more else "",
            newest=_address(asked) if wanted.before_seq is not None else "",
            head=self._log.head(),
            now_s=self._site.now_ms() // 1000,
        )


def details_of(action: LoggedAction) -> list[tuple[str, str]]:
    """The fields of an entry's detail, for reading; a detail that was tampered with is shown as it is."""
    try:
        fields = json.loads(action.entry.detail)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        return [("", action.entry.detail)]
    return [
        (key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for key, value in fields.items()
    ]


def _wanted(request: Request) -> Wanted:
    asked = request.query_params
    before = asked.get("before", "")
    if before and not (before.isascii() and before.isdigit() and len(before) <= _MOST_DIGITS):
        raise Refused(400, "There is no such page", "The address asks for entries before one that cannot be.")
    return Wanted(
        limit=_ROWS + 1,
        actor=asked.get("actor", "").strip(),
        action=asked.get("action", ""),
        before_seq=int(before) if before else None,
    )


def _address(asked: dict[str, str], before_seq: int | None = None) -> str:
    fields = {name: value for name, value in asked.items() if value}
    if before_seq is not None:
        fields["before"] = str(before_seq)
    return "/log" + (f"?{urlencode(fields)}" if fields else "")
