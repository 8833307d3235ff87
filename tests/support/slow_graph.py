"""The tiny bundle's graph made slow: right answers that keep a core busy for tens of milliseconds a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.support.tiny_bundle import tiny_graph


def slow_graph(labels: Sequence[str], width: int = 700, products: int = 3) -> onnx.ModelProto:
    """`tiny_graph` plus 0 · (a product of matrices [width, width] that depends on the input)."""
    model = tiny_graph(labels)
    graph = model.graph
    next(node for node in graph.node if node.output[0] == "logits").output[0] = "quick_logits"
    graph.node.extend(
        [
            helper.make_node("ReduceMax", ["mask"], ["one"], keepdims=0),
            helper.make_node("Expand", ["one", "matrix_shape"], ["matrix_0"]),
            *(
                node
                for number in range(products)
                for node in (
                    helper.make_node("MatMul", [f"matrix_{number}", "matrix_0"], [f"product_{number}"]),
                    helper.make_node("Mul", [f"product_{number}", "shrink"], [f"matrix_{number + 1}"]),
                )
            ),
            helper.make_node("ReduceMean", [f"matrix_{products}"], ["work"], keepdims=0),
            helper.make_node("Mul", ["work", "nothing"], ["no_work"]),
            helper.make_node("Add", ["quick_logits", "no_work"], ["logits"]),
        ]
    )
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([width, width]), "matrix_shape"),
            numpy_helper.from_array(np.array(1.0 / width, np.float32), "shrink"),
            numpy_helper.from_array(np.array(0.0, np.float32), "nothing"),
        ]
    )
    return model
