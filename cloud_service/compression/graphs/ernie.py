"""An ERNIE-4.5 classifier as one ONNX graph: the label head reads each text's last token."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from onnx import TensorProto, helper

from cloud_service.compression.graphs.decoder import (
    EMBEDDINGS,
    Attention,
    DecoderLayers,
    axis_length,
    grouped_query_attention,
    less_one,
    rotary_tables,
    valid_lengths,
)
from cloud_service.compression.graphs.formats import WeightFormat
from cloud_service.compression.graphs.source import GraphSource
from cloud_service.compression.graphs.writer import GraphFiles, GraphWriter
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
    attention_lengths(graph, last, axis_length(graph, "input_ids", "sequence_length"))
    rotary_tables(graph, source.shape)
    label_head(source, form, graph, OwnTokens(source.shape), last)
    return save_classifier(graph, source, folder)


@dataclass(frozen=True)
class OwnTokens:
    """Attention over the tokens given, and nothing before them."""

    shape: NetworkShape

    def attend(self, graph: GraphWriter, packed: str, index: int) -> str:
        """See `Attention`."""
        return grouped_query_attention(graph, packed, self.shape, index)


def attention_lengths(graph: GraphWriter, last: str, total: str) -> None:
    """`seqlens_k` and `total_length` as the attention wants them, from positions [batch, 1] and a length [1]."""
    graph.node("Cast", [last], "seqlens_k", to=TensorProto.INT32)
    flat = graph.node("Squeeze", [total], f"{total}/scalar")
    graph.node("Cast", [flat], "total_length", to=TensorProto.INT32)


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
