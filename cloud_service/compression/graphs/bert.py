"""A BERT encoder as one ONNX graph of the operators that ONNX Runtime runs best.

Fused skip and layer norms and bias GELU, one product for query, key and value, attention with a key mask.
Positions and the first token type are one table. Where the pooler reads the first token, the last layer
attends, and computes what follows, for that token alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from cloud_service.compression.errors import ExportError
from cloud_service.compression.graphs.formats import WeightFormat
from cloud_service.compression.graphs.source import GraphSource
from cloud_service.compression.graphs.writer import CONTRIB, GraphFiles, GraphWriter
from cloud_service.compression.networks.shape import Family, Pooling

POOLINGS = (Pooling.MEAN, Pooling.POOLER)


def write_bert_graph(source: GraphSource, form: WeightFormat, folder: Path) -> GraphFiles:
    """Write the graph and its weights into `folder`.

    `source.weights` has transformers' names: `body.embeddings...`, `body.encoder.layer.N...`, `head.weight`,
    `head.bias` and, for `Pooling.POOLER`, `body.pooler.dense...`; matrices are [out, in]. A layer's query,
    key and value may be narrower than the network, by whole heads.

    Inputs: `input_ids` and `attention_mask`, int64 [batch, sequence], at least one token a row, at most
    `max_length`. Output: `logits`, float32 [batch, labels].

    Raises:
        ExportError: not a BERT encoder, or a weight is not finite.
    """
    if source.shape.family is not Family.BERT or source.shape.pooling not in POOLINGS:
        raise ExportError(f"no BERT encoder: {source.shape.family.value}, {source.shape.pooling.value}")
    builder = _Builder(source, form, GraphWriter(f"bert-classifier-{form.name}"))
    builder.build()
    tokens = ("input_ids", "attention_mask")
    labels = source.weights["head.bias"].shape[0]
    return builder.graph.save(
        folder,
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in tokens],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels])],
    )


class _Builder:
    """The graph from top to bottom; a method adds one part and returns its output's name."""

    def __init__(self, source: GraphSource, form: WeightFormat, graph: GraphWriter) -> None:
        self.source = source
        self.shape = source.shape
        self.form = form
        self.graph = graph

    def build(self) -> None:
        self.graph.node("Cast", ["attention_mask"], "key_mask", to=TensorProto.INT32)
        hidden = self._embeddings()
        for index in range(len(self.shape.layers)):
            first_token = self.shape.pooling is Pooling.POOLER and index == len(self.shape.layers) - 1
            hidden = self._layer(hidden, index, first_token)
        self._head(self._pooler(hidden) if self.shape.pooling is Pooling.POOLER else self._mean(hidden))

    def _embeddings(self) -> str:
        name = "embeddings.word_embeddings.weight"
        words = self.form.lookup(self.graph, "input_ids", name, self._array(name))
        # Every token is of type 0, so its row joins the positions'.
        types = self._array("embeddings.token_type_embeddings.weight")[:1]
        table = self._array("embeddings.position_embeddings.weight")[: self.shape.max_length] + types
        start = self.graph.constant("positions.start", np.array([0], np.int64))
        length = self.graph.node("Shape", ["input_ids"], "sequence_length", start=1, end=2)
        rows = self.graph.node("Slice", [self.graph.weight("embeddings.positions", table), start, length], "positions")
        # Of the skip, the operator takes one sequence for the whole batch.
        axes = self.graph.constant("axes.first", np.array([0], np.int64))
        skip = self.graph.node("Unsqueeze", [rows, axes], "positions/rows")
        return self._skip_norm(words, skip, "embeddings.LayerNorm")

    def _layer(self, hidden: str, index: int, first_token: bool) -> str:
        name = f"encoder.layer.{index}"
        attended = self._attention(hidden, index, first_token)
        residual = self._first_token(hidden, name) if first_token else hidden
        attended = self._product(attended, f"{name}.attention.output.dense")
        bias = self._weight(f"{name}.attention.output.dense.bias")
        attended = self._skip_norm(attended, residual, f"{name}.attention.output.LayerNorm", bias)
        wide = self._product(attended, f"{name}.intermediate.dense")
        wide_bias = self._weight(f"{name}.intermediate.dense.bias")
        wide = self.graph.node("BiasGelu", [wide, wide_bias], f"{name}.intermediate/out", domain=CONTRIB)
        narrow = self._product(wide, f"{name}.output.dense")
        return self._skip_norm(narrow, attended, f"{name}.output.LayerNorm", self._weight(f"{name}.output.dense.bias"))

    def _attention(self, hidden: str, index: int, first_token: bool) -> str:
        """Of all tokens, or of the first alone: [batch, sequence or 1, heads · head_size]."""
        name = f"encoder.layer.{index}.attention.self"
        asking = self._first_token(hidden, f"{name}/query") if first_token else hidden
        query = self._product(asking, f"{name}.query")
        key, value = (self._product(hidden, f"{name}.{part}") for part in ("key", "value"))
        bias = np.concatenate([self._array(f"{name}.{part}.bias") for part in ("query", "key", "value")])
        return self.graph.node(
            "MultiHeadAttention",
            [query, key, value, self.graph.weight(f"{name}.qkv.bias", bias), "key_mask"],
            f"{name}/out",
            domain=CONTRIB,
            num_heads=self.shape.layers[index].attention_heads,
        )

    def _first_token(self, x: str, name: str) -> str:
        """[batch, sequence, width] to [batch, 1, width]."""
        first = self.graph.constant("token.first", np.array([0], np.int64))
        return self.graph.node("Gather", [x, first], f"{name}/first", axis=1)

    def _pooler(self, hidden: str) -> str:
        """[batch, 1, hidden] to [batch, hidden]."""
        axes = self.graph.constant("axes.sequence", np.array([1], np.int64))
        flat = self.graph.node("Squeeze", [hidden, axes], "pooler/token")
        product = self._product(flat, "pooler.dense")
        biased = self.graph.node("Add", [product, self._weight("pooler.dense.bias")], "pooler/biased")
        return self.graph.node("Tanh", [biased], "pooler/out")

    def _mean(self, hidden: str) -> str:
        """[batch, sequence, hidden] to its mean over valid tokens, [batch, hidden], as one small product."""
        axes = self.graph.constant("axes.sequence", np.array([1], np.int64))
        mask = self.graph.node("Cast", ["attention_mask"], "mean/mask", to=TensorProto.FLOAT)
        count = self.graph.node("ReduceSum", [mask, axes], "mean/count", keepdims=1)
        shares = self.graph.node("Div", [mask, count], "mean/shares")
        row = self.graph.node("Unsqueeze", [shares, axes], "mean/row")
        return self.graph.node("Squeeze", [self.graph.node("MatMul", [row, hidden], "mean/sum"), axes], "mean/out")

    def _head(self, pooled: str) -> None:
        product = self.form.matmul(self.graph, pooled, "head.weight", self.source.weights["head.weight"].T)
        bias = self.graph.weight("head.bias", self.source.weights["head.bias"])
        self.graph.node("Add", [product, bias], "logits")

    def _product(self, x: str, name: str) -> str:
        return self.form.matmul(self.graph, x, f"{name}.weight", self._array(f"{name}.weight").T)

    def _skip_norm(self, x: str, residual: str, name: str, bias: str = "") -> str:
        scale, shift = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        inputs = [x, residual, scale, shift, *([bias] if bias else [])]
        epsilon = self.shape.norm_epsilon
        return self.graph.node("SkipLayerNormalization", inputs, f"{name}/out", domain=CONTRIB, epsilon=epsilon)

    def _weight(self, name: str) -> str:
        return self.graph.weight(name, self._array(name))

    def _array(self, name: str) -> NDArray[np.float32]:
        return self.source.weights[f"body.{name}"]
