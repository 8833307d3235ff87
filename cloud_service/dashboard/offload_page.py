"""How much is offloaded, told apart: by device, ring, model version, variant, reason or label."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from cloud_service.access.roles import Role
from cloud_service.dashboard.csv_export import MEDIA_TYPE
from cloud_service.dashboard.offload_address import Dimension, OffloadAddress, offload_address
from cloud_service.dashboard.offload_question import OffloadQuestion
from cloud_service.dashboard.offload_statistics import METHOD
from cloud_service.dashboard.offload_view import Looked, OffloadView, csv_name, offload_view, other_axis_of
from cloud_service.dashboard.ranges import Axis, Stretch, axis_for
from cloud_service.dashboard.refusals import Refused
from cloud_service.dashboard.site import Site
from cloud_service.fleet.buckets import DEVICE_WIDTHS_S
from cloud_service.fleet.retention import retention_of
from cloud_service.storage.offload_reader import OffloadReader
from shared.errors import InputError, StorageError


def routes(site: Site) -> list[BaseRoute]:
    """See `cloud_service.dashboard.site`."""
    page, viewers = _Page(site), site.require(Role.VIEWER)
    return [Route("/offload", viewers(page.show)), Route("/offload.csv", viewers(page.export))]


class _Page:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._reader = OffloadReader(site.reading)
        self._retention = retention_of(site.settings.fleet)

    async def show(self, request: Request) -> Response:
        """The page. An address that is not canonical leads to the one that is, so that each view has one."""
        address, now_s = self._asked(request)
        if request.url.query != address.query():
            return RedirectResponse("/offload" + (f"?{address.query()}" if address.query() else ""), 302)
        view = await self._view(address, now_s)
        return self._site.render(request, "offload.html", view=view, method=METHOD)

    async def export(self, request: Request) -> Response:
        """What the page shows, as CSV."""
        address, now_s = self._asked(request)
        view = await self._view(address, now_s)
        headers = {"Content-Disposition": f'attachment; filename="{csv_name(address, view.axis)}"'}
        return Response(view.table.csv(), media_type=MEDIA_TYPE, headers=headers)

    def _asked(self, request: Request) -> tuple[OffloadAddress, int]:
        now_s = self._site.now_ms() // 1000
        try:
            return offload_address(request.query_params.multi_items(), now_s), now_s
        except InputError as error:
            raise Refused(400, "There is no such view", f"{error}.") from error

    async def _view(self, address: OffloadAddress, now_s: int) -> OffloadView:
        try:
            return await self._site.read(self._look, address, now_s)
        except StorageError as error:
            raise Refused(
                503, "The store cannot be read", "Try again soon; the log of the service says more."
            ) from error

    def _look(self, address: OffloadAddress, now_s: int) -> OffloadView:
        """In a worker thread."""
        axis = self._axis(address, address.stretch, now_s)
        asked = OffloadQuestion(address.by, axis, address.filter, named=address.pair or ())
        reading = self._reader.read(asked)
        if reading is None:
            return offload_view(address, None, now_s, axis)
        against = self._axis(address, address.against, now_s) if address.against else None
        other_axis = other_axis_of(address, axis, against)
        other = None
        if other_axis is not None:
            names = tuple(each.value for each in reading.slices)
            other = self._reader.read(replace(asked, axis=other_axis, top=0, named=names))
        return offload_view(address, Looked(reading, axis, other, other_axis if other else None), now_s, axis)

    def _axis(self, address: OffloadAddress, stretch: Stretch, now_s: int) -> Axis:
        """Devices have no buckets of ten seconds or ten minutes of their own."""
        kept = self._retention.kept_since(now_s)
        if address.by is Dimension.DEVICE:
            kept = {width_s: since_s for width_s, since_s in kept.items() if width_s in DEVICE_WIDTHS_S}
        return axis_for(stretch, now_s, kept)
