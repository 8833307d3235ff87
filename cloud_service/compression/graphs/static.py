"""INT8 products whose activations have a fixed range, learnt from calibration texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cloud_service.compression.errors import ExportError
from cloud_service.compression.graphs.formats import (
    WEIGHT_LIMIT,
    Matrix,
    lookup_int8_rows,
    quantize_symmetric,
)
from cloud_service.compression.graphs.products import product_of
from cloud_service.compression.graphs.writer import CONTRIB, GraphWriter

LEVELS = 255


@dataclass(frozen=True)
class ActivationRange:
    """The values of an activation that are represented; those beyond are cut off at `low` or `high`."""

    low: float
    high: float

    def scale(self) -> np.float32:
        """The distance of two neighbouring levels; zero is always a level."""
        width = max(self.high, 0.0) - min(self.low, 0.0)
        return np.float32(width / LEVELS if width > 0 else 1.0)

    def zero_point(self) -> np.uint8:
        """The level of zero."""
        return np.uint8(np.clip(np.rint(-min(self.low, 0.0) / self.scale()), 0, LEVELS))


class Int8Static:
    """`Int8Dynamic`'s weights with activations quantized in a fixed range per product.

    A text's scores do not depend on its neighbours in a batch, and no pass over the activations looks for
    their range. Written as what ONNX Runtime makes of the QuantizeLinear/DequantizeLinear pattern.
    """

    name = "int8-static"

    def __init__(self, ranges: Mapping[str, ActivationRange]) -> None:
        """`ranges`: of each product's input, under the product's name."""
        self._ranges = ranges

    def matmul(self, graph: GraphWriter, x: str, name: str, weight: Matrix) -> str:
        """See `WeightFormat`.

        Raises:
            ExportError: the product has no calibrated range.
        """
        product = product_of(name)
        if product not in self._ranges:
            raise ExportError(f"{name}: no calibrated range")
        quantized, scales = quantize_symmetric(weight, axis=0, limit=WEIGHT_LIMIT)
        activation = self._ranges[product]
        levels, scale, zero = _quantize(graph, x, activation)
        weights = [graph.weight(name, quantized), scale, graph.weight(f"{name}.scale", scales[0]), zero]
        return graph.node("MatMulIntegerToFloat", [levels, *weights], f"{name}/out", domain=CONTRIB)

    def lookup(self, graph: GraphWriter, ids: str, name: str, table: Matrix) -> str:
        """See `WeightFormat`."""
        return lookup_int8_rows(graph, ids, name, table)


def _quantize(graph: GraphWriter, x: str, activation: ActivationRange) -> tuple[str, str, str]:
    """The names of `x` as unsigned bytes, its scale and its zero point; products of one input share them."""
    scale = graph.constant(f"{x}.scale", np.array(activation.scale()))
    zero = graph.constant(f"{x}.zero_point", np.array(activation.zero_point()))
    levels = f"{x}/levels"
    if not graph.makes(levels):
        # ONNX Runtime 1.23 has the standard's for older opsets than ours alone.
        graph.node("QuantizeLinear", [x, scale, zero], levels, domain=CONTRIB)
    return levels, scale, zero
