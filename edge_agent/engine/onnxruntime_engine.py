"""The one adapter for ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from shared.bundle import Bundle, TensorSpec, check_signature
from shared.errors import BundleGraphMismatch, EngineError

_PROVIDER = "CPUExecutionProvider"
_IDS = "input_ids"
_MASK = "attention_mask"
_LOG_ERRORS_ONLY = 3


class OnnxRuntimeEngine:
    """A text classifier's graph on the CPU, as `Engine`."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        """Load the graph with its external data.

        Raises:
            EngineError: ONNX Runtime is older than the bundle needs, or cannot load the graph.
            BundleGraphMismatch: the graph's inputs and outputs are not those that the manifest names, or
                not those of a text classifier.
        """
        manifest = bundle.manifest
        _require_version(manifest.requires.onnxruntime)
        self._session = open_session(bundle.graph_path, threads)
        inputs, outputs = _tensors(self._session.get_inputs()), _tensors(self._session.get_outputs())
        check_signature(bundle.graph_path, manifest.graph, inputs, outputs, len(manifest.labels))
        self._input_names = frozenset(tensor.name for tensor in inputs)
        if not {_IDS} <= self._input_names <= {_IDS, _MASK}:
            raise BundleGraphMismatch(
                bundle.graph_path, f"takes {sorted(self._input_names)}; a text classifier takes {_IDS}, {_MASK}"
            )
        self._output_names = [outputs[0].name]
        self._label_count = len(manifest.labels)
        self._mask = np.ones((1, manifest.preprocessing.max_tokens), np.int64)

    @property
    def description(self) -> str:
        """See `Engine`."""
        return f"onnxruntime {onnxruntime.__version__} {_PROVIDER}"

    def predict(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Engine`."""
        feeds = {_IDS: token_ids[np.newaxis, :]}
        if _MASK in self._input_names:
            feeds[_MASK] = self._mask[:, : token_ids.shape[0]]
        try:
            batch: NDArray[np.float32] = self._session.run(self._output_names, feeds)[0]
        except Exception as error:  # ONNX Runtime's errors have no common base of their own
            raise EngineError(f"ONNX Runtime failed on {token_ids.shape[0]} tokens: {error}") from error
        if batch.shape != (1, self._label_count):
            raise EngineError(f"the graph gave logits of shape {batch.shape} for {self._label_count} labels")
        logits: NDArray[np.float32] = batch[0]
        return logits


def open_session(graph: Path, threads: int) -> onnxruntime.InferenceSession:
    """Load `graph` as every model on this device is loaded.

    Raises:
        EngineError: ONNX Runtime cannot load it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _LOG_ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # What attention masks ends as denormals, with which x86 computes many times slower.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=[_PROVIDER])
    except Exception as error:  # see predict
        raise EngineError(f"ONNX Runtime cannot load {graph}: {error}") from error


def _tensors(nodes: list[onnxruntime.NodeArg]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(node.name, node.type, tuple(part if isinstance(part, int) else str(part) for part in node.shape))
        for node in nodes
    )


def _require_version(needed: str) -> None:
    if _version(onnxruntime.__version__) < _version(needed):
        raise EngineError(f"the bundle needs ONNX Runtime {needed}, this device has {onnxruntime.__version__}")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("+")[0].split(".")[:3] if part.isdigit())
