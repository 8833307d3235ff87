"""Progress bars with the time left, on standard error; one quiet line an epoch where it is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class ProgressReport:
    """Where a long run says how far it is."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def start(self, what: str, steps: int, done: int = 0) -> TaskID:
        """Begin a bar of `steps` steps, `done` of them already behind (a resumed run)."""
        return self._progress.add_task(what, total=steps, completed=done)

    def step(self, task: TaskID, count: int = 1) -> None:
        """Move a bar on by `count`."""
        self._progress.advance(task, count)

    def finish(self, task: TaskID) -> None:
        """Take a bar away."""
        self._progress.remove_task(task)

    def say(self, line: str) -> None:
        """A line that stays above the bars."""
        self._progress.console.print(line, highlight=False)


@contextmanager
def progress_report(quiet: bool = False) -> Iterator[ProgressReport]:
    """Show bars while the block runs."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True, quiet=quiet)
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        yield ProgressReport(progress)
