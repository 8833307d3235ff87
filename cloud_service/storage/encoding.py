"""Tallies as columns and back: counters as they are, the rest as compact JSON."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import RowMapping

from cloud_service.fleet.tally import COUNTER_NAMES, SparseHistogram, Tally, counter_values
from shared.types import RequestCounters

Row = dict[str, Any]
"""Column names to values, as the database driver takes them."""


def encode_tally(tally: Tally) -> Row:
    """The columns of a tally. `latency`: outcome to [sum in ms, {bucket: count}]."""
    latency = {outcome: [round(each.sum_ms, 3), each.counts] for outcome, each in tally.latency.items()}
    row: Row = dict(zip(COUNTER_NAMES, counter_values(tally.counters), strict=True))
    row["latency"] = json.dumps(latency, separators=(",", ":"))
    row["reasons"] = json.dumps(tally.reasons, separators=(",", ":"))
    return row


def decode_tally(row: RowMapping) -> Tally:
    """The tally in a row."""
    latency = {
        outcome: SparseHistogram({int(index): count for index, count in counts.items()}, sum_ms)
        for outcome, (sum_ms, counts) in json.loads(row["latency"]).items()
    }
    return Tally(RequestCounters(*(row[name] for name in COUNTER_NAMES)), latency, json.loads(row["reasons"]))
