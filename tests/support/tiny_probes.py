"""A probe kit of a few tiny graphs, some of them broken on purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from shared.documents import canonical_json
from shared.probes import INDEX_NAME, Probe, ProbeKit, Product

INPUTS, OUTPUTS = 8, 4
SOUND = Product(INPUTS, OUTPUTS, "fp32")


def write_tiny_probes(folder: Path, **broken: bytes | float) -> ProbeKit:
    """A kit of the product `SOUND`, and of one more for each of `broken`.

    Its value is the bytes of a graph that is none, or what every weight is (infinity, say).
    """
    probes = [_write(folder, SOUND, 0.5)]
    probes += [_write(folder, Product(INPUTS, OUTPUTS, choice), value) for choice, value in broken.items()]
    overhead = _write(folder, Product(INPUTS, 1, "overhead"), 1.0).file
    kit = ProbeKit("tiny", tuple(probes), overhead, INPUTS)
    (folder / INDEX_NAME).write_bytes(canonical_json(kit))
    return kit


def _write(folder: Path, product: Product, value: bytes | float) -> Probe:
    file = f"{product.choice}/model.onnx"
    (folder / file).parent.mkdir(parents=True)
    data = value if isinstance(value, bytes) else _graph(product, value).SerializeToString()
    (folder / file).write_bytes(data)
    return Probe(product, file)


def _graph(product: Product, value: float) -> onnx.ModelProto:
    weight = np.full((product.inputs, product.outputs), value, np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"])],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["tokens", product.inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["tokens", product.outputs])],
        [numpy_helper.from_array(weight, "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
