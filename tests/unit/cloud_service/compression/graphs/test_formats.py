"""Every format of a matrix: close to what it stands for, and no sum that a CPU could saturate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from cloud_service.compression.errors import ExportError
from cloud_service.compression.graphs.blocks import Blocks, quantize_blocks
from cloud_service.compression.graphs.formats import (
    WEIGHT_LIMIT,
    Float16Storage,
    Float32Weights,
    Int8Dynamic,
    WeightFormat,
    quantize_symmetric,
)
from cloud_service.compression.graphs.static import ActivationRange, Int8Static
from cloud_service.compression.graphs.writer import PAGE_BYTES, GraphFiles, GraphWriter

Matrix = NDArray[np.float32]
DEPTH, WIDTH = 96, 24
RANGE = ActivationRange(-4.0, 4.0)
STATIC = Int8Static({"weight": RANGE, "other": RANGE})
FORMS: list[tuple[WeightFormat, float]] = [
    (Float32Weights(), 1e-6),
    (Float16Storage(), 1e-3),
    (Int8Dynamic(), 0.03),
    (STATIC, 0.03),
    *((Blocks(8, size), 0.02) for size in (32, 64, 128)),
    *((Blocks(4, size), 0.13) for size in (16, 32, 64, 128)),
]
IDS = [form.name for form, _ in FORMS]
INDEPENDENT = [STATIC, Blocks(8, 32), Blocks(4, 16), Blocks(4, 32)]
INTEGER: list[WeightFormat] = [Int8Dynamic(), Int8Static({"weight": ActivationRange(-1.0, 1.0)})]
INTEGER += [Blocks(bits, size) for bits in (4, 8) for size in (16, 32, 64, 128, 256)]


def random_matrix(rows: int, columns: int, seed: int = 0) -> Matrix:
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


def write_products(form: WeightFormat, weights: dict[str, Matrix], folder: Path) -> GraphFiles:
    """The products of one input `x` with each of `weights`, as outputs `y.NAME`."""
    graph = GraphWriter("products")
    for name, weight in weights.items():
        graph.node("Identity", [form.matmul(graph, "x", name, weight)], f"y.{name}")
    depth = next(iter(weights.values())).shape[0]
    return graph.save(
        folder,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", depth])],
        [helper.make_tensor_value_info(f"y.{name}", TensorProto.FLOAT, None) for name in weights],
    )


def write_lookup(form: WeightFormat, table: Matrix, folder: Path) -> GraphFiles:
    """The rows `x` of `table`, as output `y`."""
    graph = GraphWriter("lookup")
    graph.node("Identity", [form.lookup(graph, "x", "table", table)], "y")
    return graph.save(
        folder,
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["rows", "columns"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )


def run(files: GraphFiles, x: NDArray[np.generic]) -> Matrix:
    session = onnxruntime.InferenceSession(str(files.graph), providers=["CPUExecutionProvider"])
    return cast(Matrix, session.run(None, {"x": x})[0])


def multiply(form: WeightFormat, x: Matrix, weight: Matrix, folder: Path) -> Matrix:
    return run(write_products(form, {"weight": weight}, folder), x)


def relative_error(found: Matrix, wanted: Matrix) -> float:
    return float(np.sqrt(np.square(found - wanted).mean() / np.square(wanted).mean()))


def operators(files: GraphFiles) -> Sequence[str]:
    return [node.op_type for node in onnx.load(files.graph, load_external_data=False).graph.node]


@pytest.mark.parametrize(("form", "bound"), FORMS, ids=IDS)
def test_a_product_is_close_to_fp32(form: WeightFormat, bound: float, tmp_path: Path) -> None:
    x, weight = random_matrix(7, DEPTH, 1), random_matrix(DEPTH, WIDTH)
    assert relative_error(multiply(form, x, weight, tmp_path), x @ weight) < bound


@pytest.mark.parametrize(("form", "bound"), FORMS, ids=IDS)
def test_a_looked_up_row_is_close_to_fp32(form: WeightFormat, bound: float, tmp_path: Path) -> None:
    table, ids = random_matrix(40, 64), np.array([[3, 39], [0, 3]])
    assert relative_error(run(write_lookup(form, table, tmp_path), ids), table[ids]) < bound


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_4_bit_rows_are_what_their_values_and_scales_say(size: int, tmp_path: Path) -> None:
    table, ids = random_matrix(41, 256), np.array([[3, 40, 0], [0, 3, 17]])
    files = write_lookup(Blocks(4, size), table, tmp_path)
    values, scales = quantize_blocks(table, 4, size)
    np.testing.assert_array_equal(run(files, ids), (values * scales.repeat(size, axis=1))[ids])
    assert "GatherBlockQuantized" in operators(files)
    assert len(np.unique(values)) == 16
    assert files.weights.stat().st_size < table.size // 2 + scales.nbytes + 2 * PAGE_BYTES


@pytest.mark.parametrize("form", INDEPENDENT, ids=lambda form: form.name)
def test_a_row_does_not_depend_on_its_neighbours(form: WeightFormat, tmp_path: Path) -> None:
    x, weight = random_matrix(7, DEPTH, 1), random_matrix(DEPTH, WIDTH)
    x[3] *= 30.0
    files = write_products(form, {"weight": weight}, tmp_path)
    alone = np.concatenate([run(files, row[None]) for row in x])
    np.testing.assert_allclose(run(files, x), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", INTEGER, ids=lambda form: form.name)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_largest_products_are_summed_exactly_whatever_the_cpu(
    form: WeightFormat, sign: float, tmp_path: Path
) -> None:
    depth = 256
    weight = np.full((depth, 8), 0.496 * sign, dtype=np.float32)
    weight[::16] = -0.5 * sign
    files = write_products(form, {"weight": weight}, tmp_path)
    for rows in (1, 3):
        for value in (1.0, -1.0):
            x = np.full((rows, depth), value, dtype=np.float32)
            tolerance = 0.1 if "int4" in form.name else 0.015
            np.testing.assert_allclose(run(files, x), x @ weight, rtol=tolerance)


def test_seven_bits_of_weight_and_eight_of_activation_fit_the_narrowest_sum() -> None:
    assert np.iinfo(np.int16).max >= 255 * WEIGHT_LIMIT * 2


@pytest.mark.parametrize("form", [Int8Dynamic(), STATIC], ids=lambda form: form.name)
def test_products_of_one_input_share_its_quantization(form: WeightFormat, tmp_path: Path) -> None:
    weights = {"weight": random_matrix(DEPTH, WIDTH), "other": random_matrix(DEPTH, WIDTH, 2)}
    files = write_products(form, weights, tmp_path)
    assert sum("QuantizeLinear" in operator for operator in operators(files)) == 1


@pytest.mark.parametrize(("form", "bound"), FORMS, ids=IDS)
def test_the_same_matrix_gives_the_same_bytes(form: WeightFormat, bound: float, tmp_path: Path) -> None:
    both = [write_products(form, {"weight": random_matrix(DEPTH, WIDTH)}, tmp_path / name) for name in "ab"]
    assert both[0].graph.read_bytes() == both[1].graph.read_bytes()
    assert both[0].weights.read_bytes() == both[1].weights.read_bytes()


@pytest.mark.parametrize(("form", "bound"), FORMS, ids=IDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_refused(form: WeightFormat, bound: float, value: float, tmp_path: Path) -> None:
    weight = random_matrix(DEPTH, WIDTH)
    weight[1, 2] = value
    with pytest.raises(ExportError, match="not finite"):
        write_products(form, {"weight": weight}, tmp_path)


def test_quantized_values_are_within_half_a_scale() -> None:
    matrix = random_matrix(40, 30)
    for axis in (0, 1):
        quantized, scales = quantize_symmetric(matrix, axis=axis, limit=127)
        assert np.all(np.abs(quantized * scales - matrix) <= scales * 0.5001)


def test_a_column_of_zeros_stays_zero() -> None:
    quantized, scales = quantize_symmetric(np.zeros((4, 3), dtype=np.float32), axis=0, limit=64)
    assert not quantized.any() and np.isfinite(scales).all()


def test_a_block_of_zeros_stays_zero() -> None:
    values, scales = quantize_blocks(np.zeros((2, 20), dtype=np.float32), bits=4, block_size=16)
    assert values.shape == (2, 32) and not values.any() and np.isfinite(scales).all()


def test_blocks_fitted_by_least_squares_beat_those_scaled_by_their_peak() -> None:
    matrix = random_matrix(30, 64)
    values, scales = quantize_blocks(matrix, bits=4, block_size=32)
    fitted = values.reshape(30, 2, 32) * scales[:, :, None]
    blocks = matrix.reshape(30, 2, 32)
    plain_scale = np.abs(blocks).max(axis=2, keepdims=True) / 7
    plain = np.rint(blocks / plain_scale) * plain_scale
    assert np.square(fitted - blocks).mean() < 0.9 * np.square(plain - blocks).mean()


def test_zero_is_a_level_of_every_range() -> None:
    for activation in (ActivationRange(-0.3, 5.0), ActivationRange(0.5, 2.0), ActivationRange(-3.0, -1.0)):
        levels = (np.arange(256) - int(activation.zero_point())) * activation.scale()
        assert levels[0] <= min(activation.low, 0.0) + activation.scale()
        assert levels[-1] >= max(activation.high, 0.0) - activation.scale()


def test_a_product_without_a_calibrated_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no calibrated range"):
        write_products(Int8Static({}), {"weight": random_matrix(DEPTH, WIDTH)}, tmp_path)


@pytest.mark.parametrize(("bits", "size"), [(4, 48), (8, 8), (3, 32)])
def test_blocks_that_onnx_runtime_has_not_are_refused(bits: int, size: int) -> None:
    with pytest.raises(ExportError):
        Blocks(bits, size)
