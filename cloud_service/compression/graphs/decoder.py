"""ERNIE-4.5's decoder layers as graph nodes: what classifying and generating have in common.

Fused RMS norms, grouped-query attention, rotary embedding. What attention sees of earlier tokens is the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from cloud_service.compression.graphs.formats import Matrix, WeightFormat
from cloud_service.compression.graphs.source import GraphSource
from cloud_service.compression.graphs.writer import CONTRIB, GraphWriter
from cloud_service.compression.networks.shape import NetworkShape

EMBEDDINGS = "embed_tokens.weight"


@dataclass(frozen=True)
class Projected:
    """One layer's query, key and value, float32 [batch, sequence, heads or kv heads * head_size], not yet rotated.

    Without names of key and value, `query` is all three, one behind the other. `of_last`: the query is each row's
    last token's alone, [batch, 1, heads * head_size].
    """

    query: str
    key: str = ""
    value: str = ""
    of_last: bool = False


class Attention(Protocol):
    """Attention of one kind: over the tokens given alone, after a cache, or after a constant prefix."""

    @property
    def takes_last_query(self) -> bool:
        """Whether a query may be of the last token alone."""
        ...

    @property
    def takes_packed(self) -> bool:
        """Whether query, key and value come as one, the product of one matrix."""
        ...

    def attend(self, graph: GraphWriter, projected: Projected, index: int) -> str:
        """What layer `index` attends to, float32 [batch, queries, heads * head_size]."""
        ...


@dataclass(frozen=True)
class DecoderLayers:
    """All layers and the final norm, from embedded tokens to states."""

    source: GraphSource
    form: WeightFormat
    graph: GraphWriter
    attention: Attention

    def build(self, embedded: str, last: str | None) -> str:
        """Normalised states, [batch, sequence, hidden].

        Where `last` names an index, int64 [batch, 1], only each row's state there: [batch, hidden]; of the
        last layer, keys and values alone are then computed for all tokens, where the attention allows it.
        """
        residual = embedded
        normed = self._norm(residual, "layers.0.input_layernorm")
        for index in range(self._count):
            if last and index == self._count - 1:
                attended = self._last_attention(normed, index, last)
                residual = pick_token(self.graph, residual, last, "residual")
            else:
                attended = self._attention(normed, normed, index)
            attended = self._project(attended, f"layers.{index}.self_attn.o_proj")
            normed, residual = self._skip_norm(attended, residual, f"layers.{index}.post_attention_layernorm")
            output = self._feed_forward(normed, index)
            normed, residual = self._skip_norm(output, residual, self._norm_after(index))
        return normed

    @property
    def _count(self) -> int:
        return len(self.source.shape.layers)

    def _norm_after(self, index: int) -> str:
        return "norm" if index == self._count - 1 else f"layers.{index + 1}.input_layernorm"

    def _attention(self, asking: str, x: str, index: int) -> str:
        """Queries of the states `asking`, over keys and values of the states `x`."""
        name = f"layers.{index}.self_attn"
        if self.attention.takes_packed:
            packed = np.concatenate([self._matrix(f"{name}.{part}_proj") for part in "qkv"], axis=1)
            product = self.form.matmul(self.graph, x, f"{name}.qkv_proj.weight", packed)
            return self.attention.attend(self.graph, Projected(product), index)
        query = self._project(asking, f"{name}.q_proj")
        key, value = (self._project(x, f"{name}.{part}_proj") for part in "kv")
        return self.attention.attend(self.graph, Projected(query, key, value, asking != x), index)

    def _last_attention(self, x: str, index: int, last: str) -> str:
        """What each row's last token attends to, [batch, heads * head_size]."""
        if not self.attention.takes_last_query:
            return pick_token(self.graph, self._attention(x, x, index), last, "attended")
        axes = self.graph.constant("axes.sequence", np.array([1], np.int64))
        asking = self.graph.node("Unsqueeze", [pick_token(self.graph, x, last, "asking"), axes], "asking")
        return self.graph.node("Squeeze", [self._attention(asking, x, index), axes], "attended/last")

    def _feed_forward(self, x: str, index: int) -> str:
        name = f"layers.{index}.mlp"
        gate, up = (self._project(x, f"{name}.{part}_proj") for part in ("gate", "up"))
        # QuickGelu with alpha 1 is SiLU.
        activated = self.graph.node("QuickGelu", [gate], f"{name}/silu", domain=CONTRIB, alpha=1.0)
        return self._project(self.graph.node("Mul", [activated, up], f"{name}/gated"), f"{name}.down_proj")

    def _project(self, x: str, name: str) -> str:
        return self.form.matmul(self.graph, x, f"{name}.weight", self._matrix(name))

    def _matrix(self, name: str) -> Matrix:
        """Float32 [inputs, outputs]."""
        return self.source.weights[f"body.{name}.weight"].T

    def _norm(self, x: str, name: str) -> str:
        inputs, epsilon = [x, self._norm_scale(name)], self.source.shape.norm_epsilon
        return self.graph.node("SimplifiedLayerNormalization", inputs, f"{name}/out", axis=-1, epsilon=epsilon)

    def _skip_norm(self, x: str, residual: str, name: str) -> tuple[str, str]:
        """The normalised sum, and the sum itself."""
        outputs = [f"{name}/out", "", "", f"{name}/sum"]
        self.graph.nodes_of(
            "SkipSimplifiedLayerNormalization",
            [x, residual, self._norm_scale(name)],
            outputs if name != "norm" else outputs[:1],
            domain=CONTRIB,
            epsilon=self.source.shape.norm_epsilon,
        )
        return outputs[0], outputs[3]

    def _norm_scale(self, name: str) -> str:
        return self.graph.weight(f"{name}.weight", self.source.weights[f"body.{name}.weight"])


def valid_lengths(graph: GraphWriter) -> str:
    """Each row's valid tokens in `attention_mask`, int64 [batch, 1]."""
    axes = graph.constant("axes.sequence", np.array([1], np.int64))
    return graph.node("ReduceSum", ["attention_mask", axes], "valid", keepdims=1)


def less_one(graph: GraphWriter, x: str, output: str) -> str:
    """`x` - 1, int64."""
    return graph.node("Sub", [x, graph.constant("one", np.array([1], np.int64))], output)


def axis_length(graph: GraphWriter, x: str, output: str) -> str:
    """The length of the second axis of `x`, int64 [1]."""
    return graph.node("Shape", [x], output, start=1, end=2)


def pick_token(graph: GraphWriter, x: str, index: str, name: str) -> str:
    """[batch, sequence, width] to [batch, width], at `index` [batch, 1]."""
    return graph.node("GatherND", [x, index], f"{name}/last", batch_dims=1)


def rotary_tables(graph: GraphWriter, shape: NetworkShape) -> None:
    """Cosines and sines, float32 [max_length, head_size / 2], as `Ernie4_5RotaryEmbedding` has them."""
    angles = np.outer(np.arange(shape.max_length, dtype=np.float32), inverse_frequencies(shape))
    graph.weight("rotary.cos", np.cos(angles))
    graph.weight("rotary.sin", np.sin(angles))


def inverse_frequencies(shape: NetworkShape) -> NDArray[np.float32]:
    """The rotary embedding's angle per position, float32 [head_size / 2], rounded as transformers rounds it."""
    exponents = torch.arange(0, shape.head_size, 2, dtype=torch.int64).to(torch.float) / shape.head_size
    return cast("NDArray[np.float32]", (1.0 / (shape.rope_theta**exponents)).numpy())
