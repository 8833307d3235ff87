"""A backend that implements the real port and does what a test says: wait, fail, or take its time."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.errors import EngineError

_TEST_IS_STUCK_S = 10.0


class ScriptedBackend:
    """The label of a text is its first token id. Each batch costs `batch_s` + size · `item_s` seconds, asleep.

    Its own threads seem to take `batch_cpu_s` of CPU a batch. `hold()` keeps the next batches inside until
    `release()`; a batch with a text of `poison` raises its exception.
    """

    provider = "Scripted"

    def __init__(self, labels: int = 3, *, batch_s: float = 0.0, item_s: float = 0.0, batch_cpu_s: float = 0.0) -> None:
        self.batches: list[list[int]] = []
        """First token ids of every batch begun."""
        self.lengths: list[list[int]] = []
        self.poison: dict[int, Exception] = {}
        self._cpu_s = 0.0
        self._batch_cpu_s = batch_cpu_s
        self._labels = labels
        self._costs_s = (batch_s, item_s)
        self.begun = threading.Event()
        """Set by the first batch."""
        self._open = threading.Event()
        self._open.set()

    def hold(self) -> None:
        """Let no batch end from now on."""
        self._open.clear()

    def release(self) -> None:
        """Let batches end again."""
        self._open.set()

    def run(self, batch: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        self.batches.append([int(ids[0]) for ids in batch])
        self.lengths.append([len(ids) for ids in batch])
        self.begun.set()
        if not self._open.wait(_TEST_IS_STUCK_S):
            raise EngineError("nobody released the backend")
        time.sleep(self._costs_s[0] + self._costs_s[1] * len(batch))
        self._cpu_s += self._batch_cpu_s
        for first_id in self.batches[-1]:
            if first_id in self.poison:
                raise self.poison[first_id]
        return np.stack([_sure_of(int(ids[0]) % self._labels, self._labels) for ids in batch])

    def worker_cpu_s(self) -> float:
        return self._cpu_s


def _sure_of(label: int, labels: int) -> NDArray[np.float32]:
    logits = np.zeros(labels, np.float32)
    logits[label] = 6.0
    return logits
