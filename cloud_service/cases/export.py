"""Hard cases as tables for the next training. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from cloud_service.cases.grouping import Case

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Header and rows."""


def training_table(cases: Iterable[Case]) -> Table:
    """text,category: what models are trained on. Cases without text are left out."""
    return ("text", "category"), [(each.text, each.right_label) for each in cases if each.text is not None]


def request_table(cases: Iterable[Case]) -> Table:
    """The requests by name, for those who hold the texts elsewhere."""
    header = ("device_id", "request_id", "edge_label", "category")
    return header, [(each.device_id, each.request_id, each.edge_label, each.right_label) for each in cases]
