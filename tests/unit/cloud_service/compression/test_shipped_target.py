"""A target that pruning only forecast is held against what ships."""

from __future__ import annotations

import pytest

from cloud_service.compression.assessment.fresh_process import LengthLatency
from cloud_service.compression.config import TargetConfig
from cloud_service.compression.shipped_target import latency_at, over_target

LATENCIES = (LengthLatency(16, 2.0, 2.2, None), LengthLatency(32, 4.0, 4.4, None))


@pytest.mark.parametrize(
    "target",
    [TargetConfig(bytes=5000), TargetConfig(latency_ms=3.0), TargetConfig(multiply_accumulates_ratio=0.5)],
    ids=["bytes", "latency", "multiply-accumulates are exact"],
)
def test_a_target_that_is_kept_is_not_mentioned(target: TargetConfig) -> None:
    assert over_target(target, 5000, LATENCIES, 24) is None


def test_more_bytes_than_the_target_are_told_with_both_numbers() -> None:
    said = over_target(TargetConfig(bytes=5000), 5001, LATENCIES, 24)
    assert said == "the weights that ship have 5001 bytes; prune.target.bytes allows 5000"


def test_a_longer_time_than_the_target_is_told_with_both_numbers() -> None:
    said = over_target(TargetConfig(latency_ms=2.5), 1, LATENCIES, 24)
    assert said is not None
    assert "about 3 ms for 24 tokens on this machine; prune.target.latency_ms allows 2.5" in said


def test_where_no_time_was_measured_none_is_claimed() -> None:
    assert over_target(TargetConfig(latency_ms=2.5), 1, (), 24) is None


@pytest.mark.parametrize(("tokens", "latency_ms"), [(16, 2.0), (24, 3.0), (8, 1.0), (40, 5.0)])
def test_a_length_that_was_not_measured_lies_on_the_line_through_those_that_were(
    tokens: float, latency_ms: float
) -> None:
    assert latency_at(LATENCIES, tokens) == pytest.approx(latency_ms)
    assert latency_at(LATENCIES[:1], tokens) == 2.0
