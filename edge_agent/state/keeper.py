"""Saves what must survive a kill: once a second, in one transaction, in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

import anyio

from edge_agent.accounting import LedgerSnapshot, Series
from edge_agent.lanes import SeriesWord
from edge_agent.reporting import Reporter
from edge_agent.state.answers import AnswerKey, RememberedAnswer, UnsavedAnswers
from edge_agent.state.file import Changes, LabelledAnswer, LastWord, PolicyKey, StateFile, WordKey
from edge_agent.state.places import WordPlaces
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
        self._saved: dict[Series, LedgerSnapshot] = {word.series: word.snapshot for word in reporter.lanes.words()}
        self._saved_policies: dict[PolicyKey, bytes] = {}
        self._places = WordPlaces({})
        self._counting: dict[str, Series] = {}
        self._earlier_words: tuple[LastWord, ...] = ()
        self._ended_words: dict[Series, LastWord] = {}
        self._waiting = 0
        self._label_came = anyio.Event()
        self._one_writer = anyio.Lock()
        self._is_failing = False

    async def __aenter__(self) -> StateKeeper:
        """Read what earlier boots left.

        Raises:
            StorageError: it cannot be read.
        """
        self._earlier_words = tuple(await self._thread.run(self._file.last_words))
        self._places = WordPlaces(await self._thread.run(self._file.newest_places))
        self._saved_policies = await self._thread.run(lambda: self._file.policies(self._reporter.ring))
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
    def last_words(self) -> tuple[LastWord, ...]:
        """What was said last of series that are not active, of this boot and earlier ones; of one slot the newest."""
        words = (*self._earlier_words, *self._ended_words.values())
        return tuple({(word.model, word.slot): word for word in words}.values())

    def policies(self, model: str) -> list[bytes]:
        """The policies that are known for the model's gates in this ring, as they came, oldest first."""
        return [payload for (_, name, _), payload in self._saved_policies.items() if name == model]

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
        """Write what has changed, and return every active model's newest telemetry.

        What was published is therefore never newer than what was written, unless the file cannot be written.
        """
        words = self._reporter.lanes.words()
        changed = [word for word in words if self._has_changed(word)]
        news = [word for word in words if word.is_current or word in changed or word.series not in self._ended_words]
        told = {word.series: self._reporter.telemetry(word) for word in news}
        keys, left = self._places_of(changed)
        self._end(words, told)
        policies = self._reporter.policies()
        changes = Changes(
            words={keys[series]: told[series] for series in keys},
            left=left,
            answers=(*self._answers.all(), *(told.answer for told in self._true_labels.values())),
            true_labels={key: (told.label, told.waits) for key, told in self._true_labels.items()},
            policies={key: word for key, word in policies.items() if self._saved_policies.get(key) != word},
        )
        if not changes.is_nothing and await self._write(changes):
            self._saved.update({word.series: word.snapshot for word in changed})
            self._saved_policies.update(changes.policies)
        return {word.series.model: told[word.series] for word in words if word.is_current}

    def _has_changed(self, word: SeriesWord) -> bool:
        saved, snapshot = self._saved.get(word.series), word.snapshot
        if saved is None:
            return snapshot.counters.received > 0 or bool(snapshot.judgements.labels)
        return snapshot != saved

    def _places_of(self, changed: Sequence[SeriesWord]) -> tuple[dict[Series, WordKey], list[WordKey]]:
        """Where each changed word goes, and which places are left."""
        keys: dict[Series, WordKey] = {}
        left: list[WordKey] = []
        for word in changed:
            series, place = word.series, self._places.place(word.series)
            if place is None or (word.answers and self._counting.get(series.model) != series):
                self._counting[series.model] = series
                place, before = self._places.begin(series)
                left += [(series.model, before)] if before is not None else []
            keys[series] = (series.model, place)
        return keys, left

    def _end(self, words: Sequence[SeriesWord], told: Mapping[Series, bytes]) -> None:
        """Remember what is to be said of the series that are not active: they have ended, or answer a share beside."""
        slots = self._places.repeated(word.series for word in words if not word.is_current)
        payloads = {series: word.payload for series, word in self._ended_words.items()} | dict(told)
        self._ended_words = {series: LastWord(series.model, slot, payloads[series]) for series, slot in slots.items()}

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
