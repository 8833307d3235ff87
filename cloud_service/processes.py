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
from collections.abc import Sequence
from pathlib import Path

from shared.backoff import Backoff

_log = logging.getLogger(__name__)
_STOP_WITHIN_S = 20.0
_STEADY_AFTER_S = 30.0
_RESTART = Backoff(first_s=0.5, longest_s=30.0)
LIFELINE = "--lifeline"


class Supervisor:
    """Runs `roles` until told to stop; a child that ends is started again with growing waits.

    Stopping goes in the order of `roles`, one after the other.
    """

    def __init__(self, roles: Sequence[str], config: Path | None) -> None:
        self._roles = roles
        self._config = config
        self._stopping = asyncio.Event()
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._lifeline, self._lifeline_writer = os.pipe()

    async def run(self) -> None:
        """Start all, and return when all have been stopped by SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stopping.set)
        keepers = [asyncio.create_task(self._keep(role), name=f"keep-{role}") for role in self._roles]
        await self._stopping.wait()
        for role in self._roles:
            await self._stop(role)
        await asyncio.gather(*keepers)

    async def _keep(self, role: str) -> None:
        failures = 0
        while not self._stopping.is_set():
            began_s = time.monotonic()
            child = await self._start(role)
            code = await child.wait()
            if self._stopping.is_set():
                return
            failures = 1 if time.monotonic() - began_s > _STEADY_AFTER_S else failures + 1
            delay_s = _RESTART.delay_s(failures, random.random)
            _log.error("%s ended with code %d; starting it again in %.1f s", role, code, delay_s)
            await self._stopped_within(delay_s)

    async def _start(self, role: str) -> asyncio.subprocess.Process:
        config = ["--config", str(self._config)] if self._config else []
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cloud_service", "serve", role, *config, LIFELINE, str(self._lifeline),
            pass_fds=[self._lifeline], start_new_session=True,
        )  # fmt: skip
        self._children[role] = child
        return child

    async def _stop(self, role: str) -> None:
        child = self._children.get(role)
        if child is None or child.returncode is not None:
            return
        child.terminate()
        try:
            await asyncio.wait_for(child.wait(), _STOP_WITHIN_S)
        except asyncio.TimeoutError:
            _log.error("%s did not stop within %g s and is killed", role, _STOP_WITHIN_S)
            child.kill()
            await child.wait()

    async def _stopped_within(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except asyncio.TimeoutError:
            return


def hold_lifeline(descriptor: int) -> None:
    """Stop this process with SIGTERM when the parent's end of the pipe closes, and hard a while later."""

    def watch() -> None:
        while os.read(descriptor, 1):
            pass
        _log.error("the supervisor is gone; stopping")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_STOP_WITHIN_S)
        os._exit(1)

    threading.Thread(target=watch, name="tandem-lifeline", daemon=True).start()
