"""The console: a live panel on a terminal, plain lines anywhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from rich.console import Console, RenderableType
from rich.live import Live

from deploy.demo.summary import LiveSummary

_REFRESH_EVERY_S = 0.25


class LastingConsole(Console):
    """A console that falls silent when nobody reads it any more, as behind `| head`; the demo goes on."""

    def on_broken_pipe(self) -> None:
        """Called by rich."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class Screen:
    """Where the demo speaks."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._summary: LiveSummary | None = None

    def say(self, message: str) -> None:
        """One line: in the panel while it is shown, else below what was said before."""
        if self._live is not None and self._summary is not None:
            self._summary.messages.append(message)
        else:
            self._console.print(message, highlight=False, soft_wrap=True)

    def show(self, what: RenderableType) -> None:
        """Something that stays."""
        self._console.print(what)

    @asynccontextmanager
    async def showing(self, summary: LiveSummary) -> AsyncIterator[None]:
        """Show `summary`, renewed several times a second, while the block runs; nothing without a terminal."""
        if not self._console.is_terminal:
            yield
            return
        self._summary = summary
        with Live(summary, console=self._console, auto_refresh=False, transient=True) as self._live:
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(_refresh, self._live)
                    yield
                    group.cancel_scope.cancel()
            finally:
                self._live = None


async def _refresh(live: Live) -> None:
    while True:
        live.refresh()
        await anyio.sleep(_REFRESH_EVERY_S)
