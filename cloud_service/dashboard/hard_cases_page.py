"""Hard cases: what was escalated or audited wrong, in groups, and as a table for the next training."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from cloud_service.access.roles import Role
from cloud_service.cases.export import request_table, training_table
from cloud_service.cases.grouping import CaseKind
from cloud_service.dashboard.csv_export import MEDIA_TYPE, csv_text
from cloud_service.dashboard.hard_cases_view import (
    KIND_WORDS,
    MOST_COMPARISONS,
    MOST_EXPORTED,
    MOST_LOOKED_AT,
    CasesAddress,
    CasesView,
    PairDetail,
    cases_address,
    cases_view,
    pair_detail,
)
from cloud_service.dashboard.ranges import PRESETS
from cloud_service.dashboard.refusals import Refused
from cloud_service.dashboard.site import Site
from cloud_service.storage.case_reader import CaseChoices, CaseReader
from shared.errors import InputError, NotReady, StorageError

_MOST_FOR_CHOICES = 10_000


def routes(site: Site) -> list[BaseRoute]:
    """See `cloud_service.dashboard.site`."""
    page = _Page(site)
    return [
        Route("/hard-cases", site.require(Role.VIEWER)(page.show)),
        Route("/hard-cases.csv", site.require(Role.OPERATOR)(page.export)),
    ]


@dataclass(frozen=True)
class _Shown:
    view: CasesView
    choices: CaseChoices
    keeps_text: bool
    may_read: bool
    is_set_up: bool = True


class _Page:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._reader = CaseReader(site.reading)
        self._keeps_text = site.settings.privacy.keep_text

    async def show(self, request: Request) -> Response:
        address = self._address(request)
        may_read = self._site.visitor(request).role.covers(Role.OPERATOR)
        try:
            shown = await self._site.read(self._look, address, may_read)
        except NotReady:
            view = cases_view(address, [], 0, None)
            shown = _Shown(view, CaseChoices((), (), ()), self._keeps_text, may_read, is_set_up=False)
        except StorageError as error:
            raise Refused(503, "Hard cases cannot be read", "The store does not answer; try again soon.") from error
        return self._site.render(
            request, "hard_cases.html", shown=shown, view=shown.view, presets=PRESETS.values(), kinds=list(CaseKind),
            words=KIND_WORDS, now_s=self._now_s(),
        )  # fmt: skip

    async def export(self, request: Request) -> Response:
        """Text and right label where texts are kept, else the requests by name; on record in the log of actions."""
        address = self._address(request)
        try:
            header, rows = await self._site.read(self._table, address)
            detail = {"view": address.query(), "rows": len(rows), "with_text": self._keeps_text}
            await self._site.record(request, "cases.export", address.model or "all models", detail)
        except (NotReady, StorageError) as error:
            raise Refused(503, "Hard cases cannot be exported", "The store does not answer; try again soon.") from error
        headers = {"Content-Disposition": 'attachment; filename="hard-cases.csv"'}
        return Response(csv_text(header, rows), media_type=MEDIA_TYPE, headers=headers)

    def _address(self, request: Request) -> CasesAddress:
        try:
            return cases_address(dict(request.query_params), self._now_s())
        except InputError as error:
            raise Refused(400, "This address names no view", f"{error}.") from error

    def _look(self, address: CasesAddress, may_read: bool) -> _Shown:
        """In a worker thread."""
        asked = address.of_pair(None).filter(self._now_s())
        found = self._reader.pair_counts(asked, MOST_COMPARISONS)
        choices = self._reader.choices(asked, _MOST_FOR_CHOICES)
        view = cases_view(address, found.counts, found.looked_at, self._detail(address, may_read))
        return _Shown(view, choices, self._keeps_text, may_read)

    def _detail(self, address: CasesAddress, may_read: bool) -> PairDetail | None:
        if address.pair is None:
            return None
        asked, with_text = address.filter(self._now_s()), self._keeps_text and may_read
        cases = self._reader.cases(asked, MOST_COMPARISONS, MOST_LOOKED_AT, with_text=with_text)
        return pair_detail(address.pair, cases)

    def _table(self, address: CasesAddress) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """In a worker thread."""
        asked = address.filter(self._now_s())
        cases = self._reader.cases(asked, MOST_EXPORTED, MOST_EXPORTED, with_text=self._keeps_text)
        return training_table(cases) if self._keeps_text else request_table(cases)

    def _now_s(self) -> int:
        return self._site.now_ms() // 1000
