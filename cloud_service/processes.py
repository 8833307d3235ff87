"""Starts gateway, fleet and web as processes of their own, and keeps them up.

Each child holds the reading end of a pipe whose writing end only this process has. When this process ends,
however it ends, the children read end-of-file and stop by themselves.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio

from shared.backoff import Backoff

_log = logging.getLogger(__name__)
_STEADY_AFTER_S = 30.0
_RESTART = Backoff(first_s=0.5, longest_s=30.0)
USAGE_ERROR = 2
"""The exit code of a process that cannot start as it is configured; see `cloud_service.cli.main`."""
LIFELINE = "--lifeline"
RELOADING_ROLE = "gateway"
"""The one that SIGHUP does not end."""


class Supervisor:
    """Runs `roles` until told to stop; stopping goes in their order, one after the other."""

    def __init__(self, roles: Sequence[str], config: Path | None, stop_within_s: float) -> None:
        """`stop_within_s`: a child that takes longer to stop than this is killed."""
        self._lifeline, self._lifeline_writer = os.pipe()
        self._stopping = anyio.Event()
        self._stop_within_s = stop_within_s
        self._exit_code = 0
        self._children = [_Child(role, self._command(role, config), self._lifeline) for role in roles]

    async def run(self) -> int:
        """Start all, and return when all have been stopped by SIGTERM or SIGINT.

        A child that ends is started again with growing waits; one that says at its first start that it cannot run as
        it is configured stops all. The exit code is 0, or that child's. SIGHUP goes on to the gateway, which looks for
        new bundles.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stopping.set)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        async with anyio.create_task_group() as keepers:
            for child in self._children:
                keepers.start_soon(child.keep, self._give_up)
            await self._stopping.wait()
            for child in self._children:
                await child.stop(self._stop_within_s)
        return self._exit_code

    def _reload(self) -> None:
        for child in self._children:
            child.reload()

    def _give_up(self, code: int) -> None:
        self._exit_code = code
        self._stopping.set()

    def _command(self, role: str, config: Path | None) -> list[str]:
        options = ["--config", str(config)] if config else []
        return [sys.executable, "-m", "cloud_service", "serve", role, *options, LIFELINE, str(self._lifeline)]


class _Child:
    """One role's process, started again and again until it is told to stop."""

    def __init__(self, role: str, command: Sequence[str], lifeline: int) -> None:
        self._role = role
        self._command = command
        self._lifeline = lifeline
        self._process: asyncio.subprocess.Process | None = None
        self._told_to_stop = anyio.Event()
        self._ended = anyio.Event()

    async def keep(self, give_up: Callable[[int], None]) -> None:
        failures = 0
        while not self._told_to_stop.is_set():
            began_s = time.monotonic()
            code = await self._run_once()
            if self._told_to_stop.is_set():
                break
            if code == USAGE_ERROR and not failures:
                give_up(code)
                break
            failures = 1 if time.monotonic() - began_s > _STEADY_AFTER_S else failures + 1
            delay_s = _RESTART.delay_s(failures, random.random)
            _log.error("%s ended with code %d; starting it again in %.1f s", self._role, code, delay_s)
            with anyio.move_on_after(delay_s):
                await self._told_to_stop.wait()
        self._ended.set()

    def reload(self) -> None:
        if self._role == RELOADING_ROLE:
            self._signal(signal.SIGHUP)

    async def stop(self, within_s: float) -> None:
        self._told_to_stop.set()
        self._signal(signal.SIGTERM)
        with anyio.move_on_after(within_s):
            await self._ended.wait()
            return
        _log.error("%s did not stop within %g s and is killed", self._role, within_s)
        self._signal(signal.SIGKILL)
        await self._ended.wait()

    async def _run_once(self) -> int:
        """Away from the terminal's process group: Ctrl-C reaches the parent alone, which stops all in order."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command, pass_fds=[self._lifeline], start_new_session=True
        )
        if self._told_to_stop.is_set():
            self._signal(signal.SIGTERM)
        return await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)


def hold_lifeline(descriptor: int, stop_within_s: float) -> None:
    """Stop this process with SIGTERM when the parent's end of the pipe closes, and hard after `stop_within_s`."""

    def watch() -> None:
        while os.read(descriptor, 1):
            pass
        _log.error("the supervisor is gone; stopping")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(stop_within_s)
        os._exit(1)

    threading.Thread(target=watch, name="tandem-lifeline", daemon=True).start()
