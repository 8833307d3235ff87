"""One way through the questions, measured: what the customers see, and what devices and gateway count meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import anyio
import httpx

from deploy.demo.client import Customers, Device
from deploy.demo.errors import DemoError
from deploy.demo.metrics import CounterTally, scrape
from deploy.demo.questions import Question
from deploy.demo.report import PassRecord
from deploy.demo.results import Pass, Result
from shared.types import Outcome

_SCRAPE_EVERY_S = 1.0
_PROBE = "How do I order a card?"


class Tallies:
    """The counters of the devices and of the gateway, followed while a pass runs."""

    def __init__(self, http: httpx.AsyncClient, devices: Sequence[Device], gateway_url: str) -> None:
        self._http = http
        self.devices = {device.device_id: CounterTally() for device in devices}
        self.gateway = CounterTally()
        self._pages = [(f"{device.url}/metrics", self.devices[device.device_id]) for device in devices]
        self._pages.append((f"{gateway_url}/metrics", self.gateway))

    async def look(self) -> None:
        """Read every page once; what is down is left out."""
        for page, tally in self._pages:
            sample = await scrape(self._http, page)
            if sample is not None:
                tally.observe(sample)

    async def follow(self) -> None:
        """Look again and again until cancelled, so that a restart costs at most the counts of a second."""
        while True:
            await anyio.sleep(_SCRAPE_EVERY_S)
            await self.look()


async def run_pass(
    customers: Customers,
    tallies: Tallies,
    questions: Sequence[Question],
    way: Pass,
    on_result: Callable[[Result], None],
) -> PassRecord:
    """Ask all questions this way; `on_result` hears of each as it ends."""
    results: list[Result] = []

    def note(result: Result) -> None:
        results.append(result)
        on_result(result)

    await tallies.look()
    begin = time.monotonic()
    async with anyio.create_task_group() as group:
        group.start_soon(tallies.follow)
        await customers.ask_all([question.text for question in questions], way, note)
        seconds = time.monotonic() - begin
        group.cancel_scope.cancel()
    await tallies.look()
    return PassRecord(tuple(results), seconds, tallies.devices, tallies.gateway)


async def wait_for_links(customers: Customers, devices: Sequence[Device], within_s: float) -> None:
    """Return when every device has had an answer from the cloud, as it does again some seconds after a restart.

    Raises:
        DemoError: a device gets none in time.
    """
    waiting = {device.device_id for device in devices}
    with anyio.move_on_after(within_s):
        while waiting:
            seen: list[Result] = []
            await customers.ask_all([_PROBE] * len(devices), Pass.CLOUD_ONLY, seen.append)
            waiting -= {result.device for result in seen if result.outcome is Outcome.CLOUD}
            if waiting:
                await anyio.sleep(0.2)
    if waiting:
        raise DemoError(f"{', '.join(sorted(waiting))} had no answer from the cloud within {within_s:g} s")
