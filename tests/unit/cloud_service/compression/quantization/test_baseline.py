"""The stock tools' INT8 runs on both families, so that a report can compare with it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
from torch import Tensor, nn

from cloud_service.compression.encoding import TokenBatch
from cloud_service.compression.errors import ExportError
from cloud_service.compression.evaluation import compute_logits
from cloud_service.compression.graphs.formats import Float32Weights
from cloud_service.compression.networks.shape import NetworkShape
from cloud_service.compression.quantization.baseline import onnxruntime_dynamic_int8, torch_dynamic_int8
from cloud_service.compression.quantization.network import write_network
from tests.support.random_network import NETWORKS, random_network, source_of, token_sequences

ALL_NETWORKS = pytest.mark.parametrize("shape", NETWORKS.values(), ids=NETWORKS.keys())


def classify(model: nn.Module, batch: TokenBatch) -> Tensor:
    return cast(Tensor, model(batch))


@ALL_NETWORKS
def test_torch_quantizes_every_linear_layer(shape: NetworkShape, tmp_path: Path) -> None:
    model = random_network(shape)
    result = torch_dynamic_int8(model, classify, token_sequences(), tmp_path / "model.pt")
    reference = compute_logits(model, token_sequences())
    assert np.corrcoef(result.logits.ravel(), reference.ravel())[0, 1] > 0.99
    assert result.size_bytes == (tmp_path / "model.pt").stat().st_size
    assert isinstance(model.head, nn.Linear)


@ALL_NETWORKS
def test_onnx_runtimes_own_quantizer_takes_the_graph(shape: NetworkShape, tmp_path: Path) -> None:
    source = source_of(random_network(shape))
    exact = write_network(source, Float32Weights(), tmp_path / "fp32")
    sizes = []
    for _ in range(2):
        result = onnxruntime_dynamic_int8(exact.graph, token_sequences(), tmp_path / "int8")
        sizes.append(result.size_bytes)
    assert result.logits.shape == (5, 5) and np.isfinite(result.logits).all()
    assert sizes[0] == sizes[1] < exact.weights.stat().st_size + exact.graph.stat().st_size


def test_what_cannot_be_quantized_is_an_export_error(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(ExportError, match="does not quantize"):
        onnxruntime_dynamic_int8(tmp_path / "broken.onnx", token_sequences(), tmp_path / "out")
