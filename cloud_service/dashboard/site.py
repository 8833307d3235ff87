"""What every page of the operator's site is made with, and how to add one.

A page is a module of this package with one function, listed in `cloud_service.dashboard.app.PAGES`:

    def routes(site: Site) -> list[BaseRoute]:
        page = _Page(site)
        return [
            Route("/risk", site.require(Role.VIEWER)(page.show)),
            Route("/risk/alpha", site.require(Role.OPERATOR)(page.apply), methods=["POST"]),
        ]

- Every endpoint stands behind `site.require`; a test walks all routes to see that none is forgotten.
- `show` reads in a worker thread, `await site.read(function, ...)`, and answers with `site.render(request,
  "risk.html", ...)`. The template extends base.html and fills the blocks title and main, and where it needs them head
  (its own stylesheet and script from /static; nothing inline), ranges, status, notices and footer.
- A form has `method="post"` and `<input type="hidden" name="csrf" value="{{ frame.csrf_token }}">`; a script sends the
  same fields with fetch and URLSearchParams. `apply` takes them from `site.form(request)`, does its work and its entry
  in the log of actions in one transaction by `await site.act(...)`, and answers `RedirectResponse("/risk", 303)`.
- The way to it in the navigation is in `cloud_service.dashboard.navigation.LINKS`; it shows once the page is served.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from jinja2 import Environment
from sqlalchemy import Connection, Engine
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from cloud_service.access.action_log import Entry, detail_json
from cloud_service.access.passwords import Passwords
from cloud_service.access.roles import Role, Visitor
from cloud_service.access.sessions import SessionLimits
from cloud_service.config import CloudSettings
from cloud_service.dashboard.guard import Endpoint, Guard, csrf_token, frame_of
from cloud_service.dashboard.templating import make_templates
from cloud_service.storage.access_store import AccessStore
from cloud_service.storage.engine import open_engine
from cloud_service.storage.transactions import open_durable_engine
from shared.clock import Clock

P = ParamSpec("P")
T = TypeVar("T")
_THREADS = 4


@dataclass(frozen=True)
class Site:
    """`reading` only reads; what is committed through `writing` is on disk. Both block: see `read` and `act`.

    `on_close`: what ends a page's streams when the server goes down.
    """

    settings: CloudSettings
    clock: Clock
    reading: Engine
    writing: Engine
    templates: Environment
    passwords: Passwords
    access: AccessStore
    guard: Guard
    threads: CapacityLimiter
    on_close: list[Callable[[], None]] = field(default_factory=list)

    def require(self, role: Role) -> Callable[[Endpoint], Endpoint]:
        """See `Guard.require`."""
        return self.guard.require(role)

    def visitor(self, request: Request) -> Visitor:
        """Who asks; behind `require`."""
        visitor: Visitor = request.state.visitor
        return visitor

    def form(self, request: Request) -> QueryParams:
        """The fields of the form that was sent; behind `require`, which has checked where it comes from."""
        form: QueryParams = request.state.form
        return form

    def csrf_token(self, request: Request) -> str:
        """The token for forms on this visitor's pages; templates have it as `frame.csrf_token`."""
        return csrf_token(request)

    def render(self, request: Request, template: str, status: int = 200, **context: object) -> Response:
        """The page that `template` makes of `context`, in its frame."""
        page = self.templates.get_template(template).render(frame=frame_of(request), **context)
        return HTMLResponse(page, status)

    async def read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what blocks in a worker thread."""
        return await to_thread.run_sync(partial(function, *args, **kwargs), limiter=self.threads)

    def entry(self, request: Request, action: str, subject: str, detail: Mapping[str, object]) -> Entry:
        """What the visitor does now, for the log of actions. `action` is a word and a verb: `gate.tighten`."""
        visitor = self.visitor(request)
        return Entry(self.now_ms(), visitor.name, visitor.role.value, action, subject, detail_json(detail))

    async def act(
        self,
        request: Request,
        action: str,
        subject: str,
        detail: Mapping[str, object],
        change: Callable[[Connection], T],
    ) -> T:
        """Make `change` in the store and log it, in one transaction: both or neither.

        Raises:
            StorageError: the store cannot be written.
        """
        return await self.read(self.access.act, self.entry(request, action, subject, detail), change)

    async def record(self, request: Request, action: str, subject: str, detail: Mapping[str, object]) -> None:
        """Log an action that changes nothing in the store.

        Raises:
            StorageError: the store cannot be written.
        """
        await self.act(request, action, subject, detail, lambda connection: None)

    def now_ms(self) -> int:
        """The server's time, ms since 1970-01-01 UTC."""
        return int(self.clock.unix_s() * 1000)

    def close(self) -> None:
        """Give all connections back."""
        self.reading.dispose()
        self.writing.dispose()


def open_site(settings: CloudSettings, clock: Clock, passwords: Passwords) -> Site:
    """The site over the store that `settings` name. Connects to nothing yet.

    Raises:
        ConfigurationError: the store's URL is none.
    """
    url = settings.storage_url()
    reading, writing = open_engine(url, writes=False), open_durable_engine(url)
    templates, access, threads = make_templates(), AccessStore(reading, writing), CapacityLimiter(_THREADS)
    limits = SessionLimits(settings.web.session_idle_ms, settings.web.session_longest_ms)
    guard = Guard(access, clock, templates, threads, limits, is_login_required=settings.web.login == "required")
    return Site(settings, clock, reading, writing, templates, passwords, access, guard, threads)
