"""Weights on disk: aligned, packed, and where the graph says they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from cloud_service.compression.errors import ExportError
from cloud_service.compression.graphs.writer import PAGE_BYTES, GraphFiles, GraphWriter


def write(folder: Path) -> tuple[GraphWriter, GraphFiles]:
    random = np.random.default_rng(0)
    graph = GraphWriter("layout")
    graph.weight("small.first", random.normal(size=10).astype(np.float32))
    graph.weight("large.odd", random.normal(size=(33, 37)).astype(np.float32))
    graph.weight("small.second", random.normal(size=3).astype(np.float32))
    graph.weight("large.bytes", random.integers(-5, 5, size=(70, 71)).astype(np.int8))
    return graph, graph.save(folder, [], [])


def external_entries(path: Path) -> dict[str, dict[str, str]]:
    model = onnx.load(str(path), load_external_data=False)
    return {t.name: {e.key: e.value for e in t.external_data} for t in model.graph.initializer}


def test_large_tensors_start_at_pages_and_small_ones_share_one(tmp_path: Path) -> None:
    _, files = write(tmp_path)
    offsets = {name: int(entry["offset"]) for name, entry in external_entries(files.graph).items()}
    assert offsets["large.odd"] % PAGE_BYTES == 0 and offsets["large.bytes"] % PAGE_BYTES == 0
    assert abs(offsets["small.first"] - offsets["small.second"]) < PAGE_BYTES
    assert files.borders == (offsets["large.odd"], offsets["large.bytes"], offsets["small.first"])


def test_what_is_written_is_read_back_by_onnx(tmp_path: Path) -> None:
    graph, files = write(tmp_path)
    loaded = onnx.load(str(files.graph))
    for tensor in loaded.graph.initializer:
        np.testing.assert_array_equal(
            onnx.numpy_helper.to_array(tensor, base_dir=str(tmp_path)), graph.weights[tensor.name]
        )


def test_two_tensors_of_one_name_are_refused() -> None:
    graph = GraphWriter("twice")
    graph.weight("w", np.zeros(3, dtype=np.float32))
    with pytest.raises(ExportError, match="two tensors are named w"):
        graph.weight("w", np.ones(3, dtype=np.float32))
