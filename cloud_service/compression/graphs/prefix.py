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
from numpy.typing import NDArray
from onnx import TensorProto, helper

from cloud_service.compression.errors import ExportError
from cloud_service.compression.graphs.decoder import (
    EMBEDDINGS,
    DecoderLayers,
    Projected,
    less_one,
    rotary_tables,
    valid_lengths,
)
from cloud_service.compression.graphs.ernie import (
    OwnTokens,
    Positions,
    causal_attention,
    label_head,
    save_classifier,
    valid_tokens,
)
from cloud_service.compression.graphs.formats import Float32Weights, WeightFormat
from cloud_service.compression.graphs.session import open_session
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
    rotary_tables(graph, source.shape)
    positions = Positions(length, graph.node("Add", [last, length], "position"), _valid_tokens(graph, len(prefix)))
    _batch_size(graph)
    label_head(source, form, graph, AfterPrefix(source.shape, positions, prefix_key_values(source)), last)
    return save_classifier(graph, source, folder)


@dataclass(frozen=True)
class AfterPrefix:
    """Attention over the tokens given and, before them, a prefix that is the same for every row."""

    shape: NetworkShape
    positions: Positions
    key_values: Sequence[tuple[KeyValues, KeyValues]]
    takes_last_query: bool = True
    takes_packed: bool = False

    def attend(self, graph: GraphWriter, projected: Projected, index: int) -> str:
        """See `Attention`."""
        keys, values = (
            self._rows(graph, f"layers.{index}.self_attn.prefix.{part}", kept)
            for part, kept in zip(("keys", "values"), self.key_values[index], strict=True)
        )
        return causal_attention(graph, projected, self.shape, index, self.positions, (keys, values))

    @staticmethod
    def _rows(graph: GraphWriter, name: str, kept: KeyValues) -> str:
        """`kept` [1, ...] for every row of the batch."""
        sizes = graph.constant(f"prefix.sizes.{kept.shape[1]}", np.array(kept.shape[1:], np.int64))
        axes = f"{sizes}/batch"
        if not graph.makes(axes):
            graph.node("Concat", ["batch_size", sizes], axes, axis=0)
        return graph.node("Expand", [graph.weight(name, kept), axes], f"{name}/rows")


def _batch_size(graph: GraphWriter) -> None:
    graph.node("Shape", ["input_ids"], "batch_size", start=0, end=1)


def _valid_tokens(graph: GraphWriter, prefix_length: int) -> str:
    """As `valid_tokens`, with the prefix's tokens in front, all of which are."""
    before = graph.constant("prefix.pads", np.array([0, prefix_length, 0, 0], np.int64))
    one = graph.constant("prefix.valid", np.array(1, np.int64))
    return valid_tokens(graph, graph.node("Pad", ["attention_mask", before, one], "prefix/mask"))


def prefix_key_values(source: GraphSource) -> list[tuple[KeyValues, KeyValues]]:
    """Each layer's keys, rotated, and values of the prefix, computed in FP32.

    Both are float32 [1, kv_heads, prefix, head_size].
    """
    shape, tokens = source.shape, len(source.shape.prefix)
    graph = GraphWriter("prefix")
    rotary_tables(graph, shape)
    first = graph.constant("positions", np.array([0], np.int64))
    noting = _Noting(OwnTokens(shape, Positions(first, first, "")))
    DecoderLayers(source, Float32Weights(), graph, noting).build("embedded", last=None)
    rows = source.weights[f"body.{EMBEDDINGS}"][np.newaxis, list(shape.prefix)]
    given = helper.make_tensor_value_info("embedded", TensorProto.FLOAT, rows.shape)
    wanted = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in noting.names]
    with TemporaryDirectory() as temporary:
        files = graph.save(Path(temporary), [given], wanted)
        results = cast("list[KeyValues]", open_session(files.graph).run(noting.names, {"embedded": rows}))
    by_head = [value.reshape(1, tokens, -1, shape.head_size).transpose(0, 2, 1, 3) for value in results]
    return list(zip(by_head[::2], by_head[1::2], strict=True))


@dataclass(frozen=True)
class _Noting:
    """Attention as it is, with the names of each layer's rotated keys and its values."""

    attention: OwnTokens
    names: list[str] = field(default_factory=list)
    takes_last_query: bool = False
    takes_packed: bool = False

    def attend(self, graph: GraphWriter, projected: Projected, index: int) -> str:
        """See `Attention`."""
        self.names.extend((f"layers.{index}.self_attn/key", projected.value))
        return self.attention.attend(graph, projected, index)


def _require_prefix(shape: NetworkShape) -> None:
    if shape.family is not Family.ERNIE:
        raise ExportError(f"no causal network: {shape.family.value}")
    if not 0 < len(shape.prefix) < shape.max_length:
        raise ExportError(f"a prefix of {len(shape.prefix)} tokens, of {shape.max_length} in all")
    if not all(0 <= token < shape.vocabulary_size for token in shape.prefix):
        raise ExportError("the prefix has tokens that the vocabulary has not")
