"""One probe, loaded: a graph that takes a matrix and gives a matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_agent.engine.onnxruntime_engine import open_session
from shared.errors import EngineError
from shared.probes import PROBE_INPUT

ENGINE_VERSION: str = onnxruntime.__version__


class ProbeSession:
    """A probe's graph in ONNX Runtime, loaded as models are."""

    def __init__(self, graph: Path, threads: int) -> None:
        """Raises: EngineError: ONNX Runtime does not take the graph."""
        self._session = open_session(graph, threads)
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """The result of `x`, float32 [tokens, inputs].

        Raises:
            EngineError: the graph failed.
        """
        try:
            result: NDArray[np.float32] = self._session.run(self._outputs, {PROBE_INPUT: x})[0]
        except Exception as error:  # ONNX Runtime's errors have no common base of their own
            raise EngineError(f"ONNX Runtime failed on {x.shape[0]} rows: {error}") from error
        return result
