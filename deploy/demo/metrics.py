"""Counters read from Prometheus pages, with what a restart of their process does to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Series:
    """One counter: its name with the `_total`, and its labels in order of their names."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()

    def label(self, name: str) -> str:
        """The value of one label; "" where it is not there."""
        return dict(self.labels).get(name, "")


Sample = Mapping[Series, float]


def parse_counters(page: str) -> dict[Series, float]:
    """All counters on a Prometheus page.

    Raises:
        ValueError: the page is not in Prometheus's text format.
    """
    return {
        Series(sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        if family.type == "counter"
        for sample in family.samples
        if sample.name.endswith("_total")
    }


async def scrape(client: httpx.AsyncClient, url: str) -> dict[Series, float] | None:
    """The counters at `url`; None while nobody answers there."""
    try:
        answer = await client.get(url, timeout=_TIMEOUT_S)
        return parse_counters(answer.text) if answer.status_code == httpx.codes.OK else None
    except (httpx.HTTPError, ValueError):
        return None


class CounterTally:
    """How much counters grew, over restarts of their process, as Prometheus's `increase` counts it.

    A counter that fell began again at zero. What it grew between the last look and the restart is not known and
    left out.
    """

    def __init__(self) -> None:
        self._last: dict[Series, float] | None = None
        self._grown: dict[Series, float] = {}

    def observe(self, sample: Sample) -> None:
        """Take one look; the first one is where counting begins."""
        if self._last is not None:
            for series, value in sample.items():
                before = self._last.get(series, 0.0)
                growth = value - before if value >= before else value
                self._grown[series] = self._grown.get(series, 0.0) + growth
        self._last = dict(sample)

    def total(self, name: str) -> float:
        """What all series of this name grew by, together."""
        return sum(self._named(name).values())

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """What the series of this name grew by, for each value of one label."""
        totals: dict[str, float] = {}
        for series, growth in self._named(name).items():
            totals[series.label(label)] = totals.get(series.label(label), 0.0) + growth
        return totals

    def _named(self, name: str) -> dict[Series, float]:
        return {series: growth for series, growth in self._grown.items() if series.name == name}
