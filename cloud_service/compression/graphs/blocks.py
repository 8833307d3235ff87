"""Matrices in blocks: 4 or 8 bits a weight, with a scale for every few neighbours along the inner dimension."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloud_service.compression.errors import ExportError
from cloud_service.compression.graphs.formats import Matrix, lookup_int8_rows, require_finite
from cloud_service.compression.graphs.writer import CONTRIB, GraphWriter

BLOCK_SIZES = (16, 32, 64, 128, 256)
CANDIDATES = 24
"""Scales tried for every block; a finer search gained less than a thousandth of the error."""

CHUNK_BLOCKS = 1 << 15
"""Blocks fitted at a time, which bounds the memory of the search."""


class Blocks:
    """ONNX Runtime's `MatMulNBits`: symmetric weights of `bits` bits, a float32 scale a block.

    With `accuracy_level` 4 activations are quantized to INT8 per row and block inside the operator, so no
    text's range depends on its neighbours in a batch; of 4 bits in blocks of 32 or more, one row and several
    are summed in another order, which differs by a float32's rounding. A dimension that is no multiple of the
    block is padded with zeros. The embedding has 4-bit rows too (`GatherBlockQuantized`), or INT8 rows.
    """

    def __init__(self, bits: int, block_size: int, accuracy_level: int = 4) -> None:
        """Raises: ExportError: ONNX Runtime has no such blocks."""
        if bits not in (4, 8) or block_size not in BLOCK_SIZES:
            raise ExportError(f"no blocks of {block_size} weights of {bits} bits")
        self.name = f"int{bits}-blocks-{block_size}"
        self._bits = bits
        self._block_size = block_size
        self._accuracy_level = accuracy_level

    def matmul(self, graph: GraphWriter, x: str, name: str, weight: Matrix) -> str:
        """See `WeightFormat`."""
        depth, width = weight.shape
        values, scales = quantize_blocks(weight.T, self._bits, self._block_size, name)
        packed = _pack(values, self._bits).reshape(width, scales.shape[1], -1)
        return graph.node(
            "MatMulNBits",
            [x, graph.weight(name, packed), graph.weight(f"{name}.scale", scales.reshape(-1))],
            f"{name}/out",
            domain=CONTRIB,
            K=depth,
            N=width,
            bits=self._bits,
            block_size=self._block_size,
            accuracy_level=self._accuracy_level,
        )

    def lookup(self, graph: GraphWriter, ids: str, name: str, table: Matrix) -> str:
        """See `WeightFormat`."""
        if self._bits == 8 or table.shape[1] % self._block_size:
            return lookup_int8_rows(graph, ids, name, table)
        values, scales = quantize_blocks(table, self._bits, self._block_size, name)
        packed = _pack(values, self._bits).reshape(table.shape[0], -1)
        return graph.node(
            "GatherBlockQuantized",
            [graph.weight(name, packed), ids, graph.weight(f"{name}.scale", scales)],
            f"{name}/out",
            domain=CONTRIB,
            bits=self._bits,
            block_size=self._block_size,
            gather_axis=0,
            quantize_axis=1,
        )


def quantize_blocks(
    matrix: Matrix, bits: int, block_size: int, name: str = "matrix"
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round `matrix` [rows, depth] to multiples of a scale per block, the scale that leaves the least squared error.

    Returns:
        INT8 values [rows, padded depth] of `bits` bits, and float32 scales [rows, padded depth / block_size].

    Raises:
        ExportError: a value is not finite.
    """
    require_finite(matrix, name)
    rows, depth = matrix.shape
    padded = np.pad(matrix, ((0, 0), (0, -depth % block_size))).astype(np.float32)
    blocks = padded.reshape(-1, block_size)
    fitted = [_fit(blocks[start : start + CHUNK_BLOCKS], bits) for start in range(0, len(blocks), CHUNK_BLOCKS)]
    values = np.concatenate([part[0] for part in fitted])
    scales = np.concatenate([part[1] for part in fitted])
    return values.reshape(padded.shape), scales.reshape(rows, -1)


def _fit(blocks: Matrix, bits: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The values and scale of each block [blocks, block_size] with the least squared error."""
    most = 2 ** (bits - 1)
    peak = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1)[:, None], axis=1)
    peak = np.where(peak == 0, 1.0, peak).astype(np.float32)
    # The largest weight may fall on -most, which has no positive counterpart: scales may be negative.
    candidates = [-peak / most] if bits == 8 else [peak / divisor for divisor in _divisors(most)]
    best_values = np.zeros(blocks.shape, np.int8)
    best_scales = np.ones(len(blocks), np.float32)
    best_errors = np.full(len(blocks), np.inf, np.float32)
    for candidate in candidates:
        values = np.clip(np.rint(blocks / candidate), -most, most - 1)
        scales = _least_squares(blocks, values, candidate[:, 0])
        errors = np.square(blocks - values * scales[:, None]).sum(axis=1)
        better = errors < best_errors
        best_errors[better] = errors[better]
        best_scales[better] = scales[better]
        best_values[better] = values[better].astype(np.int8)
    return best_values, best_scales


def _divisors(most: int) -> list[float]:
    """What the peak is divided by: it may fall on -most, on most - 1, or be cut off for the others' sake."""
    steps = np.linspace(most - 1.5, most + 2.5, CANDIDATES // 2)
    return [float(sign * step) for sign in (-1, 1) for step in steps]


def _least_squares(blocks: Matrix, values: Matrix, otherwise: Matrix) -> Matrix:
    """The scale of each block for which values · scale is closest to the block."""
    squares = np.square(values).sum(axis=1)
    fitted = (blocks * values).sum(axis=1) / np.where(squares > 0, squares, 1.0)
    return np.where(squares > 0, fitted, otherwise).astype(np.float32)


def _pack(values: NDArray[np.int8], bits: int) -> NDArray[np.uint8]:
    """Values [rows, depth] as the unsigned bytes of the operators, zero at 2^(bits-1); of 4 bits, two a byte."""
    unsigned: NDArray[np.uint8] = (values.astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
    if bits == 8:
        return unsigned
    pairs: NDArray[np.uint8] = unsigned[:, 0::2] | (unsigned[:, 1::2] << np.uint8(4))
    return pairs
