"""How a graph holds its matrices: FP32, FP16 on disk computed in FP32, or INT8 with dynamic activations."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from cloud_service.compression.errors import ExportError
from cloud_service.compression.graphs.writer import CONTRIB, GraphWriter

Matrix = NDArray[np.float32]

WEIGHT_LIMIT = 64
"""Largest INT8 weight. Where a CPU has no VNNI, x86 adds two u8×s8 products into 16 bits and saturates;
255 · 64 · 2 just fits. So every CPU computes the same integers, and a certificate holds on all of them."""


class WeightFormat(Protocol):
    """Adds a product with, or a row lookup in, a trained matrix to a graph."""

    name: str

    def matmul(self, graph: GraphWriter, x: str, name: str, weight: Matrix) -> str:
        """`x` [..., in] times `weight` [in, out]; returns the name of the result, float32 [..., out]."""
        ...

    def lookup(self, graph: GraphWriter, ids: str, name: str, table: Matrix) -> str:
        """The rows `ids` [...] of `table` [rows, width]; returns the name of the result, float32 [..., width]."""
        ...


class Float32Weights:
    """Everything in FP32, as trained."""

    name = "fp32"

    def matmul(self, graph: GraphWriter, x: str, name: str, weight: Matrix) -> str:
        """See `WeightFormat`."""
        return graph.node("MatMul", [x, graph.weight(name, weight)], f"{name}/out")

    def lookup(self, graph: GraphWriter, ids: str, name: str, table: Matrix) -> str:
        """See `WeightFormat`."""
        return graph.node("Gather", [graph.weight(name, table), ids], f"{name}/out", axis=0)


class Float16Storage:
    """FP16 on disk. ONNX Runtime folds the casts of matrices when it loads, so the products run in FP32;
    the embedding stays FP16 in memory and only the rows looked up are cast."""

    name = "fp16-storage"

    def matmul(self, graph: GraphWriter, x: str, name: str, weight: Matrix) -> str:
        """See `WeightFormat`."""
        stored = graph.weight(name, weight.astype(np.float16))
        whole = graph.node("Cast", [stored], f"{name}/fp32", to=TensorProto.FLOAT)
        return graph.node("MatMul", [x, whole], f"{name}/out")

    def lookup(self, graph: GraphWriter, ids: str, name: str, table: Matrix) -> str:
        """See `WeightFormat`."""
        stored = graph.weight(name, table.astype(np.float16))
        rows = graph.node("Gather", [stored, ids], f"{name}/rows", axis=0)
        return graph.node("Cast", [rows], f"{name}/out", to=TensorProto.FLOAT)


class Int8Dynamic:
    """Signed INT8 weights with a scale per output channel, activations quantized as they come.

    The embedding is INT8 too, with a scale per row.
    """

    name = "int8-dynamic"

    def matmul(self, graph: GraphWriter, x: str, name: str, weight: Matrix) -> str:
        """See `WeightFormat`."""
        quantized, scales = quantize_symmetric(weight, axis=0, limit=WEIGHT_LIMIT)
        levels, scale, zero = _quantize_dynamically(graph, x)
        weights = [graph.weight(name, quantized), scale, graph.weight(f"{name}.scale", scales[0]), zero]
        return graph.node("MatMulIntegerToFloat", [levels, *weights], f"{name}/out", domain=CONTRIB)

    def lookup(self, graph: GraphWriter, ids: str, name: str, table: Matrix) -> str:
        """See `WeightFormat`."""
        return lookup_int8_rows(graph, ids, name, table)


def _quantize_dynamically(graph: GraphWriter, x: str) -> tuple[str, str, str]:
    """The names of `x` as unsigned bytes, its scale and its zero point; products of one input share them."""
    outputs = (f"{x}/dynamic_levels", f"{x}/dynamic_scale", f"{x}/dynamic_zero_point")
    if not graph.makes(outputs[0]):
        graph.nodes_of("DynamicQuantizeLinear", [x], outputs)
    return outputs


def lookup_int8_rows(graph: GraphWriter, ids: str, name: str, table: Matrix) -> str:
    """The rows `ids` of `table`, kept as INT8 with a scale per row; only the rows looked up are widened."""
    quantized, scales = quantize_symmetric(table, axis=1, limit=127)
    rows = graph.node("Gather", [graph.weight(name, quantized), ids], f"{name}/rows", axis=0)
    scale = graph.node("Gather", [graph.weight(f"{name}.scale", scales), ids], f"{name}/scales", axis=0)
    widened = graph.node("Cast", [rows], f"{name}/fp32", to=TensorProto.FLOAT)
    return graph.node("Mul", [widened, scale], f"{name}/out")


def quantize_symmetric(matrix: Matrix, axis: int, limit: int) -> tuple[NDArray[np.int8], Matrix]:
    """Round `matrix` to whole multiples of a scale per slice, at most `limit` of them.

    Returns:
        INT8 values in the shape of `matrix`, and float32 scales whose `axis` is reduced to one.

    Raises:
        ExportError: a value is not finite.
    """
    require_finite(matrix, "matrix")
    largest = np.abs(matrix).max(axis=axis, keepdims=True)
    scales = np.where(largest > 0, largest / limit, 1.0).astype(np.float32)
    return np.clip(np.rint(matrix / scales), -limit, limit).astype(np.int8), scales


def require_finite(matrix: Matrix, name: str) -> None:
    """Raises: ExportError: `matrix` holds infinities or NaN."""
    if not np.isfinite(matrix).all():
        raise ExportError(f"{name} holds values that are not finite")
