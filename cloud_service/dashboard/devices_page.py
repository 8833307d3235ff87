"""The list of all devices, and the page of one."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from cloud_service.access.roles import Role
from cloud_service.dashboard.devices_address import POLICIES, PRESENCES, DevicesAddress, devices_address
from cloud_service.dashboard.devices_question import DeviceHistory
from cloud_service.dashboard.devices_view import (
    LINK_WORDS,
    NUMBERS,
    DevicesView,
    device_view,
    devices_view,
    gate_words,
    in_force_words,
)
from cloud_service.dashboard.ranges import DEFAULT_PRESET, PRESETS, Preset, Stretch, axis_for
from cloud_service.dashboard.refusals import Refused
from cloud_service.dashboard.rollouts_view import progress_words
from cloud_service.dashboard.site import Site
from cloud_service.fleet.buckets import DEVICE_WIDTHS_S
from cloud_service.fleet.retention import retention_of
from cloud_service.storage.device_reader import DeviceReader
from cloud_service.storage.rollout_reader import RolloutReader
from shared.errors import InputError, StorageError
from shared.types import IDENTIFIER
from shared.update.report import UpdateReport


def routes(site: Site) -> list[BaseRoute]:
    """See `cloud_service.dashboard.site`."""
    page, viewers = _Page(site), site.require(Role.VIEWER)
    return [Route("/devices", viewers(page.show)), Route("/devices/{device_id}", viewers(page.show_one))]


class _Page:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._reader = DeviceReader(site.reading)
        self._updates = RolloutReader(site.reading)
        self._retention = retention_of(site.settings.fleet)
        self._offline_after_s = site.settings.fleet.offline_after_ms // 1000

    async def show(self, request: Request) -> Response:
        """The list. An address that is not canonical leads to the one that is."""
        try:
            address = devices_address(request.query_params.multi_items())
        except InputError as error:
            raise Refused(400, "There is no such list", f"{error}.") from error
        if request.url.query != address.query():
            return RedirectResponse("/devices" + (f"?{address.query()}" if address.query() else ""), 302)
        try:
            view = await self._site.read(self._look, address)
        except StorageError as error:
            raise _unreadable() from error
        return self._site.render(
            request, "devices_page.html", view=view, presences=PRESENCES, policies=POLICIES, numbers=NUMBERS
        )

    async def show_one(self, request: Request) -> Response:
        """One device."""
        device_id, now_s = request.path_params["device_id"], self._now_s()
        key = request.query_params.get("range", DEFAULT_PRESET.key)
        if key not in PRESETS:
            raise Refused(400, "There is no such stretch", f"range must be one of {', '.join(PRESETS)}.")
        try:
            history = await self._site.read(self._look_at, device_id, PRESETS[key], now_s)
            updates = await self._site.read(self._updates_of, device_id, history)
        except StorageError as error:
            raise _unreadable() from error
        if history is None:
            raise Refused(404, "No such device", "Nothing by this name has ever reported here.")
        view = device_view(history, PRESETS[key], now_s, now_s - self._offline_after_s)
        return self._site.render(
            request,
            "device.html",
            view=view,
            gate_words=gate_words,
            in_force_words=in_force_words,
            link_words=LINK_WORDS,
            updates=updates,
            progress_words=progress_words,
        )

    def _look(self, address: DevicesAddress) -> DevicesView:
        """In a worker thread."""
        now_s = self._now_s()
        seen_since_s = now_s - self._offline_after_s
        return devices_view(address, self._reader.page(address, seen_since_s), now_s, seen_since_s)

    def _look_at(self, device_id: str, shown: Preset, now_s: int) -> DeviceHistory | None:
        """In a worker thread."""
        if not IDENTIFIER.fullmatch(device_id):
            return None
        kept = self._retention.kept_since(now_s)
        of_devices = {width_s: since_s for width_s, since_s in kept.items() if width_s in DEVICE_WIDTHS_S}
        return self._reader.device(device_id, axis_for(Stretch(shown), now_s, of_devices))

    def _updates_of(self, device_id: str, history: DeviceHistory | None) -> dict[str, UpdateReport]:
        """In a worker thread: the newest word on each model's updates."""
        models = {each.model for each in history.models} if history else set()
        found = {model: self._updates.report(device_id, model) for model in models}
        return {model: report for model, report in found.items() if report is not None}

    def _now_s(self) -> int:
        return self._site.now_ms() // 1000


def _unreadable() -> Refused:
    return Refused(503, "The store cannot be read", "Try again soon.")
