"""Saves what must survive a kill: once a second, in one transaction, in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

import anyio

from edge_agent.accounting import LedgerSnapshot
from edge_agent.reporting import Reporter
from edge_agent.state.answers import AnswerKey, RememberedAnswer, UnsavedAnswers
from edge_agent.state.file import Changes, LabelledAnswer, LastWord, PolicyKey, StateFile
from shared.clock import Clock
from shared.errors import StorageError

_log = logging.getLogger(__name__)
_SAVE_INTERVAL_S = 1.0
_CLOSE_PATIENCE_S = 5.0
T = TypeVar("T")


class StateThread:
    """The one thread that touches the state file."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="tandem-state")

    async def run(self, work: Callable[[], T]) -> T:
        """Do `work` there. A caller that is cancelled leaves it to end by itself."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def close(self) -> None:
        """Begin nothing more; what is under way ends first."""
        self._executor.shutdown(wait=True)


@dataclass(frozen=True)
class _Told:
    """A true label that is not written yet. Its answer may be forgotten meanwhile, so it comes along."""

    answer: RememberedAnswer
    label: str
    waits: bool


class StateKeeper:
    """What is counted and remembered, on its way into the file. What cannot be written now is kept and tried again."""

    def __init__(self, file: StateFile, thread: StateThread, reporter: Reporter, answers: UnsavedAnswers) -> None:
        """`answers` is where the pipeline puts what it has answered."""
        self._file = file
        self._thread = thread
        self._reporter = reporter
        self._answers = answers
        self._true_labels: dict[AnswerKey, _Told] = {}
        self._saved: dict[str, LedgerSnapshot] = reporter.snapshots()
        self._saved_policies: dict[PolicyKey, bytes] = {}
        self._waiting = 0
        self._label_came = anyio.Event()
        self._one_writer = anyio.Lock()
        self._is_failing = False
        self.last_words: tuple[LastWord, ...] = ()

    async def __aenter__(self) -> StateKeeper:
        """Read what earlier boots left.

        Raises:
            StorageError: it cannot be read.
        """
        self.last_words = tuple(await self._thread.run(self._file.last_words))
        self._waiting = await self._thread.run(self._file.count_waiting)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.move_on_after(_CLOSE_PATIENCE_S, shield=True):
            await self.save()
            await self._thread.run(self._file.close)

    @property
    def is_failing(self) -> bool:
        """Whether the last save failed, or there is nothing but memory to save to."""
        return self._is_failing or self._file.is_in_memory

    @property
    def waiting_labels(self) -> int:
        """How many true labels the cloud has not taken yet."""
        return self._waiting

    async def run(self, clock: Clock) -> None:
        """Save every second, until cancelled."""
        while True:
            await clock.sleep(_SAVE_INTERVAL_S)
            await self.save()

    async def save(self) -> dict[str, bytes]:
        """Write what has changed, and return every model's newest telemetry.

        What was published is therefore never newer than what was written, unless the file cannot be written.
        """
        snapshots = self._reporter.snapshots()
        payloads = {name: self._reporter.telemetry(name, snapshot) for name, snapshot in snapshots.items()}
        policies = self._reporter.policies()
        changes = Changes(
            words={name: payloads[name] for name, snapshot in snapshots.items() if snapshot != self._saved[name]},
            answers=(*self._answers.all(), *(told.answer for told in self._true_labels.values())),
            true_labels={key: (told.label, told.waits) for key, told in self._true_labels.items()},
            policies={key: word for key, word in policies.items() if self._saved_policies.get(key) != word},
        )
        if not changes.is_nothing and await self._write(changes):
            self._saved.update({name: snapshots[name] for name in changes.words})
            self._saved_policies.update(changes.policies)
        return payloads

    async def find(self, request_id: str, model: str | None) -> list[LabelledAnswer]:
        """The remembered answers to a request, of one model or (None) of all, with the labels that came back.

        Raises:
            StorageError: they cannot be read.
        """
        unsaved = {answer.key: answer for answer in self._answers.find(request_id, model)}
        saved = await self._thread.run(lambda: self._file.find(request_id, model))
        found = {key: LabelledAnswer(answer, None) for key, answer in unsaved.items()}
        found.update({labelled.answer.key: labelled for labelled in saved})
        told = self._true_labels
        return [LabelledAnswer(each.answer, told[key].label) if key in told else each for key, each in found.items()]

    def put_label(self, answer: RememberedAnswer, label: str, *, waits: bool) -> None:
        """The true label of `answer` has come back; `waits`: the cloud is to be told. Written by the next save."""
        self._true_labels[answer.key] = _Told(answer, label, waits)
        self._waiting += waits

    async def next_labels(self, limit: int) -> list[LabelledAnswer]:
        """The oldest written labels that the cloud waits for; waits until there is one.

        Raises:
            StorageError: they cannot be read.
        """
        while True:
            came = self._label_came
            found = await self._thread.run(lambda: self._file.waiting(limit))
            if found:
                return found
            await came.wait()

    async def labels_taken(self, keys: Sequence[AnswerKey]) -> None:
        """The cloud has taken these labels.

        Raises:
            StorageError: that cannot be written; they are offered again.
        """
        await self._thread.run(lambda: self._file.taken(keys))
        self._waiting -= len(keys)

    async def _write(self, changes: Changes) -> bool:
        async with self._one_writer:
            try:
                await self._thread.run(lambda: self._file.write(changes))
            except StorageError as error:
                if not self._is_failing:
                    _log.error("the device's state cannot be saved, trying again every second: %s", error)
                self._is_failing = True
                return False
        if self._is_failing:
            _log.warning("the device's state is saved again")
        self._is_failing = False
        self._answers.written(tuple(changes.answers))
        for key in changes.true_labels:
            self._true_labels.pop(key, None)
        if changes.true_labels:
            self._label_came.set()
            self._label_came = anyio.Event()
        return True
