"""The port that every serving backend implements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Backend(Protocol):
    """One loaded graph that takes batches. Called from one thread at a time."""

    @property
    def provider(self) -> str:
        """What computes, e.g. "CPUExecutionProvider"."""
        ...

    def run(self, batch: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        """Logits [len(batch), labels] of texts given as token ids [tokens] of any length; blocks.

        Raises:
            EngineError: the graph failed on this input.
        """
        ...

    def worker_cpu_s(self) -> float:
        """CPU seconds used so far by the backend's own threads, the calling thread not among them."""
        ...
