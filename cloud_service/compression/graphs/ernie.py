"""An ERNIE-4.5 classifier as one ONNX graph of the operators that ONNX Runtime runs best.

Fused RMS norms, grouped-query attention with rotary embedding inside, one product for query, key and
value and one for the feed-forward's gate and up. Of the last layer, only attention runs for all tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from cloud_service.compression.graphs.formats import WeightFormat
from cloud_service.compression.graphs.source import GraphSource
from cloud_service.compression.graphs.writer import CONTRIB, GraphFiles, GraphWriter
from cloud_service.compression.networks.shape import NetworkShape


def write_graph(source: GraphSource, form: WeightFormat, folder: Path) -> GraphFiles:
    """Write the graph and its weights into `folder`.

    Inputs: `input_ids` and `attention_mask`, int64 [batch, sequence], padded on the right, at least one
    token a row, at most `max_length`. Output: `logits`, float32 [batch, labels].

    Raises:
        ExportError: a weight is not finite.
    """
    builder = _Builder(source, form, GraphWriter(f"ernie4_5-classifier-{form.name}"))
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
        self._lengths()
        self._rotary_tables()
        residual = self.form.lookup(
            self.graph, "input_ids", "embed_tokens.weight", self.source.weights["body.embed_tokens.weight"]
        )
        normed = self._norm(residual, "layers.0.input_layernorm")
        for index in range(len(self.shape.layers)):
            attended = self._attention(normed, index)
            if index == len(self.shape.layers) - 1:
                attended, residual = self._last_token(attended, "attended"), self._last_token(residual, "residual")
            attended = self._project(attended, f"layers.{index}.self_attn.o_proj")
            normed, residual = self._skip_norm(attended, residual, f"layers.{index}.post_attention_layernorm")
            output = self._feed_forward(normed, index)
            normed, residual = self._skip_norm(output, residual, self._norm_after(index))
        self._head(normed)

    def _norm_after(self, index: int) -> str:
        return "norm" if index == len(self.shape.layers) - 1 else f"layers.{index + 1}.input_layernorm"

    def _lengths(self) -> None:
        """`last`: each row's last valid position; `seqlens_k` and `total_length` as the attention wants them."""
        axes = self.graph.constant("axes.sequence", np.array([1], np.int64))
        one = self.graph.constant("one", np.array([1], np.int64))
        valid = self.graph.node("ReduceSum", ["attention_mask", axes], "valid", keepdims=1)
        self.graph.node("Sub", [valid, one], "last")
        self.graph.node("Cast", ["last"], "seqlens_k", to=TensorProto.INT32)
        length = self.graph.node("Shape", ["input_ids"], "sequence_length", start=1, end=2)
        flat = self.graph.node("Squeeze", [length], "sequence_length/scalar")
        self.graph.node("Cast", [flat], "total_length", to=TensorProto.INT32)

    def _rotary_tables(self) -> None:
        """Cosines and sines, float32 [max_length, head_size / 2], as `Ernie4_5RotaryEmbedding` has them."""
        angles = np.outer(np.arange(self.shape.max_length, dtype=np.float32), inverse_frequencies(self.shape))
        self.graph.weight("rotary.cos", np.cos(angles))
        self.graph.weight("rotary.sin", np.sin(angles))

    def _attention(self, x: str, index: int) -> str:
        name = f"layers.{index}.self_attn"
        parts = [self.source.weights[f"body.{name}.{part}_proj.weight"] for part in "qkv"]
        packed = self.form.matmul(self.graph, x, f"{name}.qkv_proj.weight", np.concatenate(parts).T)
        self.graph.nodes_of(
            "GroupQueryAttention",
            [packed, "", "", "", "", "seqlens_k", "total_length", "rotary.cos", "rotary.sin"],
            [f"{name}/out", f"{name}/keys", f"{name}/values"],
            domain=CONTRIB,
            num_heads=self.shape.layers[index].attention_heads,
            kv_num_heads=self.shape.layers[index].key_value_heads,
            do_rotary=1,
            rotary_interleaved=1,
        )
        return f"{name}/out"

    def _feed_forward(self, x: str, index: int) -> str:
        name = f"layers.{index}.mlp"
        parts = [self.source.weights[f"body.{name}.{part}_proj.weight"] for part in ("gate", "up")]
        both = self.form.matmul(self.graph, x, f"{name}.gate_up_proj.weight", np.concatenate(parts).T)
        self.graph.nodes_of("Split", [both], [f"{name}/gate", f"{name}/up"], axis=-1, num_outputs=2)
        # QuickGelu with alpha 1 is SiLU.
        gate = self.graph.node("QuickGelu", [f"{name}/gate"], f"{name}/silu", domain=CONTRIB, alpha=1.0)
        product = self.graph.node("Mul", [gate, f"{name}/up"], f"{name}/gated")
        return self._project(product, f"{name}.down_proj")

    def _project(self, x: str, name: str) -> str:
        return self.form.matmul(self.graph, x, f"{name}.weight", self.source.weights[f"body.{name}.weight"].T)

    def _last_token(self, x: str, name: str) -> str:
        """[batch, sequence, width] to [batch, width]."""
        return self.graph.node("GatherND", [x, "last"], f"{name}/last", batch_dims=1)

    def _norm(self, x: str, name: str) -> str:
        scale = self._norm_scale(name)
        return self.graph.node(
            "SimplifiedLayerNormalization", [x, scale], f"{name}/out", axis=-1, epsilon=self.shape.norm_epsilon
        )

    def _skip_norm(self, x: str, residual: str, name: str) -> tuple[str, str]:
        """The normalised sum, and the sum itself."""
        outputs = [f"{name}/out", "", "", f"{name}/sum"]
        self.graph.nodes_of(
            "SkipSimplifiedLayerNormalization",
            [x, residual, self._norm_scale(name)],
            outputs if name != "norm" else outputs[:1],
            domain=CONTRIB,
            epsilon=self.shape.norm_epsilon,
        )
        return outputs[0], outputs[3]

    def _norm_scale(self, name: str) -> str:
        return self.graph.weight(f"{name}.weight", self.source.weights[f"body.{name}.weight"])

    def _head(self, x: str) -> None:
        product = self.form.matmul(self.graph, x, "head.weight", self.source.weights["head.weight"].T)
        bias = self.graph.weight("head.bias", self.source.weights["head.bias"])
        self.graph.node("Add", [product, bias], "logits")


def inverse_frequencies(shape: NetworkShape) -> NDArray[np.float32]:
    """The rotary embedding's angle per position, float32 [head_size / 2], rounded as transformers rounds it."""
    exponents = torch.arange(0, shape.head_size, 2, dtype=torch.int64).to(torch.float) / shape.head_size
    return cast("NDArray[np.float32]", (1.0 / (shape.rope_theta**exponents)).numpy())
