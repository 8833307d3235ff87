"""INT8 weights: close to what they stand for, and small enough that no CPU saturates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from cloud_service.compression.graphs.formats import WEIGHT_LIMIT, Int8Dynamic, quantize_symmetric
from cloud_service.compression.graphs.writer import GraphWriter


def test_quantized_values_are_within_half_a_scale() -> None:
    matrix = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    for axis in (0, 1):
        quantized, scales = quantize_symmetric(matrix, axis=axis, limit=127)
        assert np.all(np.abs(quantized * scales - matrix) <= scales * 0.5001)


def test_a_column_of_zeros_stays_zero() -> None:
    matrix = np.zeros((4, 3), dtype=np.float32)
    quantized, scales = quantize_symmetric(matrix, axis=0, limit=64)
    assert not quantized.any() and np.isfinite(scales).all()


def test_the_largest_products_are_summed_exactly_whatever_the_cpu(tmp_path: Path) -> None:
    depth = 256
    weight = np.full((depth, 8), 0.5, dtype=np.float32)
    graph = GraphWriter("saturation")
    graph.node("Identity", [Int8Dynamic().matmul(graph, "x", "weight", weight)], "y")
    files = graph.save(
        tmp_path,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, depth])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])],
    )
    import onnxruntime

    session = onnxruntime.InferenceSession(str(files.graph), providers=["CPUExecutionProvider"])
    y = session.run(None, {"x": np.ones((1, depth), dtype=np.float32)})[0]
    np.testing.assert_allclose(y, depth * 0.5, rtol=1e-5)
    assert np.iinfo(np.int16).max >= 255 * WEIGHT_LIMIT * 2
