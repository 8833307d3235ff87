"""Which weights of a layer belong to its heads and channels, by their canonical names, for each family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from cloud_service.compression.networks.shape import Family


@dataclass(frozen=True)
class LayerLayout:
    """Names within a layer: matrices are [out, in], so a part owns rows where it is made, columns where it is read."""

    prefix: str  # a layer's names begin with this, its number and a dot
    query_rows: tuple[str, ...]
    group_rows: tuple[str, ...]  # keys and values
    head_columns: str
    channel_rows: tuple[str, ...]
    channel_columns: str


LAYOUTS = {
    Family.ERNIE: LayerLayout(
        prefix="body.layers.",
        query_rows=("self_attn.q_proj.weight",),
        group_rows=("self_attn.k_proj.weight", "self_attn.v_proj.weight"),
        head_columns="self_attn.o_proj.weight",
        channel_rows=("mlp.gate_proj.weight", "mlp.up_proj.weight"),
        channel_columns="mlp.down_proj.weight",
    ),
    Family.BERT: LayerLayout(
        prefix="body.encoder.layer.",
        query_rows=("attention.self.query.weight", "attention.self.query.bias"),
        group_rows=(
            "attention.self.key.weight",
            "attention.self.key.bias",
            "attention.self.value.weight",
            "attention.self.value.bias",
        ),
        head_columns="attention.output.dense.weight",
        channel_rows=("intermediate.dense.weight", "intermediate.dense.bias"),
        channel_columns="output.dense.weight",
    ),
}


def layer_tensors(tensors: Mapping[str, Tensor], layout: LayerLayout, index: int) -> dict[str, Tensor]:
    """Layer `index`'s tensors under their names within the layer."""
    prefix = f"{layout.prefix}{index}."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
