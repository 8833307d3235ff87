"""A plan says of each matrix how it is kept, survives a file, and is obeyed."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from cloud_service.compression.graphs.products import product_of
from cloud_service.compression.graphs.session import GraphSession
from cloud_service.compression.networks.shape import NetworkShape
from cloud_service.compression.quantization.network import write_network
from cloud_service.compression.quantization.plan import (
    PlannedWeights,
    Precision,
    PrecisionPlan,
    Scheme,
    is_table,
    product_names,
    uniform,
)
from shared.documents import canonical_json, read_document
from tests.support.random_network import NETWORKS, random_network, source_of, token_sequences

FP32 = Precision(Scheme.FP32)
INT4 = Precision(Scheme.INT4_BLOCKS, 32)
MIXED = PrecisionPlan("mixed", Precision(Scheme.INT8_DYNAMIC), {"head.weight": FP32, "embed_tokens.weight": INT4})


def test_a_plan_comes_back_from_its_document() -> None:
    assert read_document(PrecisionPlan, canonical_json(MIXED)) == MIXED


def test_an_exception_wins_over_the_default() -> None:
    assert MIXED.precision_of("head.weight") == FP32
    assert MIXED.precision_of("layers.0.mlp.down_proj.weight") == MIXED.default
    assert MIXED.precisions() == {FP32, INT4, MIXED.default}


def test_a_precision_is_named_with_its_block() -> None:
    assert INT4.name == "int4-blocks-32" and FP32.name == "fp32"


@pytest.mark.parametrize(("scheme", "size"), [(Scheme.INT4_BLOCKS, 0), (Scheme.FP32, 32)])
def test_blocks_have_a_size_and_nothing_else_has(scheme: Scheme, size: int) -> None:
    with pytest.raises(ValueError, match="blocks of"):
        Precision(scheme, size)


def test_each_matrix_is_written_as_the_plan_says(tmp_path: Path) -> None:
    files = write_network(source_of(random_network(NETWORKS["ernie"])), PlannedWeights(MIXED), tmp_path)
    nodes = {node.output[0]: node.op_type for node in onnx.load(files.graph, load_external_data=False).graph.node}
    assert nodes["head.weight/out"] == "MatMul"
    assert nodes["embed_tokens.weight/out"] == "GatherBlockQuantized"
    assert nodes["layers.0.mlp.down_proj.weight/out"] == "MatMulIntegerToFloat"
    assert GraphSession(files.graph).run_each(token_sequences()).shape == (5, 5)


@pytest.mark.parametrize("shape", NETWORKS.values(), ids=NETWORKS.keys())
def test_the_names_of_a_network_are_the_matrices_of_its_graph(shape: NetworkShape, tmp_path: Path) -> None:
    plan = uniform(Precision(Scheme.INT8_DYNAMIC))
    files = write_network(source_of(random_network(shape)), PlannedWeights(plan), tmp_path)
    tensors = onnx.load(files.graph, load_external_data=False).graph.initializer
    quantized = {tensor.name for tensor in tensors if tensor.data_type == onnx.TensorProto.INT8}
    assert {product_of(name) for name in quantized} == set(product_names(shape))
    assert [name for name in product_names(shape) if is_table(name)] == [product_names(shape)[0]]
