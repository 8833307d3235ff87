"""The demo from its first process to its report."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Awaitable, Callable

import anyio
import httpx
from anyio.abc import TaskStatus

from deploy.demo.arguments import Options
from deploy.demo.configuration import Bundles, Layout, choose_ports, write_configuration
from deploy.demo.errors import DemoError
from deploy.demo.plans import plan_processes, url
from deploy.demo.processes import Warden
from deploy.demo.questions import Question, read_questions, repeated
from deploy.demo.screen import Screen
from deploy.demo.show import Show
from deploy.demo.stage import Stage
from shared.bundle import read_bundle
from shared.errors import TandemError

INTERRUPTED = 130


class Demo:
    """One run. `run` leaves no process behind, however it ends."""

    def __init__(self, options: Options, screen: Screen) -> None:
        self._options = options
        self._screen = screen
        self._stage: Stage | None = None
        self._failure: TandemError | None = None
        self._interrupted = False

    async def run(self) -> int:
        """Play the demo until it ends by itself or is told to; the process's exit code.

        Raises:
            TandemError: the demo cannot be set up, or cannot go on.
        """
        questions, labels = self._read_input()
        self._scope = anyio.CancelScope()
        async with anyio.create_task_group() as group:
            await group.start(self._obey_signals)
            with self._scope:
                await self._play(self._lay_out(), questions, labels)
            group.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure
        return INTERRUPTED if self._interrupted and self._options.headless else 0

    def _read_input(self) -> tuple[tuple[Question, ...], frozenset[str]]:
        options = self._options
        questions = repeated(read_questions(options.input), options.requests)
        if options.report is not None and not options.report.resolve().parent.is_dir():
            raise DemoError(f"--report {options.report}: there is no such folder to write it to")
        read_bundle(options.full_bundle)
        return questions, frozenset(read_bundle(options.edge_bundle).manifest.labels)

    async def _play(self, layout: Layout, questions: tuple[Question, ...], labels: frozenset[str]) -> None:
        warden = Warden(layout.folder.name)
        try:
            async with httpx.AsyncClient(trust_env=False) as http:
                plans = plan_processes(layout, http)
                self._stage = Stage(plans, warden.mark, self._options.restart_after_s, self._screen.say)
                self._screen.say(
                    f"Starting {layout.broker.kind.value} broker, cloud and {len(layout.agent_files)} devices"
                )
                await self._stage.start()
                self._greet(layout)
                show = Show(self._options, layout, self._stage, http, self._screen, questions, labels)
                async with anyio.create_task_group() as group:
                    group.start_soon(self._guarded, self._stage.watch)
                    await self._guarded(show.play)
                    group.cancel_scope.cancel()
        except TandemError as error:
            self._failure = error
        finally:
            with anyio.CancelScope(shield=True):
                if self._stage is not None:
                    await self._stage.stop()
            warden.close()

    def _lay_out(self) -> Layout:
        options = self._options
        folder = options.runs.resolve() / f"demo-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        folder.mkdir(parents=True)
        names = [f"device-{number}" for number in range(1, options.devices + 1)]
        ports = choose_ports(len(names), options.port)
        return write_configuration(
            folder, names, ports, Bundles(options.edge_bundle, options.full_bundle), options.broker
        )

    def _greet(self, layout: Layout) -> None:
        self._screen.say(f"Operator page: {url(layout.ports.web, '/')}")
        self._screen.say(f"New releases: cloud-service publish and rollout start, with --config {layout.cloud_file}")
        self._screen.say(f"Logs, configuration and process ids: {layout.folder}")

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except TandemError as error:
            self._failure = error
            self._scope.cancel()

    async def _obey_signals(self, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as received:
            task_status.started()
            async for _ in received:
                if self._interrupted and self._stage is not None:
                    self._stage.kill()
                elif not self._interrupted:
                    self._screen.say("Stopping everything")
                self._interrupted = True
                self._scope.cancel()
