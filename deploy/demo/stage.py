"""Everything that the demo runs, as one thing: started, watched, started again when killed, and stopped in order."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

import anyio

from deploy.demo.errors import DemoError
from deploy.demo.plans import Plans
from deploy.demo.private_files import write_private
from deploy.demo.processes import DemoProcess
from deploy.demo.report import Restart

PROCESSES_FILE = "processes.json"
_POLL_S = 0.1
_MAX_RESTARTS = 20


class Stage:
    """The broker, the cloud service and the agents of one run. `mark` is the run's; `say` hears what happens."""

    def __init__(self, plans: Plans, mark: str, restart_after_s: float, say: Callable[[str], None]) -> None:
        self._plans = plans
        self._restart_after_s = restart_after_s
        self._say = say
        self._began_s = time.monotonic()
        self._broker = DemoProcess(plans.broker, mark)
        self._cloud = DemoProcess(plans.cloud, mark)
        self._agents = tuple(DemoProcess(plan, mark) for plan in plans.agents)
        self.restarts: list[Restart] = []

    async def start(self) -> None:
        """Start everything and return when all of it serves.

        Raises:
            DemoError: something cannot be started; the text says what and shows its log.
        """
        self._broker.start()
        await self._broker.wait_until_ready()
        for process in (self._cloud, *self._agents):
            process.start()
        for process in (self._cloud, *self._agents):
            await process.wait_until_ready()
        self._write_process_ids()

    async def watch(self) -> None:
        """Start again what ends without being asked to, until cancelled.

        Raises:
            DemoError: something does not come back, or ends again and again.
        """
        while True:
            for process in self._all:
                if process.pid is None:
                    await self._restart(process)
            await anyio.sleep(_POLL_S)

    async def stop(self) -> None:
        """Stop in order: first who asks, then who answers, the broker last."""
        async with anyio.create_task_group() as group:
            for agent in self._agents:
                group.start_soon(agent.stop)
        await self._cloud.stop()
        await self._broker.stop()

    def kill(self) -> None:
        """End everything at once."""
        for process in self._all:
            process.kill()

    @property
    def _all(self) -> Sequence[DemoProcess]:
        return (self._broker, self._cloud, *self._agents)

    async def _restart(self, process: DemoProcess) -> None:
        name, ended_s = process.plan.name, time.monotonic() - self._began_s
        if len(self.restarts) >= _MAX_RESTARTS:
            raise DemoError(f"{name} ended again, after {_MAX_RESTARTS} restarts; its log is {process.plan.log_file}")
        process.kill()
        self._say(f"{name} ended; it is started again in {self._restart_after_s:g} s")
        await anyio.sleep(self._restart_after_s)
        process.start()
        self._write_process_ids()
        await process.wait_until_ready()
        back_s = time.monotonic() - self._began_s
        self.restarts.append(Restart(name, round(ended_s, 3), round(back_s, 3)))
        self._say(f"{name} serves again")

    def _write_process_ids(self) -> None:
        ids = {process.plan.name: process.pid for process in self._all}
        write_private(self._plans.folder / PROCESSES_FILE, json.dumps(ids, indent=2) + "\n")
