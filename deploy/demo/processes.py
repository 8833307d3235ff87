"""Processes of the demo: each in a group of its own, with a log of its own and the run's mark."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import anyio

from deploy.demo.errors import DemoError
from deploy.demo.marks import VARIABLE, signal_marked

ROOT = Path(__file__).resolve().parent.parent.parent
_POLL_S = 0.05
_LOG_TAIL_LINES = 15

Check = Callable[[], Awaitable[bool]]


class Warden:
    """Our end of the warden's pipe: when it closes, by `close` or with this process, the run's processes are ended."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        reading, self._pipe = os.pipe()
        command = (sys.executable, "-m", "deploy.demo.warden", mark)
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=reading, start_new_session=True)
        os.close(reading)

    def close(self) -> None:
        """End what still runs, and return when it has ended."""
        with contextlib.suppress(OSError):
            os.close(self._pipe)
        self._process.wait()


@dataclass(frozen=True)
class ProcessPlan:
    """What to start: `ready` says whether it serves yet, `grace_s` how long it may take to stop."""

    name: str
    command: tuple[str, ...]
    log_file: Path
    ready: Check
    ready_within_s: float = 60.0
    grace_s: float = 10.0


class DemoProcess:
    """One process from its start to its end; may be started again after it ended."""

    def __init__(self, plan: ProcessPlan, run_mark: str) -> None:
        self.plan = plan
        self._mark = f"{run_mark}/{plan.name}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id; None while it is not running."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start it; its output goes to the end of its log.

        Raises:
            DemoError: the program cannot be run.
        """
        try:
            with self.plan.log_file.open("ab") as log:
                self._process = subprocess.Popen(
                    self.plan.command,
                    cwd=ROOT,
                    env={**os.environ, VARIABLE: self._mark},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise DemoError(f"{self.plan.name}: cannot run {self.plan.command[0]}: {error}") from error

    async def wait_until_ready(self) -> None:
        """Return when it serves.

        Raises:
            DemoError: it ended, or does not serve in time; the text holds the end of its log.
        """
        with anyio.move_on_after(self.plan.ready_within_s):
            while self.pid is not None:
                if await self.plan.ready():
                    return
                await anyio.sleep(_POLL_S)
        problem = f"was not ready within {self.plan.ready_within_s:g} s" if self.pid else "ended before it was ready"
        raise DemoError(f"{self.plan.name} {problem}; its log {self.plan.log_file} ends:\n{self._log_tail()}")

    async def stop(self) -> None:
        """End it and all that it started: SIGTERM, and SIGKILL after its grace."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
        with anyio.move_on_after(self.plan.grace_s):
            while process.poll() is None:  # noqa: ASYNC110 - the end of a process sets no event
                await anyio.sleep(_POLL_S)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to it and to what it started, also where it is gone itself."""
        if self._process is not None:
            signal_marked(self._mark, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _log_tail(self) -> str:
        lines = self.plan.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_LOG_TAIL_LINES:])
