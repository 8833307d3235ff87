"""What flows into each product on calibration texts, measured in the FP32 graph itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from cloud_service.compression.encoding import pad_batch
from cloud_service.compression.errors import ExportError
from cloud_service.compression.graphs.formats import Float32Weights, Matrix
from cloud_service.compression.graphs.products import product_of
from cloud_service.compression.graphs.session import open_session
from cloud_service.compression.graphs.source import GraphSource
from cloud_service.compression.graphs.static import ActivationRange
from cloud_service.compression.graphs.writer import GraphWriter
from cloud_service.compression.quantization.network import write_network

SAMPLE_ROWS = 1024
COVERAGE = 0.9999
"""The share of an input's values that a fixed range represents where no other is asked for."""


@dataclass(frozen=True)
class InputStatistics:
    """The input of one product over all tokens of all texts.

    `low` and `high` float32 [in]: each channel's smallest and largest value. `sample` float32 [rows, in]:
    tokens spread evenly over the texts.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    sample: NDArray[np.float32]

    def absolute_maximum(self) -> NDArray[np.float32]:
        """The largest absolute value of each channel, float32 [in]."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def range(self, coverage: float = COVERAGE) -> ActivationRange:
        """The range of the middle `coverage` of the sample's values; of 1.0, of every value seen."""
        if coverage >= 1.0:
            return ActivationRange(float(self.low.min()), float(self.high.max()))
        tail = (1.0 - coverage) / 2
        low, high = np.quantile(self.sample, (tail, 1.0 - tail))
        return ActivationRange(float(low), float(high))

    def divided(self, scales: NDArray[np.float32]) -> InputStatistics:
        """The same once every channel is divided by its positive scale [in]."""
        return InputStatistics(self.low / scales, self.high / scales, self.sample / scales)


@dataclass(frozen=True)
class ActivationStatistics:
    """The inputs of a network's products, by product."""

    products: Mapping[str, InputStatistics]

    def ranges(self, coverage: float = COVERAGE) -> dict[str, ActivationRange]:
        """The fixed range of each product's input, for int8-static."""
        return {name: statistics.range(coverage) for name, statistics in self.products.items()}


def collect_statistics(
    source: GraphSource, sequences: Sequence[Sequence[int]], on_text: Callable[[], None] = lambda: None
) -> ActivationStatistics:
    """Run `sequences` of token ids one by one through the FP32 graph and keep what each product is given.

    Raises:
        ExportError: no sequences, a weight is not finite, or ONNX Runtime does not take the graph.
    """
    if not sequences:
        raise ExportError("no calibration texts")
    rows_per_text = -(-SAMPLE_ROWS // len(sequences))
    gathered: dict[str, list[_TextInput]] = {}
    with TemporaryDirectory() as folder:
        session, inputs = _calibration_session(source, Path(folder))
        for sequence in sequences:
            batch = pad_batch([sequence])
            feed = {"input_ids": batch.input_ids.numpy(), "attention_mask": batch.attention_mask().numpy()}
            for name, value in zip(inputs, session.run(list(inputs.values()), feed), strict=True):
                gathered.setdefault(name, []).append(_TextInput.of(value, rows_per_text))
            on_text()
    return ActivationStatistics({name: _summary(parts) for name, parts in gathered.items()})


class TappedWeights(Float32Weights):
    """FP32 that remembers what each product is given."""

    name = "fp32-tapped"

    def __init__(self) -> None:
        self.inputs: dict[str, str] = {}
        """The name of each product's input in the graph, by product."""

    def matmul(self, graph: GraphWriter, x: str, name: str, weight: Matrix) -> str:
        """See `WeightFormat`."""
        # Where the query is one token's alone, key and value follow, whose input is every token's.
        self.inputs[product_of(name)] = x
        return super().matmul(graph, x, name, weight)


def expose(graph: Path, names: Sequence[str]) -> None:
    """Make the float tensors `names` outputs of the graph on disk too."""
    model = onnx.load(graph, load_external_data=False)
    known = {output.name for output in model.graph.output}
    extra = [name for name in dict.fromkeys(names) if name not in known]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in extra)
    graph.write_bytes(model.SerializeToString(deterministic=True))


@dataclass(frozen=True)
class _TextInput:
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    rows: NDArray[np.float32]

    @staticmethod
    def of(value: NDArray[np.float32], rows: int) -> _TextInput:
        tokens = value.reshape(-1, value.shape[-1])
        chosen = np.unique(np.linspace(0, len(tokens) - 1, min(rows, len(tokens))).round().astype(int))
        return _TextInput(tokens.min(axis=0), tokens.max(axis=0), tokens[chosen].copy())


def _summary(parts: Sequence[_TextInput]) -> InputStatistics:
    low = np.min([part.low for part in parts], axis=0)
    high = np.max([part.high for part in parts], axis=0)
    return InputStatistics(low, high, np.concatenate([part.rows for part in parts]))


def _calibration_session(source: GraphSource, folder: Path) -> tuple[onnxruntime.InferenceSession, dict[str, str]]:
    form = TappedWeights()
    files = write_network(source, form, folder)
    expose(files.graph, list(form.inputs.values()))
    return open_session(files.graph, threads=1), form.inputs
