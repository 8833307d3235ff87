"""A classifier whose texts all begin with the same prompt: what attention keeps of it is computed once.

Keys and values of the prefix are tensors of the graph, so a device gives it the remaining tokens alone
and needs no other code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from cloud_service.compression.errors import ExportError
from cloud_service.compression.graphs.decoder import (
    EMBEDDINGS,
    DecoderLayers,
    axis_length,
    grouped_query_attention,
    less_one,
    rotary_tables,
    valid_lengths,
)
from cloud_service.compression.graphs.ernie import OwnTokens, attention_lengths, label_head, save_classifier
from cloud_service.compression.graphs.formats import Float32Weights, WeightFormat
from cloud_service.compression.graphs.source import GraphSource
from cloud_service.compression.graphs.writer import GraphFiles, GraphWriter
from cloud_service.compression.networks.shape import Family, NetworkShape

KeyValues = NDArray[np.float32]


def write_prefixed_graph(source: GraphSource, form: WeightFormat, folder: Path) -> GraphFiles:
    """Write the graph of `write_graph` for texts that follow the shape's prefix, which is not given to it.

    Inputs and output are the same; a text may have `max_text_length` tokens. The prefix's keys and values
    are those of the FP32 network, whatever `form` is.

    Raises:
        ExportError: not an ERNIE network, the prefix is empty, too long or of unknown tokens, or a weight is
            not finite.
    """
    _require_prefix(source.shape)
    prefix = source.shape.prefix
    graph = GraphWriter(f"ernie4_5-classifier-{form.name}-prefix-{len(prefix)}")
    last = less_one(graph, valid_lengths(graph), "last")
    length = graph.constant("prefix.length", np.array([len(prefix)], np.int64))
    own = axis_length(graph, "input_ids", "sequence_length")
    attention_lengths(graph, graph.node("Add", [last, length], "position"), graph.node("Add", [own, length], "total"))
    rotary_tables(graph, source.shape)
    _batch_axes(graph)
    label_head(source, form, graph, AfterPrefix(source.shape, prefix_key_values(source)), last)
    return save_classifier(graph, source, folder)


@dataclass(frozen=True)
class AfterPrefix:
    """Attention over the tokens given and a prefix that is the same for every row.

    ONNX Runtime's attention takes a cache and several new tokens for a batch of one only. So the prefix
    stands in front as further tokens, whose queries are zeros and whose results are cut off; for them,
    attention is the only operator that runs.
    """

    shape: NetworkShape
    key_values: Sequence[KeyValues]

    def attend(self, graph: GraphWriter, packed: str, index: int) -> str:
        """See `Attention`."""
        name, kept = f"layers.{index}.self_attn", self.key_values[index]
        width = self.shape.layers[index].attention_heads * self.shape.head_size
        axes = graph.constant(f"prefix.queries.{width}", np.array([1, kept.shape[1], width], np.int64))
        queries = graph.node("ConstantOfShape", [axes], f"{name}/prefix/queries")
        stored = graph.weight(f"{name}.prefix", kept)
        row = graph.node("Concat", [queries, stored], f"{name}/prefix/row", axis=-1)
        rows = graph.node("Expand", [row, "prefix.batch"], f"{name}/prefix/rows")
        whole = graph.node("Concat", [rows, packed], f"{name}/prefix/whole", axis=1)
        attended = grouped_query_attention(graph, whole, self.shape, index)
        cut = [attended, "prefix.length", "total", graph.constant("axes.sequence", np.array([1], np.int64))]
        return graph.node("Slice", cut, f"{name}/prefix/after")


def _batch_axes(graph: GraphWriter) -> None:
    """`prefix.batch`: the axes to which one row's tensor is expanded for all rows."""
    batch = graph.node("Shape", ["input_ids"], "batch_size", start=0, end=1)
    same = graph.constant("axes.same", np.array([1, 1], np.int64))
    graph.node("Concat", [batch, same], "prefix.batch", axis=0)


def prefix_key_values(source: GraphSource) -> list[KeyValues]:
    """Each layer's keys and values of the prefix, before their rotation, side by side, computed in FP32.

    Each is float32 [1, prefix, 2 * kv_heads * head_size].
    """
    prefix = source.shape.prefix
    graph = GraphWriter("prefix")
    graph.constant("seqlens_k", np.array([[len(prefix) - 1]], np.int32))
    graph.constant("total_length", np.array(len(prefix), np.int32))
    rotary_tables(graph, source.shape)
    noting = _Noting(OwnTokens(source.shape))
    DecoderLayers(source, Float32Weights(), graph, noting).build("embedded", last=None)
    rows = source.weights[f"body.{EMBEDDINGS}"][np.newaxis, list(prefix)]
    given = helper.make_tensor_value_info("embedded", TensorProto.FLOAT, rows.shape)
    wanted = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in noting.packed]
    with TemporaryDirectory() as temporary:
        files = graph.save(Path(temporary), [given], wanted)
        session = onnxruntime.InferenceSession(str(files.graph), providers=["CPUExecutionProvider"])
        results = cast("list[KeyValues]", session.run(noting.packed, {"embedded": rows}))
    widths = [layer.attention_heads * source.shape.head_size for layer in source.shape.layers]
    return [packed[:, :, width:] for packed, width in zip(results, widths, strict=True)]


@dataclass(frozen=True)
class _Noting:
    """Attention as it is, with the names of what it was given."""

    attention: OwnTokens
    packed: list[str] = field(default_factory=list)

    def attend(self, graph: GraphWriter, packed: str, index: int) -> str:
        """See `Attention`."""
        self.packed.append(packed)
        return self.attention.attend(graph, packed, index)


def _require_prefix(shape: NetworkShape) -> None:
    if shape.family is not Family.ERNIE:
        raise ExportError(f"no causal network: {shape.family.value}")
    if not 0 < len(shape.prefix) < shape.max_length:
        raise ExportError(f"a prefix of {len(shape.prefix)} tokens, of {shape.max_length} in all")
    if not all(0 <= token < shape.vocabulary_size for token in shape.prefix):
        raise ExportError("the prefix has tokens that the vocabulary has not")
