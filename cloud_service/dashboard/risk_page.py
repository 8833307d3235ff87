"""The page of risks: what gates promise, what audits find, and the choice among certified thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlencode

from markupsafe import Markup
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from cloud_service.access.roles import Role
from cloud_service.dashboard.event_stream import EventStream
from cloud_service.dashboard.pages import Regions
from cloud_service.dashboard.refusals import Refused
from cloud_service.dashboard.risk_choices import alphas_of
from cloud_service.dashboard.risk_feed import RiskFeed, RiskPlace
from cloud_service.dashboard.risk_order import (
    Confirmation,
    changes_of,
    confirmation,
    fields_logged,
    order_from,
    policy_for,
)
from cloud_service.dashboard.risk_view import GateView, RiskView, risk_view
from cloud_service.dashboard.risk_wording import FILTERS
from cloud_service.dashboard.site import Site
from cloud_service.storage.policy_store import acknowledge, add_policy, newest_sequence
from cloud_service.storage.risk_reader import RiskReader
from cloud_service.watch.records import GateAlarm, IssuedPolicy
from shared.errors import GateError, InputError, StorageError
from shared.types import GatePolicy

_REGIONS = ("risk_notices", "risk_empty", "risk_chart", "risk_rings", "risk_progress", "risk_alarms", "risk_audits")
_TODAY_S = 24 * 3600
_CHANGED = "the ring's policy has changed since this page was shown: look again before you decide"


def routes(site: Site) -> list[BaseRoute]:
    """See `cloud_service.dashboard.site`."""
    page = _Page(site)
    viewers, operators = site.require(Role.VIEWER), site.require(Role.OPERATOR)
    return [
        Route("/risk", viewers(page.show)),
        Route("/risk/events", viewers(page.events)),
        Route("/risk/confirm", operators(page.confirm), methods=["POST"]),
        Route("/risk/apply", operators(page.apply), methods=["POST"]),
        Route("/risk/alarm", operators(page.alarm), methods=["GET"]),
        Route("/risk/alarm", operators(page.acknowledge), methods=["POST"]),
    ]


@dataclass(frozen=True)
class _Asked:
    """An order as asked for: what it is about now, and the policy that would be issued."""

    gate: GateView
    policy: GatePolicy
    seen_sequence: int


class _Page:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._reader = RiskReader(site.reading)
        for name, each in FILTERS.items():
            site.templates.filters[name] = each
        self._feed = RiskFeed(self._look, self._regions, site.clock, site.settings.web.refresh_ms / 1e3)
        site.on_close.append(self._feed.close)

    async def show(self, request: Request) -> Response:
        place, chosen = _place_of(request.query_params), _alphas_asked(request.query_params)
        with _store_in_use():
            view = await self._site.read(self._look, place, chosen)
        regions = {name: Markup(html) for name, html in self._regions(view).items()}  # noqa: S704 - our own, escaped
        if view.shown:
            place = RiskPlace(view.shown.known.digest, view.shown.ring.ring)
        visitor = self._site.visitor(request)
        return self._site.render(
            request,
            "risk.html",
            view=view,
            regions=regions,
            stream=f"/risk/events?{urlencode({'gate': place.digest, 'ring': place.ring})}",
            may_act=not visitor.is_anonymous and visitor.role.covers(Role.OPERATOR),
        )

    async def events(self, request: Request) -> Response:
        return EventStream(self._feed, _place_of(request.query_params))

    async def confirm(self, request: Request) -> Response:
        """Ask whether it is meant; nothing is written."""
        form = dict(self._site.form(request))
        try:
            with _store_in_use():
                shown = await self._site.read(self._confirmation, request, form)
        except (GateError, InputError) as error:
            return self._refused(request, form, error)
        return self._site.render(request, "risk_confirm.html", order=shown)

    async def apply(self, request: Request) -> Response:
        """Issue the policy and log it, in one transaction."""
        form = dict(self._site.form(request))
        try:
            if not form.get("reason", "").strip():
                raise InputError("say why, for the log of actions")
            with _store_in_use():
                await self._issue(request, form)
        except (GateError, InputError) as error:
            return self._refused(request, form, error)
        return RedirectResponse(_address(form) + "#progress-title", 303)

    async def _issue(self, request: Request, form: Mapping[str, str]) -> None:
        asked = await self._site.read(self._asked, request, form)
        if form.get("seen_sequence", "") != str(asked.seen_sequence):
            raise InputError(_CHANGED)
        row = asked.gate.ring
        changes = changes_of(asked.gate.known.gate, row, asked.policy)
        logged = fields_logged(row.ring, asked.policy, changes)
        await self._site.act(
            request, "gate.policy", f"{asked.policy.model}/{row.ring}", logged, partial(_add_if_unchanged, asked)
        )

    async def alarm(self, request: Request) -> Response:
        """Ask what was found."""
        found = await self._alarm(request.query_params.get("id", ""))
        now_s = self._site.now_ms() // 1000
        return self._site.render(request, "risk_alarm.html", alarm=found, now_s=now_s)

    async def acknowledge(self, request: Request) -> Response:
        """Note it and log it, in one transaction."""
        form = self._site.form(request)
        found, reason = await self._alarm(form.get("id", "")), form.get("reason", "").strip()
        place = {"gate": found.gate.gate_digest, "ring": found.gate.ring}
        by, now_s = self._site.visitor(request).name, self._site.now_ms() // 1000
        logged = {"alarm": found.id, "text": found.text, "reason": reason}
        subject = f"{found.gate.model}/{found.gate.ring}"
        try:
            if not reason or not reason.isprintable():
                raise InputError("say what was found, for the log of actions")
            with _store_in_use():
                change = partial(_acknowledge_once, found.id, by, now_s)
                await self._site.act(request, "gate.acknowledge", subject, logged, change)
        except InputError as error:
            return self._refused(request, place, error)
        return RedirectResponse(_address(place) + "#alarms-title", 303)

    async def _alarm(self, alarm_id: str) -> GateAlarm:
        with _store_in_use():
            found = await self._site.read(self._reader.alarm, alarm_id)
        if found is None:
            raise Refused(404, "There is no such alarm", "It may have been pruned.")
        return found

    def _look(self, place: RiskPlace, chosen: Mapping[str, float] | None = None) -> RiskView:
        """In a worker thread."""
        now_s = self._site.now_ms() // 1000
        seen_since_s = now_s - self._site.settings.fleet.offline_after_ms // 1000
        reading = self._reader.read(place.digest, place.ring, now_s - _TODAY_S, seen_since_s)
        return risk_view(reading, place.ring, alphas_of(chosen or {}), now_s=now_s)

    def _regions(self, view: RiskView, problem: str = "") -> Regions:
        templates = self._site.templates
        return {name: templates.get_template(f"{name}.html").render(view=view, problem=problem) for name in _REGIONS}

    def _asked(self, request: Request, form: Mapping[str, str]) -> _Asked:
        """In a worker thread. Raises GateError, InputError, StorageError."""
        place = _place_of(form)
        view = self._look(place)
        if not place.digest or view.shown is None:
            raise InputError("this gate is not known here")
        gate = view.shown
        if gate.ring.ring != place.ring:
            raise InputError(f"there is no ring {place.ring!r} with this gate")
        current = gate.ring.policy.policy if gate.ring.policy else None
        sequence = self._reader.newest_sequence(place.ring, gate.known.model)
        policy = policy_for(
            gate.known,
            place.ring,
            order_from(form, current),
            newest_sequence=sequence,
            issued_by=self._site.visitor(request).name,
            now_unix_ms=self._site.now_ms(),
        )
        return _Asked(gate, policy, sequence)

    def _confirmation(self, request: Request, form: Mapping[str, str]) -> Confirmation:
        """In a worker thread. Raises as `_asked`."""
        asked = self._asked(request, form)
        fields = {**form, "seen_sequence": str(asked.seen_sequence)}
        return confirmation(asked.gate.known, asked.gate.ring, asked.policy, fields, asked.gate.audit_share)

    def _refused(self, request: Request, form: Mapping[str, str], error: Exception) -> Response:
        return self._site.render(request, "risk_refused.html", 422, problem=_sentence(error), back=_address(form))


def _add_if_unchanged(asked: _Asked, connection: Connection) -> None:
    """Fails where another policy came between."""
    ring = asked.gate.ring.ring
    if newest_sequence(connection, ring, asked.policy.model) != asked.seen_sequence:
        raise InputError(_CHANGED)
    add_policy(connection, IssuedPolicy(asked.policy, ring, asked.policy.issued_at_unix_ms // 1000))


def _acknowledge_once(alarm_id: str, by: str, now_s: int, connection: Connection) -> None:
    if not acknowledge(connection, alarm_id, by, now_s):
        raise InputError("somebody has acknowledged it already")


@contextmanager
def _store_in_use() -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        raise Refused(503, "The store cannot be used", "Nothing was done. Try again soon.") from error


def _place_of(fields: Mapping[str, str]) -> RiskPlace:
    return RiskPlace(fields.get("gate", ""), fields.get("ring", ""))


def _alphas_asked(fields: Mapping[str, str]) -> dict[str, float]:
    """The choice that an address names; what is no number is left out."""
    found = {}
    for name, text in fields.items():
        if name.startswith("alpha."):
            try:
                found[name.removeprefix("alpha.")] = float(text)
            except ValueError:
                continue
    return found


def _address(fields: Mapping[str, str]) -> str:
    return "/risk?" + urlencode({name: fields[name] for name in ("gate", "ring") if name in fields})


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
