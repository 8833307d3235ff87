"""The page where one signs in, and the way out."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from cloud_service.access.csrf import form_token
from cloud_service.access.roles import Role
from cloud_service.access.sessions import new_session_id
from cloud_service.dashboard.guard import CHALLENGE, checked_form, session_cookie, session_cookie_name
from cloud_service.dashboard.navigation import Frame
from cloud_service.dashboard.refusals import Refused, refusal, retry_after
from cloud_service.dashboard.sign_in import Attempt, SignIn
from cloud_service.dashboard.site import Site
from shared.errors import Overloaded, StorageError

_OWN_PLACE = re.compile(r"/(?![/\\])[!-\[\]-~]*")
"""A path of this site: one slash first, then printable ASCII but no backslash, in which browsers read no host."""
_VISIT_LASTS_S = 3600
_WRONG = "Name or password is wrong."


def routes(site: Site) -> list[BaseRoute]:
    """See `cloud_service.dashboard.site`. /login stands before the guard, /logout behind it."""
    page = _Page(site)
    return [
        Route("/login", page.login, methods=["GET", "POST"]),
        Route("/logout", site.require(Role.VIEWER)(page.logout), methods=["POST"]),
    ]


class _Page:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._sign_in = SignIn(site)

    async def login(self, request: Request) -> Response:
        try:
            return await (self._try(request) if request.method == "POST" else self._show(request))
        except Refused as refused:
            return refusal(self._site.templates, Frame(visitor=None), refused)
        except StorageError:
            unread = Refused(503, "The store cannot be read", "Nobody can sign in now; try again soon.")
            return refusal(self._site.templates, Frame(visitor=None), unread)

    async def logout(self, request: Request) -> Response:
        await self._sign_in.sign_out(self._site.visitor(request), session_cookie(request))
        response = RedirectResponse("/login", 303)
        response.delete_cookie(session_cookie_name(request), secure=_is_tls(request), httponly=True, samesite="strict")
        response.headers["Clear-Site-Data"] = '"cache"'
        return response

    async def _show(self, request: Request) -> Response:
        place = _own_place(request.query_params.get("next", ""))
        if await self._site.guard.visitor(request) is not None:
            return RedirectResponse(place, 303)
        return await self._form(request, place)

    async def _try(self, request: Request) -> Response:
        form = await checked_form(request, request.cookies.get(_visit_name(request), ""))
        name, place = form.get("name", ""), _own_place(form.get("next", ""))
        address = request.client.host if request.client else ""
        attempt = Attempt(name, form.get("password", ""), address, session_cookie(request))
        try:
            session_id = await self._sign_in.sign_in(attempt)
        except Overloaded as error:
            problem = f"Too many attempts. Try again in {error.retry_after_s:.0f} s."
            response = await self._form(request, place, name=name, problem=problem, status=429)
            response.headers.update(retry_after(error.retry_after_s))
            return response
        if session_id is None:
            response = await self._form(request, place, name=name, problem=_WRONG, status=401)
            response.headers.update(CHALLENGE)
            return response
        response = RedirectResponse(place, 303)
        _set_cookie(request, response, session_cookie_name(request), session_id)
        return response

    async def _form(
        self, request: Request, place: str, *, name: str = "", problem: str = "", status: int = 200
    ) -> Response:
        """The form, with a cookie of its own that its token is bound to: a session's is never given out before."""
        visit = request.cookies.get(_visit_name(request)) or new_session_id()
        known = await self._site.read(self._site.access.look, None)
        context = {"place": place, "name": name, "problem": problem, "has_users": known.has_users}
        template = self._site.templates.get_template("login.html")
        frame = Frame(visitor=None, csrf_token=form_token(visit))
        response = Response(template.render(frame=frame, **context), status, media_type="text/html")
        response.headers["Cache-Control"] = "no-store"
        _set_cookie(request, response, _visit_name(request), visit, lasts_s=_VISIT_LASTS_S)
        return response


def _own_place(place: str) -> str:
    """Where to go after the login: a path of this site, or else the overview."""
    return place if _OWN_PLACE.fullmatch(place) else "/"


def _is_tls(request: Request) -> bool:
    return request.url.scheme == "https"


def _visit_name(request: Request) -> str:
    return "__Host-tandem_visit" if _is_tls(request) else "tandem_visit"


def _set_cookie(request: Request, response: Response, name: str, value: str, *, lasts_s: int | None = None) -> None:
    response.set_cookie(
        name, value, max_age=lasts_s, path="/", secure=_is_tls(request), httponly=True, samesite="strict"
    )
