"""A generator's vocabulary: rows looked up at one end, scores of every token at the other.

Where both ends are one matrix (tied), it is one stored tensor, which the lookup and the product both read.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from cloud_service.compression.errors import ExportError
from cloud_service.compression.graphs.blocks import Blocks
from cloud_service.compression.graphs.formats import Float32Weights, Matrix, WeightFormat
from cloud_service.compression.graphs.writer import CONTRIB, GraphWriter


class VocabularyFormat(Protocol):
    """Holds a vocabulary's matrices, [vocabulary, hidden]; `separate` is how, where there are two."""

    name: str
    separate: WeightFormat

    def tied_lookup(self, graph: GraphWriter, ids: str, name: str, table: Matrix) -> str:
        """Rows `ids` [batch, sequence] of what `tied_scores` keeps under `name`, [batch, sequence, hidden].

        Raises:
            ExportError: the table does not fit the format.
        """
        ...

    def tied_scores(self, graph: GraphWriter, states: str, name: str, table: Matrix) -> str:
        """Keep `table` under `name`; `states` [..., hidden] times each of its rows, [..., vocabulary]."""
        ...


class FloatVocabulary:
    """FP32, as trained."""

    name = "fp32"
    separate: WeightFormat = Float32Weights()

    def tied_lookup(self, graph: GraphWriter, ids: str, name: str, table: Matrix) -> str:
        """See `VocabularyFormat`."""
        return graph.node("Gather", [name, ids], f"{name}/rows", axis=0)

    def tied_scores(self, graph: GraphWriter, states: str, name: str, table: Matrix) -> str:
        """See `VocabularyFormat`."""
        return graph.node("FusedMatMul", [states, graph.weight(name, table)], f"{name}/out", domain=CONTRIB, transB=1)


class BlockVocabulary:
    """4 or 8 bits a weight, with a scale per block of neighbours along the hidden dimension.

    By default 4 bits: scoring reads the whole matrix for every token. In short blocks, as every token passes through it
    twice. `MatMulNBits` keeps a matrix row by row of its output, which for the scores is a token's row.
    """

    def __init__(self, bits: int = 4, block_size: int = 32) -> None:
        """Raises: ExportError: ONNX Runtime has no such blocks."""
        blocks = Blocks(bits, block_size)
        self.name = blocks.name
        self.separate: WeightFormat = blocks
        self._bits = bits
        self._block_size = block_size

    def tied_lookup(self, graph: GraphWriter, ids: str, name: str, table: Matrix) -> str:
        """See `VocabularyFormat`."""
        rows, hidden = table.shape
        if hidden % self._block_size:
            raise ExportError(f"{name}: rows of {hidden} are no whole blocks of {self._block_size}")
        # The product's scales are flat; a view of them, made at load, has the matrix's axes.
        axes = graph.constant(f"{name}.scale.axes", np.array([rows, hidden // self._block_size, 1], np.int64))
        scales = graph.node("Reshape", [f"{name}.scale", axes], f"{name}/scales")
        blocks = graph.node(
            "GatherBlockQuantized",
            [name, ids, scales],
            f"{name}/blocks",
            domain=CONTRIB,
            bits=self._bits,
            block_size=self._block_size,
            gather_axis=0,
            quantize_axis=2,
        )
        joined = graph.constant("axes.hidden", np.array([0, 0, hidden], np.int64))
        return graph.node("Reshape", [blocks, joined], f"{name}/rows")

    def tied_scores(self, graph: GraphWriter, states: str, name: str, table: Matrix) -> str:
        """See `VocabularyFormat`."""
        return self.separate.matmul(graph, states, name, table.T)
