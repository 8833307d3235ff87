"""What holds for every test."""

from __future__ import annotations

import onnxruntime
from hypothesis import settings
from onnx import TensorProto, helper

settings.register_profile("patient", deadline=None)
"""No property fails because the machine is busy."""


def pytest_configure() -> None:
    """Open a session that leaves denormals as they are, before any of ours takes them as zero.

    ONNX Runtime sets the mode of a process's first session for the thread that opens it, for good; in the tests'
    own thread that would change the arithmetic of all tests that follow.
    """
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "first", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    settings.load_profile("patient")
