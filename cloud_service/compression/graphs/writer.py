"""Writes an ONNX graph node by node, its weights in one aligned external file.

Names and order follow the calls, so the same model gives the same bytes. Tensors of a page or more start
at a page border, so that they can be mapped and fetched one by one; smaller ones follow, packed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from cloud_service.compression.errors import ExportError

PAGE_BYTES = 4096
SMALL_ALIGNMENT_BYTES = 64
OPSET = 23
IR_VERSION = 10
CONTRIB = "com.microsoft"
LEAST_ONNXRUNTIME = "1.23.2"

Attribute = int | float


@dataclass(frozen=True)
class GraphFiles:
    """A written graph: `borders` are the byte offsets in `weights` at which tensors begin (the small ones are one)."""

    graph: Path
    weights: Path
    borders: tuple[int, ...]
    contrib_operators: tuple[str, ...]


@dataclass(frozen=True)
class WeightsFile:
    """Tensors on disk: the byte offset of each, and the offsets at which a chunk may begin (see `GraphFiles`)."""

    path: Path
    offsets: Mapping[str, int]
    borders: tuple[int, ...]


@dataclass
class GraphWriter:
    """Collects nodes and tensors; `save` puts them on disk."""

    name: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def constant(self, name: str, value: np.ndarray) -> str:
        """A small tensor of the structure (axes, sizes), kept in the graph itself."""
        self.constants.setdefault(name, value)
        return name

    def weight(self, name: str, value: np.ndarray) -> str:
        """A trained tensor, kept in the weights file.

        Raises:
            ExportError: another tensor has the name, or a value is not finite.
        """
        if name in self.weights:
            raise ExportError(f"{self.name}: two tensors are named {name}")
        if not np.isfinite(value).all():
            raise ExportError(f"{self.name}: {name} holds values that are not finite")
        self.weights[name] = np.ascontiguousarray(value)
        return name

    def node(self, operator: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Attribute) -> str:
        """A node of one output; returns the output's name."""
        self.nodes_of(operator, inputs, [output], domain, **attributes)
        return output

    def nodes_of(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **attributes: Attribute
    ) -> None:
        """A node of several outputs, named after the first that has a name."""
        name = next(output for output in outputs if output) + "/node"
        self.nodes.append(_node(operator, inputs, outputs, name, domain, attributes))

    def makes(self, tensor: str) -> bool:
        """Whether a node has this output already."""
        return any(tensor in node.output for node in self.nodes)

    def contrib_operators(self) -> tuple[str, ...]:
        """The operators beyond the ONNX standard, as domain.name, sorted.

        `SimplifiedLayerNormalization` is ONNX Runtime's own, though it has no domain.
        """
        contrib = {f"{node.domain}.{node.op_type}" for node in self.nodes if node.domain}
        own = {node.op_type for node in self.nodes if node.op_type == "SimplifiedLayerNormalization"}
        return tuple(sorted(contrib | own))

    def save(
        self, folder: Path, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> GraphFiles:
        """Write `model.onnx` and `model.onnx.data` into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        data = write_weights(folder / "model.onnx.data", self.weights)
        return self.save_graph(folder / "model.onnx", inputs, outputs, data, {name: name for name in self.weights})

    def save_graph(
        self,
        path: Path,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        data: WeightsFile,
        stored_as: Mapping[str, str],
    ) -> GraphFiles:
        """Write the graph alone, to the folder of `data`; `stored_as` is each tensor's name there."""
        offsets = {name: data.offsets[stored_as[name]] for name in self.weights}
        tensors = [_inline(name, value) for name, value in self.constants.items()]
        tensors += [_external(name, value, data.path.name, offsets[name]) for name, value in self.weights.items()]
        graph = helper.make_graph(self.nodes, self.name, list(inputs), list(outputs), initializer=tensors)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="tandem", ir_version=IR_VERSION)
        path.write_bytes(model.SerializeToString(deterministic=True))
        return GraphFiles(path, data.path, data.borders, self.contrib_operators())


def write_weights(path: Path, weights: Mapping[str, np.ndarray]) -> WeightsFile:
    """Write tensors to `path`, laid out as this module says."""
    offsets, borders = _lay_out(weights)
    with path.open("wb") as stream:
        for name in sorted(offsets, key=offsets.__getitem__):
            stream.write(b"\0" * (offsets[name] - stream.tell()))
            stream.write(weights[name].tobytes())
    return WeightsFile(path, offsets, borders)


def _node(
    operator: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    name: str,
    domain: str,
    attributes: Mapping[str, Attribute],
) -> onnx.NodeProto:
    node = helper.make_node(operator, inputs, outputs, name=name, domain=domain)
    node.attribute.extend(helper.make_attribute(key, value) for key, value in sorted(attributes.items()))
    return node


def _lay_out(weights: Mapping[str, np.ndarray]) -> tuple[dict[str, int], tuple[int, ...]]:
    offsets: dict[str, int] = {}
    borders: list[int] = []
    end = 0
    for name, value in weights.items():
        if value.nbytes >= PAGE_BYTES:
            end = _aligned(end, PAGE_BYTES)
            offsets[name] = end
            borders.append(end)
            end += value.nbytes
    end = _aligned(end, PAGE_BYTES)
    borders.append(end)
    for name, value in weights.items():
        if value.nbytes < PAGE_BYTES:
            end = _aligned(end, SMALL_ALIGNMENT_BYTES)
            offsets[name] = end
            end += value.nbytes
    return offsets, tuple(borders)


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def _inline(name: str, value: np.ndarray) -> TensorProto:
    return onnx.numpy_helper.from_array(value, name)


def _external(name: str, value: np.ndarray, location: str, offset: int) -> TensorProto:
    tensor = TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(value.dtype),
        dims=value.shape,
        data_location=TensorProto.EXTERNAL,
    )
    for key, entry in (("location", location), ("offset", str(offset)), ("length", str(value.nbytes))):
        tensor.external_data.add(key=key, value=entry)
    return tensor
