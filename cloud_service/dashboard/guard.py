"""Who may ask for what: stands before every page, stream and action. /healthz, /static and the login stand outside."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from anyio import CapacityLimiter, to_thread
from jinja2 import Environment
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from cloud_service.access.csrf import form_token, is_own_token, is_same_origin
from cloud_service.access.rate_limit import TokenBuckets
from cloud_service.access.roles import ANONYMOUS, Role, Visitor
from cloud_service.access.sessions import SessionLimits, id_hash_of
from cloud_service.dashboard.navigation import Frame, frame
from cloud_service.dashboard.refusals import Refused, refusal
from cloud_service.dashboard.while_allowed import WhileAllowed
from cloud_service.storage.access_store import AccessStore
from shared.clock import Clock
from shared.errors import StorageError

_log = logging.getLogger(__name__)
Endpoint = Callable[[Request], Awaitable[Response]]
MAX_FORM_BYTES = 64 * 1024
CHALLENGE = {"WWW-Authenticate": 'Cookie form-action="/login"'}
"""What 401 must say (RFC 9110, section 15.5.2): sign in by the form, a cookie comes of it."""
_SAFE_METHODS = ("GET", "HEAD")
_ACTIONS_AT_ONCE = 60
_ACTION_EVERY_S = 1.0
_FORM = "application/x-www-form-urlencoded"


class Guard:
    """Asks the store about every request's session."""

    def __init__(
        self,
        store: AccessStore,
        clock: Clock,
        templates: Environment,
        threads: CapacityLimiter,
        limits: SessionLimits,
        *,
        is_login_required: bool,
    ) -> None:
        self._store = store
        self._clock = clock
        self._templates = templates
        self._threads = threads
        self._limits = limits
        self._is_login_required = is_login_required
        self._actions = TokenBuckets(_ACTIONS_AT_ONCE, _ACTION_EVERY_S)

    def require(self, role: Role) -> Callable[[Endpoint], Endpoint]:
        """The endpoint for visitors whose role covers `role` alone; others are sent to the login or refused.

        What is not GET or HEAD must be a form of our own from a signed-in user; it is read before the endpoint runs.
        A stream ends when its visitor's session does.
        """

        def guarded(endpoint: Endpoint) -> Endpoint:
            @functools.wraps(endpoint)
            async def checked(request: Request) -> Response:
                try:
                    return await self._answer(request, role, endpoint)
                except Refused as refused:
                    return refusal(self._templates, frame_of(request), refused)

            return checked

        return guarded

    async def visitor(self, request: Request, *, is_use: bool = True) -> Visitor | None:
        """Who asks; None for someone who must sign in first. `is_use`: it keeps the session from becoming idle.

        Raises:
            StorageError: the store cannot be read.
        """
        cookie = session_cookie(request)
        return await to_thread.run_sync(self._look, cookie, is_use, limiter=self._threads)

    async def _answer(self, request: Request, role: Role, endpoint: Endpoint) -> Response:
        try:
            visitor = await self.visitor(request)
        except StorageError as error:
            raise Refused(503, "The store cannot be read", "Who asks cannot be told; try again soon.") from error
        if visitor is None:
            return _to_login(request)
        request.state.visitor = visitor
        if request.method not in _SAFE_METHODS:
            request.state.form = await self._form(request, visitor)
        if not visitor.role.covers(role):
            raise _not_allowed(visitor, role)
        response = await endpoint(request)
        response.headers.setdefault("Cache-Control", "no-store")
        if response.media_type == "text/event-stream":
            return WhileAllowed(response, functools.partial(self._is_still, request, visitor), self._clock)
        return response

    async def _is_still(self, request: Request, visitor: Visitor) -> bool:
        """What cannot be told now is asked again later: a store that cannot be read has no news for a stream anyway."""
        try:
            return await self.visitor(request, is_use=False) == visitor
        except StorageError:
            return True

    async def _form(self, request: Request, visitor: Visitor) -> QueryParams:
        if visitor.is_anonymous:
            raise _not_allowed(visitor, Role.OPERATOR)
        wait_s = self._actions.take(visitor.name, self._clock.monotonic_s())
        if wait_s:
            raise Refused(429, "Too many actions", "Wait a little and try again.", retry_after_s=wait_s)
        return await checked_form(request, session_cookie(request))

    def _look(self, cookie: str, is_use: bool) -> Visitor | None:
        """In a worker thread."""
        known = self._store.look(id_hash_of(cookie) if cookie else None)
        now_ms = int(self._clock.unix_s() * 1000)
        session = known.session
        if session and not self._limits.is_over(session, now_ms):
            if is_use and self._limits.needs_touch(session, now_ms):
                self._touch(session.id_hash, now_ms)
            return Visitor(session.user_name, session.role)
        return None if known.has_users or self._is_login_required else ANONYMOUS

    def _touch(self, id_hash: str, now_ms: int) -> None:
        """A store that is busy at this moment is no reason to refuse someone; the next request notes it."""
        try:
            self._store.touch(id_hash, now_ms)
        except StorageError as error:
            _log.warning("a session's use could not be noted: %s", error)


def session_cookie_name(request: Request) -> str:
    """Under TLS browsers take a name that begins with __Host- from this very host over TLS alone (RFC 6265bis)."""
    return "__Host-tandem_session" if request.url.scheme == "https" else "tandem_session"


def session_cookie(request: Request) -> str:
    """The session id that the browser sent, or empty."""
    return request.cookies.get(session_cookie_name(request), "")


def frame_of(request: Request) -> Frame:
    """What stands around the page that answers `request`."""
    visitor: Visitor | None = getattr(request.state, "visitor", None)
    return frame(request.url.path, request.app.state.served, visitor, csrf_token(request))


def csrf_token(request: Request) -> str:
    """The token for forms on this visitor's pages."""
    return form_token(session_cookie(request))


async def checked_form(request: Request, cookie: str) -> QueryParams:
    """The fields of a form that our own page showed to who has `cookie`.

    Raises:
        Refused: it comes from elsewhere, has no valid token, is too large, or is no form.
    """
    headers = {name.lower(): value for name, value in request.headers.items()}
    if not is_same_origin(headers, is_tls=request.url.scheme == "https"):
        raise Refused(403, "This came from another site", "Nothing was done. Use the page's own buttons.")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise Refused(415, "This is not a form", f"Send {_FORM}.")
    form = QueryParams(await _body(request))
    if not is_own_token(cookie, form.get("csrf", "")):
        raise Refused(403, "The form was too old", "Nothing was done. Load the page again and repeat it.")
    return form


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_FORM_BYTES:
                raise Refused(413, "This is too large", f"A form has at most {MAX_FORM_BYTES} bytes.")
    except ClientDisconnect as error:
        raise Refused(400, "The form broke off", "Nothing was done.") from error
    return bytes(body)


def _to_login(request: Request) -> Response:
    """A page leads to the login and back again; a stream, a script's question or an action just hears 401."""
    is_page = request.method in _SAFE_METHODS and "text/event-stream" not in request.headers.get("accept", "")
    if not is_page:
        return PlainTextResponse("sign in first", 401, CHALLENGE)
    place = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/login?next={quote(place, safe='')}", 303, {"Cache-Control": "no-store"})


def _not_allowed(visitor: Visitor, role: Role) -> Refused:
    if visitor.is_anonymous:
        return Refused(403, "Actions need a user", "No login is set up: cloud-service users add makes the first user.")
    return Refused(
        403,
        "This is not yours to see or do",
        f"It needs the role {role.value}; {visitor.name} is {visitor.role.value}.",
    )
