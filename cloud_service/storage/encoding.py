"""Tallies as columns and back: counters as they are, the rest as compact JSON."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json, to_json
from sqlalchemy import RowMapping

from cloud_service.fleet.tally import COUNTER_NAMES, SparseHistogram, Tally, counter_values
from shared.types import RequestCounters

Row = dict[str, Any]
"""Column names to values, as the database driver takes them."""


def encode_tally(tally: Tally) -> Row:
    """The columns of a tally. `latency`: outcome to [sum in ms, buckets, counts of these buckets]."""
    latency = {
        outcome: (each.sum_ms, list(each.counts), list(each.counts.values())) for outcome, each in tally.latency.items()
    }
    row: Row = dict(zip(COUNTER_NAMES, counter_values(tally.counters), strict=True))
    row["latency"] = to_json(latency).decode()
    row["reasons"] = to_json(tally.reasons).decode()
    return row


def decode_tally(row: RowMapping) -> Tally:
    """The tally in a row."""
    latency = {
        outcome: SparseHistogram(dict(zip(buckets, counts, strict=True)), sum_ms)
        for outcome, (sum_ms, buckets, counts) in from_json(row["latency"]).items()
    }
    return Tally(RequestCounters(*(row[name] for name in COUNTER_NAMES)), latency, from_json(row["reasons"]))
