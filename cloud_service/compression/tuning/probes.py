"""Writes a probe kit: what a device must time so that the latency of any plan of a network can be predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from cloud_service.compression.errors import ExportError
from cloud_service.compression.graphs.formats import WeightFormat
from cloud_service.compression.graphs.static import ActivationRange
from cloud_service.compression.graphs.writer import GraphWriter
from cloud_service.compression.tuning.products import NetworkProduct
from shared.documents import canonical_json
from shared.probes import INDEX_NAME, PROBE_INPUT, Probe, ProbeKit, Product, Unsupported

PROBE_PRODUCT = "product.weight"
"""The product's name in every probe."""

PROBE_RANGES = {PROBE_PRODUCT: ActivationRange(-4.0, 4.0)}
"""For formats that want calibrated ranges; the time does not depend on them."""

_OUTPUT = "y"
_OVERHEAD = "overhead"


def write_probe_kit(
    network: str, products: Sequence[NetworkProduct], formats: Mapping[str, WeightFormat], folder: Path, seed: int = 0
) -> ProbeKit:
    """Write a graph for every distinct size among `products` in every format, and the index, into `folder`.

    `network` names where the sizes come from. `formats`: choice name to format. Weights are random from
    `seed`, for a product's time does not depend on them. Sizes that a format refuses are listed as
    unsupported.

    Raises:
        ExportError: the folder cannot be written.
    """
    probes: list[Probe] = []
    unsupported: list[Unsupported] = []
    wanted = _distinct(products, formats)
    try:
        for number, product in enumerate(wanted):
            try:
                _write_probe(product, formats[product.choice], folder / f"{number:03}", seed)
            except ExportError as error:
                unsupported.append(Unsupported(product, str(error)))
            else:
                probes.append(Probe(product, f"{number:03}/model.onnx"))
        width = min(product.inputs for product in products)
        _write_overhead(width, folder / _OVERHEAD)
        kit = ProbeKit(network, tuple(probes), f"{_OVERHEAD}/model.onnx", width, tuple(unsupported))
        (folder / INDEX_NAME).write_bytes(canonical_json(kit))
    except OSError as error:
        raise ExportError(f"{folder}: the probe kit cannot be written: {error}") from error
    return kit


def _distinct(products: Sequence[NetworkProduct], formats: Mapping[str, WeightFormat]) -> list[Product]:
    sizes = dict.fromkeys((product.inputs, product.outputs) for product in products)
    return [Product(inputs, outputs, choice) for inputs, outputs in sizes for choice in formats]


def _write_probe(product: Product, form: WeightFormat, folder: Path, seed: int) -> None:
    random = np.random.default_rng([seed, product.inputs, product.outputs])
    weight = random.standard_normal((product.inputs, product.outputs), dtype=np.float32) / np.sqrt(product.inputs)
    graph = GraphWriter(f"probe-{product.inputs}x{product.outputs}-{product.choice}")
    result = form.matmul(graph, PROBE_INPUT, PROBE_PRODUCT, weight.astype(np.float32))
    graph.node("Identity", [result], _OUTPUT)
    _save(graph, product.inputs, product.outputs, folder)


def _write_overhead(width: int, folder: Path) -> None:
    """One sum of the first row: ONNX Runtime would do nothing at all for an identity."""
    graph = GraphWriter("probe-overhead")
    bounds = [graph.constant(name, np.array([value], np.int64)) for name, value in (("zero", 0), ("one", 1))]
    graph.node("Slice", [PROBE_INPUT, *bounds], "row")
    graph.node("Add", ["row", "row"], _OUTPUT)
    _save(graph, width, width, folder, rows=1)


def _save(graph: GraphWriter, inputs: int, outputs: int, folder: Path, rows: int | str = "tokens") -> None:
    graph.save(
        folder,
        [helper.make_tensor_value_info(PROBE_INPUT, TensorProto.FLOAT, ["tokens", inputs])],
        [helper.make_tensor_value_info(_OUTPUT, TensorProto.FLOAT, [rows, outputs])],
    )
