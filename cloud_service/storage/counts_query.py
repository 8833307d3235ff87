"""Which rows of counts a question is about."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement

from cloud_service.dashboard.offload_address import Filter
from cloud_service.dashboard.ranges import Axis
from cloud_service.storage import tables

_COLUMNS = tables.counts.c


def within(axis: Axis, wanted: Filter, owners: Sequence[str]) -> list[ColumnElement[bool]]:
    """The rows of these devices, or of the whole fleet, in the buckets of `axis`."""
    return [
        _COLUMNS.width_s == axis.width_s,
        _COLUMNS.device_id == owners[0] if len(owners) == 1 else _COLUMNS.device_id.in_(owners),
        _COLUMNS.starts_s >= axis.since_s,
        _COLUMNS.starts_s < axis.until_s,
        *filtered(wanted),
    ]


def filtered(wanted: Filter) -> list[ColumnElement[bool]]:
    """What is counted under these alone."""
    named = (("model", wanted.model), ("ring", wanted.ring), ("model_version", wanted.version),
             ("variant", wanted.variant))  # fmt: skip
    return [_COLUMNS[name] == value for name, value in named if value is not None]
