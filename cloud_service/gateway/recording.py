"""Records what the field tells: comparisons of devices' answers with the full model's, and true labels.

An answer never waits for it: comparisons lie in a bounded line and are written once a second by one thread; what finds
no room is counted as dropped. The same thread deletes what is older, or more, than is to be kept.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from cloud_service.cases.comparison import Comparison, comparison_of, labelled_of
from cloud_service.gateway.metrics import RecordingMetrics
from cloud_service.storage.case_store import CaseStore
from shared.clock import Clock
from shared.errors import NotReady, Overloaded, StorageError, StoreRefused
from shared.types import EscalationAnswer, EscalationRequest, TrueLabel

_log = logging.getLogger(__name__)
_DAY_S = 86_400
_PRUNE_EVERY_S = 600.0
_STOP_WITHIN_S = 3.0
_LABEL_CALLS_AT_ONCE = 16
_LABELS_AGAIN_AFTER_S = 1.0


class Recorder(Protocol):
    """What the gRPC service tells of its answers."""

    def compare(self, device_id: str, request: EscalationRequest, answer: EscalationAnswer) -> None:
        """A device was answered. Returns at once and never fails."""
        ...

    async def take_labels(self, device_id: str, labels: Sequence[TrueLabel]) -> int:
        """Keep labels that came back for a device's answers; how many the device need not say again.

        Raises:
            NotReady: there is no store, or it is not set up.
            StorageError: the store cannot be written.
            Overloaded: too many such calls wait.
        """
        ...


class NoRecorder:
    """For a gateway without a store."""

    def compare(self, device_id: str, request: EscalationRequest, answer: EscalationAnswer) -> None:
        """See `Recorder`."""

    async def take_labels(self, device_id: str, labels: Sequence[TrueLabel]) -> int:
        """See `Recorder`."""
        raise NotReady("this gateway keeps no true labels: gateway.record_comparisons is off; keep them and try again")


@dataclass(frozen=True)
class RecordingLimits:
    """How much is kept: comparisons waiting to be written, days, and rows of each table."""

    queued: int
    days: int
    rows: int
    interval_s: float = 1.0


class StoreRecorder:
    """Into a store. `start` before, `stop` after; the rest from the event loop's thread."""

    def __init__(
        self, store: CaseStore, clock: Clock, metrics: RecordingMetrics, limits: RecordingLimits, *, keeps_text: bool
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._limits = limits
        self._keeps_text = keeps_text
        self._has_texts_to_forget = not keeps_text
        self._line: deque[Comparison] = deque()
        self._stopping = threading.Event()
        self._prune_at_s = clock.monotonic_s()
        self._problem = ""
        self._writer = threading.Thread(target=self._write_until_stopped, name="tandem-recorder", daemon=True)
        self._label_calls = 0
        self._label_writer = ThreadPoolExecutor(1, "tandem-labels")
        metrics.waiting.set_function(lambda: len(self._line))

    def start(self) -> None:
        """Begin to write."""
        self._writer.start()

    def stop(self) -> None:
        """Write what waits, if the store lets us within some seconds; blocking."""
        self._stopping.set()
        if self._writer.is_alive():
            self._writer.join(_STOP_WITHIN_S)
        self._label_writer.shutdown(wait=True, cancel_futures=True)
        self._store.close()

    def compare(self, device_id: str, request: EscalationRequest, answer: EscalationAnswer) -> None:
        """See `Recorder`."""
        at_s = int(self._clock.unix_s())
        found = comparison_of(device_id, request, answer, at_s, keeps_text=self._keeps_text)
        if found is None:
            return
        if len(self._line) >= self._limits.queued:
            self._metrics.dropped.inc()
        else:
            self._line.append(found)

    async def take_labels(self, device_id: str, labels: Sequence[TrueLabel]) -> int:
        """See `Recorder`."""
        if self._label_calls >= _LABEL_CALLS_AT_ONCE:
            raise Overloaded("other devices' labels are being written", _LABELS_AGAIN_AFTER_S)
        received_s = int(self._clock.unix_s())
        found = [labelled_of(device_id, label, received_s) for label in labels]
        self._label_calls += 1
        try:
            new = await asyncio.get_running_loop().run_in_executor(self._label_writer, self._store.add_labels, found)
        finally:
            self._label_calls -= 1
        self._metrics.labels.inc(new)
        return len(labels)

    def _write_until_stopped(self) -> None:
        while not self._stopping.wait(self._limits.interval_s):
            self._write_what_waits()
            self._prune_when_due()
        self._write_what_waits()
        if self._line:
            self._metrics.dropped.inc(len(self._line))

    def _write_what_waits(self) -> None:
        """What cannot be written yet stays in the line; what the store refuses for good is dropped."""
        batch = [self._line.popleft() for _ in range(len(self._line))]
        if not batch:
            return
        try:
            self._metrics.recorded.inc(self._store.add_comparisons(batch))
        except StoreRefused as error:
            self._tell(str(error))
            self._metrics.dropped.inc(len(batch))
        except (NotReady, StorageError) as error:
            self._tell(str(error))
            self._line.extendleft(reversed(batch))
        else:
            self._tell("")

    def _prune_when_due(self) -> None:
        if self._clock.monotonic_s() < self._prune_at_s:
            return
        self._prune_at_s = self._clock.monotonic_s() + _PRUNE_EVERY_S
        kept_since_s = int(self._clock.unix_s()) - self._limits.days * _DAY_S
        try:
            gone = self._store.prune(kept_since_s, self._limits.rows)
            if self._has_texts_to_forget:
                self._store.forget_texts()
                self._has_texts_to_forget = False
        except (NotReady, StorageError) as error:
            self._tell(str(error))
            return
        if gone:
            _log.info("recording: %d old rows deleted", gone)

    def _tell(self, problem: str) -> None:
        """Log a problem when it begins and when it ends, not each second."""
        if problem != self._problem:
            self._problem = problem
            if problem:
                _log.warning("recording waits: %s", problem)
            else:
                _log.info("recording goes on")
