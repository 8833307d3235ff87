"""The port that every inference engine implements."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Engine(Protocol):
    """One loaded graph.

    It is given one text at a time, never a batch and never padding: dynamic INT8 scales whole tensors, so
    that a neighbour in the batch would change the answer.
    """

    @property
    def description(self) -> str:
        """What computes, for the log, e.g. "onnxruntime 1.23.2 CPUExecutionProvider"."""
        ...

    def predict(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits [labels] of one text's `token_ids` [tokens]; blocks while it computes.

        Raises:
            EngineError: the graph failed on this input.
        """
        ...
