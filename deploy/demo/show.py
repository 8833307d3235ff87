"""What is shown once everything runs: the questions asked in three ways, the report, and then life goes on."""

from __future__ import annotations

import json
import os
import platform
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from deploy.demo.arguments import Options
from deploy.demo.client import Customers, Load
from deploy.demo.configuration import Layout
from deploy.demo.measure import Tallies, run_pass, wait_for_links
from deploy.demo.plans import devices, url
from deploy.demo.questions import Question
from deploy.demo.report import PassRecord, Run, build_report
from deploy.demo.results import Pass
from deploy.demo.screen import Screen
from deploy.demo.stage import Stage
from deploy.demo.summary import TITLES, LiveSummary, final_summary

REPORT_FILE = "report.json"
_LINK_WITHIN_S = 60.0
_AFTERWARDS = Load(rate=2.0, concurrency=1)


class Show:
    """The customers' side of one run."""

    def __init__(
        self,
        options: Options,
        layout: Layout,
        stage: Stage,
        http: httpx.AsyncClient,
        screen: Screen,
        questions: Sequence[Question],
        labels: frozenset[str],
    ) -> None:
        self._options = options
        self._layout = layout
        self._stage = stage
        self._http = http
        self._screen = screen
        self._questions = questions
        self._labels = labels
        self._devices = devices(layout)
        self._summary = LiveSummary(questions, labels)

    async def play(self) -> None:
        """Ask, report, and unless headless keep asking until cancelled.

        Raises:
            DemoError: the devices have no way to the cloud.
        """
        customers = self._customers(self._options.load)
        try:
            passes = {way: await self._ask(customers, way) for way in Pass}
        finally:
            await customers.close()
        report = build_report(Run(self._questions, self._labels, passes, tuple(self._stage.restarts), self._settings()))
        self._write(report)
        self._screen.show(final_summary(report))
        if not self._options.headless:
            await self._go_on()

    async def _ask(self, customers: Customers, way: Pass) -> PassRecord:
        await wait_for_links(customers, self._devices, _LINK_WITHIN_S + self._options.restart_after_s)
        tallies = self._tallies()
        self._summary.begin(way, len(self._questions), tallies)
        async with self._screen.showing(self._summary):
            record = await run_pass(customers, tallies, self._questions, way, self._summary.note)
        self._screen.say(f"{len(record.results)} questions asked, {TITLES[way]}: {record.seconds:.1f} s")
        return record

    async def _go_on(self) -> None:
        self._screen.say("The customers keep asking, slowly. Ctrl-C stops everything.")
        customers, tallies = self._customers(_AFTERWARDS), self._tallies()
        try:
            while True:
                self._summary.begin(Pass.CASCADE, len(self._questions), tallies)
                async with self._screen.showing(self._summary):
                    await run_pass(customers, tallies, self._questions, Pass.CASCADE, self._summary.note)
        finally:
            await customers.close()

    def _customers(self, load: Load) -> Customers:
        return Customers(self._devices, load, secrets.token_hex(6))

    def _tallies(self) -> Tallies:
        return Tallies(self._http, self._devices, url(self._layout.ports.gateway_metrics))

    def _settings(self) -> dict[str, object]:
        options = self._options
        return {
            "input": options.input.name,
            "requests": len(self._questions),
            "rate": options.load.rate,
            "concurrency": options.load.concurrency,
            "devices": options.devices,
            "broker": self._layout.broker.kind.value,
            "headless": options.headless,
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "python": platform.python_version(),
        }

    def _write(self, report: Mapping[str, object]) -> None:
        text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        for file in filter(None, (self._layout.folder / REPORT_FILE, self._options.report)):
            unfinished = Path(f"{file}.unfinished")
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(file)
            self._screen.say(f"Report: {file}")
