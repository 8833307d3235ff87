"""The pages of updates: what rings run, all rollouts, and one of them with what may be ordered of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from cloud_service.access.roles import Role
from cloud_service.dashboard.event_stream import EventStream
from cloud_service.dashboard.pages import Regions
from cloud_service.dashboard.place_feed import PlaceFeed
from cloud_service.dashboard.refusals import Refused
from cloud_service.dashboard.rollout_arms_view import is_comparing
from cloud_service.dashboard.rollout_order_view import order_named, order_question, require_seen
from cloud_service.dashboard.rollout_view import (
    FAILURES_A_PAGE,
    KIND_WORDS,
    RolloutReading,
    RolloutView,
    rings_watched,
    rollout_view,
)
from cloud_service.dashboard.rollouts_view import MOST_ROLLOUTS, RolloutsReading, RolloutsView, rollouts_view
from cloud_service.dashboard.site import Site
from cloud_service.dashboard.wording import duration, percentage_points
from cloud_service.rollout.desk import RolloutDesk
from cloud_service.rollout.log_entries import Actor
from cloud_service.rollout.records import FieldFigures, Rollout
from cloud_service.storage.rollout_pins import PinReader
from cloud_service.storage.rollout_reader import RolloutReader
from cloud_service.storage.rollout_store import RolloutStore
from shared.errors import RolloutError, StorageError

_ALL_REGIONS = ("rollouts_notices", "rollouts_rings", "rollouts_list")
_REGIONS = ("rollout_notices", "rollout_head", "rollout_stages", "rollout_arms", "rollout_failures")
_MOST_PAGES = 1_000_000


def routes(site: Site) -> list[BaseRoute]:
    """See `cloud_service.dashboard.site`."""
    page = _Page(site)
    viewers, operators = site.require(Role.VIEWER), site.require(Role.OPERATOR)
    return [
        Route("/updates", viewers(page.show_all)),
        Route("/updates/events", viewers(page.events_of_all)),
        Route("/updates/{rollout_id}", viewers(page.show)),
        Route("/updates/{rollout_id}/events", viewers(page.events)),
        Route("/updates/{rollout_id}/confirm", operators(page.confirm), methods=["POST"]),
        Route("/updates/{rollout_id}/order", operators(page.order), methods=["POST"]),
    ]


@dataclass(frozen=True)
class _Place:
    """What is looked at: a rollout, and a page of its failures."""

    rollout_id: str
    failures_page: int = 1


class _Page:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._reader = RolloutReader(site.reading)
        self._pins = PinReader(site.reading)
        self._desk = RolloutDesk(RolloutStore(site.writing), site.clock)
        site.templates.filters["duration"] = duration
        site.templates.filters["percentage_points"] = percentage_points
        site.templates.globals["kind_words"] = KIND_WORDS
        refresh_s = site.settings.web.refresh_ms / 1e3
        self._all = PlaceFeed[None, RolloutsView](
            self._look_at_all, partial(self._regions, _ALL_REGIONS), site.clock, refresh_s
        )
        self._one = PlaceFeed[_Place, RolloutView](
            self._look_again, partial(self._regions, _REGIONS), site.clock, refresh_s
        )
        site.on_close.extend((self._all.close, self._one.close))

    async def show_all(self, request: Request) -> Response:
        """What rings run, and the list of rollouts."""
        with _store_in_use():
            view = await self._site.read(self._look_at_all, None)
        regions = _whole(self._regions(_ALL_REGIONS, view))
        return self._site.render(request, "rollouts.html", view=view, regions=regions, stream="/updates/events")

    async def events_of_all(self, request: Request) -> Response:
        """The list, live."""
        return EventStream(self._all, None)

    async def show(self, request: Request) -> Response:
        """One rollout."""
        place = _place_of(request)
        with _store_in_use():
            view = await self._site.read(self._look, place)
        visitor = self._site.visitor(request)
        return self._site.render(
            request,
            "rollout.html",
            view=view,
            regions=_whole(self._regions(_REGIONS, view)),
            stream=f"/updates/{place.rollout_id}/events?failures={place.failures_page}",
            may_act=not visitor.is_anonymous and visitor.role.covers(Role.OPERATOR),
        )

    async def events(self, request: Request) -> Response:
        """One rollout, live."""
        place = _place_of(request)
        with _store_in_use():
            await self._site.read(self._known, place.rollout_id)
        return EventStream(self._one, place)

    async def confirm(self, request: Request) -> Response:
        """Ask whether it is meant; nothing is written."""
        rollout_id = request.path_params["rollout_id"]
        try:
            order = order_named(self._site.form(request).get("order", ""))
            with _store_in_use():
                rollout = await self._site.read(self._known, rollout_id)
            question = order_question(order, rollout)
        except RolloutError as error:
            return self._refused(request, rollout_id, error)
        return self._site.render(request, "rollout_confirm.html", asked=question)

    async def order(self, request: Request) -> Response:
        """Give the order; the desk logs it in the same transaction."""
        rollout_id, form = request.path_params["rollout_id"], self._site.form(request)
        visitor = self._site.visitor(request)
        actor = Actor(visitor.name, visitor.role.value)
        try:
            order = order_named(form.get("order", ""))
            check = partial(require_seen, order, form.get("seen", ""))
            with _store_in_use():
                await self._site.read(self._known, rollout_id)
                await self._site.read(self._desk.give, order, rollout_id, actor, check)
        except RolloutError as error:
            return self._refused(request, rollout_id, error)
        return RedirectResponse(f"/updates/{rollout_id}", 303)

    def _look_at_all(self, place: None) -> RolloutsView:
        """In a worker thread."""
        with _readable():
            found = self._reader.rollouts(limit=MOST_ROLLOUTS + 1)
        shares = {model: self._reader.ring_shares(model) for model in self._reader.models()}
        reading = RolloutsReading(tuple(found), tuple(self._reader.orders()), shares, tuple(self._pins.pins()))
        is_carried_out = self._site.settings.rollout is not None
        return rollouts_view(reading, self._now_s(), is_carried_out=is_carried_out)

    def _look(self, place: _Place) -> RolloutView:
        """In a worker thread."""
        rollout, now_s = self._known(place.rollout_id), self._now_s()
        orders = self._reader.orders(rollout.plan.model)
        offset = (place.failures_page - 1) * FAILURES_A_PAGE
        reading = RolloutReading(
            rollout,
            {ring: self._field(rollout, ring, since_s, now_s) for ring, since_s in rings_watched(rollout).items()},
            tuple(each for each in orders if each.rollout_id == rollout.id and each.signed_s is None),
            tuple(self._reader.failures(rollout.id, limit=FAILURES_A_PAGE, offset=offset)),
            self._reader.failure_counts(rollout.id),
            place.failures_page,
        )
        return rollout_view(reading, now_s)

    def _look_again(self, place: _Place) -> RolloutView:
        """In a worker thread: one that was there before may have been pruned."""
        try:
            return self._look(place)
        except Refused as refused:
            raise StorageError(f"{place.rollout_id}: {refused.text}") from refused

    def _field(self, rollout: Rollout, ring: str, since_s: int, now_s: int) -> FieldFigures:
        plan, before = rollout.plan, rollout.plan.fallback(ring)
        if before is not None and is_comparing(rollout):
            arms = plan.release, before
            return self._reader.arm_figures(plan.model, ring, *arms, since_s, now_s, by_key=plan.splits_requests)
        return self._reader.field_figures(plan.model, ring, plan.release, before, since_s, now_s)

    def _known(self, rollout_id: str) -> Rollout:
        """In a worker thread."""
        with _readable():
            rollout = self._reader.rollout(rollout_id)
        if rollout is None:
            raise Refused(404, "No such rollout", "There is none by this name, or it was made with another store.")
        return rollout

    def _regions(self, names: tuple[str, ...], view: object, problem: str = "") -> Regions:
        templates = self._site.templates
        return {name: templates.get_template(f"{name}.html").render(view=view, problem=problem) for name in names}

    def _refused(self, request: Request, rollout_id: str, error: RolloutError) -> Response:
        text = str(error)
        problem = f"{text[:1].upper()}{text[1:]}."
        return self._site.render(request, "rollout_refused.html", 422, problem=problem, rollout_id=rollout_id)

    def _now_s(self) -> int:
        return self._site.now_ms() // 1000


def _whole(regions: Regions) -> dict[str, Markup]:
    return {name: Markup(html) for name, html in regions.items()}  # noqa: S704 - our own, escaped when rendered


def _place_of(request: Request) -> _Place:
    page = request.query_params.get("failures", "1")
    if not (page.isascii() and page.isdigit() and 0 < int(page[:9]) <= _MOST_PAGES):
        raise Refused(400, "There is no such page", "The address asks for a page of failures that cannot be.")
    return _Place(request.path_params["rollout_id"], int(page[:9]))


@contextmanager
def _readable() -> Iterator[None]:
    """What a newer Tandem wrote is as good as a store that cannot be read."""
    try:
        yield
    except RolloutError as error:
        raise StorageError(str(error)) from error


@contextmanager
def _store_in_use() -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        raise Refused(503, "The store cannot be used", f"Nothing was done: {error}. Try again soon.") from error
