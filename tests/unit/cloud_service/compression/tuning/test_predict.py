"""From a network's shape to probes, from probes to a table, from the table to a plan's latency."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud_service.compression.errors import ExportError
from cloud_service.compression.graphs.ernie import write_graph
from cloud_service.compression.graphs.formats import Float32Weights, Int8Dynamic, Matrix, WeightFormat
from cloud_service.compression.graphs.products import product_of
from cloud_service.compression.graphs.source import GraphSource
from cloud_service.compression.graphs.writer import GraphWriter
from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling
from cloud_service.compression.tuning.predict import LatencyPredictor
from cloud_service.compression.tuning.probes import write_probe_kit
from cloud_service.compression.tuning.products import NetworkProduct, products_of
from edge_agent.cli import main
from edge_agent.probing import record_probes
from shared.clock import SystemClock
from shared.errors import MeasurementError
from shared.latency_table import DeviceClass, LatencyTable, ProductTiming, read_latency_table
from shared.probes import Product, Unsupported, read_probe_kit

FORMATS: dict[str, WeightFormat] = {"fp32": Float32Weights(), "int8-dynamic": Int8Dynamic()}
LAYERS = (LayerShape(4, 2, 48), LayerShape(2, 1, 32), LayerShape(2, 1, 32))
ERNIE = NetworkShape(Family.ERNIE, 100, 16, 32, 16, LAYERS, 1e-5, Pooling.LAST, 10000.0)
BERT = NetworkShape(Family.BERT, 100, 16, 32, 16, (LayerShape(2, 2, 64), LayerShape(1, 1, 32)), 1e-12, Pooling.POOLER)


class Refusing(Float32Weights):
    """Takes no matrix whose rows are no multiple of 48."""

    name = "refusing"

    def matmul(self, graph: GraphWriter, x: str, name: str, weight: Matrix) -> str:
        if weight.shape[0] % 48:
            raise ExportError("rows are no multiple of 48")
        return super().matmul(graph, x, name, weight)


class Recording(Float32Weights):
    """Notes the inputs and outputs of every product that a graph builder writes, and which matrices it is made of."""

    def __init__(self) -> None:
        self.products: dict[str, tuple[int, int]] = {}
        self.matrices: list[str] = []

    def matmul(self, graph: GraphWriter, x: str, name: str, weight: Matrix) -> str:
        self.matrices.append(name)
        (depth, width), (_, so_far) = weight.shape, self.products.get(product_of(name), (0, 0))
        # The query of the last layer is one token's alone.
        alone = name == f"layers.{len(ERNIE.layers) - 1}.self_attn.q_proj.weight"
        self.products[product_of(name)] = depth, so_far + (0 if alone else width)
        return super().matmul(graph, x, name, weight)


def ernie_weights(label_count: int) -> dict[str, Matrix]:
    """ERNIE's matrices, [out, in], all zero."""
    hidden, head = ERNIE.hidden_size, ERNIE.head_size
    sizes = {"body.embed_tokens": (ERNIE.vocabulary_size, hidden), "head": (label_count, hidden)}
    for index, layer in enumerate(ERNIE.layers):
        query, keys = layer.attention_heads * head, layer.key_value_heads * head
        attention, ffn = f"body.layers.{index}.self_attn", f"body.layers.{index}.mlp"
        sizes |= {f"{attention}.q_proj": (query, hidden), f"{attention}.o_proj": (hidden, query)}
        sizes |= {f"{attention}.{part}_proj": (keys, hidden) for part in "kv"}
        sizes |= {f"{ffn}.{part}_proj": (layer.ffn_size, hidden) for part in ("gate", "up")}
        sizes[f"{ffn}.down_proj"] = (hidden, layer.ffn_size)
    weights: dict[str, Matrix] = {f"{name}.weight": np.zeros(size, np.float32) for name, size in sizes.items()}
    norms = [
        f"body.layers.{i}.{part}_layernorm" for i in range(len(ERNIE.layers)) for part in ("input", "post_attention")
    ]
    weights |= {f"{name}.weight": np.ones(hidden, np.float32) for name in (*norms, "body.norm")}
    return {**weights, "head.bias": np.zeros(label_count, np.float32)}


def table(*timings: tuple[int, int, str, int, float], overhead_ms: float = 0.1) -> LatencyTable:
    entries = tuple(ProductTiming(Product(k, n, choice), tokens, ms) for k, n, choice, tokens, ms in timings)
    device = DeviceClass("cpu", "x86_64", 2, 1, "1.23.2")
    return LatencyTable(device, "net", 5, overhead_ms, entries, (Unsupported(Product(8, 8, "int4"), "no kernel"),))


def test_ernies_products_have_the_sizes_that_its_graph_has() -> None:
    products = {product.name: product for product in products_of(ERNIE, 7)}
    sizes = {name: (product.inputs, product.outputs, product.single) for name, product in products.items()}
    assert len(products) == 3 * 4 + 1
    assert sizes["layers.0.self_attn.qkv_proj.weight"] == (32, (4 + 2 * 2) * 16, False)
    assert sizes["layers.0.mlp.down_proj.weight"] == (48, 32, False)
    assert sizes["layers.2.self_attn.qkv_proj.weight"] == (32, 32, False)
    assert sizes["layers.2.mlp.gate_up_proj.weight"] == (32, 64, True)
    assert sizes["head.weight"] == (32, 7, True)


def test_ernies_products_are_those_that_the_graph_builder_writes(tmp_path: Path) -> None:
    form = Recording()
    write_graph(GraphSource(ERNIE, ernie_weights(7)), form, tmp_path)
    expected = {product.name: (product.inputs, product.outputs) for product in products_of(ERNIE, 7)}
    assert form.products == expected and list(form.products) == list(expected)
    assert len(form.matrices) == len(set(form.matrices)) == 3 * 7 + 1


def test_berts_products_have_the_sizes_that_its_graph_has() -> None:
    sizes = {product.name: (product.inputs, product.outputs, product.single) for product in products_of(BERT, 3)}
    assert sizes["encoder.layer.0.attention.self.qkv.weight"] == (32, 96, False)
    assert sizes["encoder.layer.1.output.dense.weight"] == (32, 32, True)
    assert sizes["pooler.dense.weight"] == (32, 32, True)
    assert list(sizes)[-1] == "head.weight"


def test_a_size_that_comes_twice_is_probed_once(tmp_path: Path) -> None:
    products = products_of(ERNIE, 7)
    kit = write_probe_kit("tiny", products, FORMATS, tmp_path)
    sizes = {(product.inputs, product.outputs) for product in products}
    assert len(sizes) < len(products)
    assert len(kit.probes) == 2 * len(sizes)
    assert read_probe_kit(tmp_path) == kit


def test_the_same_seed_writes_the_same_kit(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_probe_kit("tiny", products_of(ERNIE, 7), FORMATS, tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert files and all((tmp_path / "one" / f).read_bytes() == (tmp_path / "other" / f).read_bytes() for f in files)


def test_a_size_that_a_format_refuses_is_unsupported_all_the_way_to_the_prediction(tmp_path: Path) -> None:
    formats: dict[str, WeightFormat] = {**FORMATS, "refusing": Refusing()}
    kit = write_probe_kit("tiny", products_of(ERNIE, 7), formats, tmp_path)
    assert kit.unsupported and all(entry.product.choice == "refusing" for entry in kit.unsupported)
    recorded = record_probes(tmp_path, 1, 1, (4,), SystemClock())
    assert set(kit.unsupported) <= set(recorded.unsupported)
    with pytest.raises(MeasurementError, match="32 x 7 refusing; the device cannot run it: rows are no multiple"):
        LatencyPredictor(recorded).product_ms(Product(32, 7, "refusing"), 4)


def test_a_kit_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written"):
        write_probe_kit("tiny", products_of(ERNIE, 7), FORMATS, tmp_path / "file")


def test_a_device_times_a_kit_and_every_plan_can_be_predicted(tmp_path: Path) -> None:
    products = products_of(ERNIE, 7)
    write_probe_kit("tiny", products, FORMATS, tmp_path / "kit")
    file = tmp_path / "table.json"
    assert main(["bench", str(tmp_path / "kit"), "--record", str(file), "--rounds", "3", "--tokens", "4,8"]) == 0
    predictor = LatencyPredictor(read_latency_table(file))
    for choice in FORMATS:
        plan = {"embed_tokens.weight": choice, **dict.fromkeys((product.name for product in products), choice)}
        assert predictor.network_ms(products, plan, 6) > 0
        whole_ms = predictor.network_ms(products, plan, 6, predictor.rest_ms(products, plan, 6, 50.0))
        assert whole_ms == pytest.approx(50.0)


def test_a_prediction_adds_products_overhead_and_rest() -> None:
    predictor = LatencyPredictor(table((8, 8, "a", 1, 0.2), (8, 8, "a", 16, 1.1), (8, 4, "b", 1, 0.3)))
    products = [NetworkProduct("x", 8, 8, single=False), NetworkProduct("y", 8, 4, single=True)]
    predicted_ms = predictor.network_ms(products, {"x": "a", "y": "b"}, 16, rest_ms=0.5)
    assert predicted_ms == pytest.approx((1.1 - 0.1) + (0.3 - 0.1) + 0.1 + 0.5)


def test_between_recorded_lengths_times_are_interpolated() -> None:
    predictor = LatencyPredictor(table((8, 8, "a", 16, 1.1), (8, 8, "a", 32, 2.1)))
    assert predictor.product_ms(Product(8, 8, "a"), 24) == pytest.approx(1.5)


def test_what_the_table_lacks_is_named() -> None:
    predictor = LatencyPredictor(table((8, 8, "a", 16, 1.1)))
    with pytest.raises(MeasurementError, match="no product 9 x 8 a; it was not measured"):
        predictor.product_ms(Product(9, 8, "a"), 16)
    with pytest.raises(MeasurementError, match="8 x 8 int4; the device cannot run it: no kernel"):
        predictor.product_ms(Product(8, 8, "int4"), 16)
    with pytest.raises(MeasurementError, match="16 to 16 tokens, not for 64"):
        predictor.product_ms(Product(8, 8, "a"), 64)
    with pytest.raises(MeasurementError, match=r"no choice for head\.weight"):
        predictor.network_ms(products_of(ERNIE, 7)[-1:], {}, 16)


def test_an_overhead_larger_than_a_product_never_makes_time_negative() -> None:
    predictor = LatencyPredictor(table((8, 8, "a", 16, 0.05)))
    assert predictor.product_ms(Product(8, 8, "a"), 16) == 0.0


def test_a_probe_computes_the_product_of_its_weights(tmp_path: Path) -> None:
    from edge_agent.engine.probe import ProbeSession

    kit = write_probe_kit("tiny", products_of(ERNIE, 7), FORMATS, tmp_path)
    x: NDArray[np.float32] = np.random.default_rng(0).standard_normal((5, 32), dtype=np.float32)
    exact, rounded = (
        ProbeSession(tmp_path / probe.file, 1).run(x) for probe in kit.probes if probe.product.outputs == 7
    )
    assert exact.shape == (5, 7) and np.abs(exact - rounded).max() < 0.1 < np.abs(exact).max()
