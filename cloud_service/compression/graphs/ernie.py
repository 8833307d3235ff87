"""An ERNIE-4.5 classifier as one ONNX graph: the label head reads each text's last token."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from cloud_service.compression.graphs.decoder import (
    EMBEDDINGS,
    Attention,
    DecoderLayers,
    Projected,
    less_one,
    rotary_tables,
    valid_lengths,
)
from cloud_service.compression.graphs.formats import WeightFormat
from cloud_service.compression.graphs.source import GraphSource
from cloud_service.compression.graphs.writer import CONTRIB, GraphFiles, GraphWriter
from cloud_service.compression.networks.shape import NetworkShape


def write_graph(source: GraphSource, form: WeightFormat, folder: Path) -> GraphFiles:
    """Write the graph, for texts that are given whole, and its weights into `folder`.

    Inputs: `input_ids` and `attention_mask`, int64 [batch, sequence], padded on the right, at least one
    token a row, at most `max_length`. Output: `logits`, float32 [batch, labels].

    Raises:
        ExportError: a weight is not finite.
    """
    graph = GraphWriter(f"ernie4_5-classifier-{form.name}")
    last = less_one(graph, valid_lengths(graph), "last")
    rotary_tables(graph, source.shape)
    positions = Positions(graph.constant("positions", np.array([0], np.int64)), last, valid_tokens(graph))
    label_head(source, form, graph, OwnTokens(source.shape, positions), last)
    return save_classifier(graph, source, folder)


@dataclass(frozen=True)
class Positions:
    """Where a row's tokens stand, by names in the graph.

    `first` int64 [1]: the position of the first token given. `last` int64 [batch, 1]: that of the last valid one.
    `valid` bool [batch, 1, 1, tokens]: which tokens the last one may attend to, a prefix's among them.
    """

    first: str
    last: str
    valid: str


@dataclass(frozen=True)
class OwnTokens:
    """Attention over the tokens given, and nothing before them."""

    shape: NetworkShape
    positions: Positions
    takes_last_query: bool = True
    takes_packed: bool = False

    def attend(self, graph: GraphWriter, projected: Projected, index: int) -> str:
        """See `Attention`."""
        return causal_attention(graph, projected, self.shape, index, self.positions)


def causal_attention(
    graph: GraphWriter,
    projected: Projected,
    shape: NetworkShape,
    index: int,
    positions: Positions,
    past: tuple[str, str] | None = None,
    present: tuple[str, str] | None = None,
) -> str:
    """Grouped-query attention of layer `index`, [batch, queries, heads * head_size].

    The rotary tables are in the graph already. `past` names keys, rotated, and values that stand before all others,
    float32 [batch, kv_heads, tokens, head_size]; `present` are the names for both with the tokens given behind them.
    Rows are padded on the right, so what is causal attends to no padding.
    """
    name, layer = f"layers.{index}.self_attn", shape.layers[index]
    asked = positions.last if projected.of_last else positions.first
    query = _rotate(graph, projected.query, asked, f"{name}/query")
    key = _rotate(graph, projected.key, positions.first, f"{name}/key")
    mask = positions.valid if projected.of_last else ""
    graph.nodes_of(
        "Attention",
        [query, key, projected.value, mask, *(past or ())],
        [f"{name}/out", *((present or (f"{name}/keys", f"{name}/values")) if past else ())],
        q_num_heads=layer.attention_heads,
        kv_num_heads=layer.key_value_heads,
        is_causal=0 if projected.of_last else 1,
    )
    return f"{name}/out"


def _rotate(graph: GraphWriter, x: str, positions: str, output: str) -> str:
    inputs = [x, positions, "rotary.cos", "rotary.sin"]
    return graph.node("RotaryEmbedding", inputs, output, domain=CONTRIB, interleaved=1)


def valid_tokens(graph: GraphWriter, mask: str = "attention_mask") -> str:
    """bool [batch, 1, 1, tokens] of a `mask`, int64 [batch, tokens]."""
    axes = graph.constant("axes.heads", np.array([1, 2], np.int64))
    return graph.node("Unsqueeze", [graph.node("Cast", [mask], "mask", to=TensorProto.BOOL), axes], "valid_tokens")


def label_head(source: GraphSource, form: WeightFormat, graph: GraphWriter, attention: Attention, last: str) -> None:
    """From `input_ids` through the decoder to `logits`, read at each row's token `last` [batch, 1]."""
    embedded = form.lookup(graph, "input_ids", EMBEDDINGS, source.weights[f"body.{EMBEDDINGS}"])
    state = DecoderLayers(source, form, graph, attention).build(embedded, last)
    product = form.matmul(graph, state, "head.weight", source.weights["head.weight"].T)
    graph.node("Add", [product, graph.weight("head.bias", source.weights["head.bias"])], "logits")


def save_classifier(graph: GraphWriter, source: GraphSource, folder: Path) -> GraphFiles:
    """Write a graph that has a classifier's inputs and output."""
    labels = source.weights["head.bias"].shape[0]
    return graph.save(
        folder,
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels])],
    )
