"""Which matrices make up one product: those of the same input, which share its precision and its range."""

from __future__ import annotations

_PRODUCT_OF = {
    "q_proj": "qkv_proj",
    "k_proj": "qkv_proj",
    "v_proj": "qkv_proj",
    "gate_proj": "gate_up_proj",
    "up_proj": "gate_up_proj",
    "query": "qkv",
    "key": "qkv",
    "value": "qkv",
}


def product_of(matrix: str) -> str:
    """The product that `matrix`, named as its graph names it, belongs to; most are one by themselves.

    They are written one by one, since cutting their common result into parts takes longer than computing them apart.
    """
    place, _, rest = matrix.rpartition(".")
    above, _, part = place.rpartition(".")
    return f"{above}.{_PRODUCT_OF[part]}.{rest}" if part in _PRODUCT_OF else matrix
