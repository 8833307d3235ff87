"""Whether what ships keeps the target that pruning only forecast."""

from __future__ import annotations

from collections.abc import Sequence

from cloud_service.compression.assessment.fresh_process import LengthLatency
from cloud_service.compression.config import TargetConfig


def over_target(
    target: TargetConfig, weights_bytes: int, latencies: Sequence[LengthLatency], tokens: float
) -> str | None:
    """By what the shipped edge model exceeds `target`, in a sentence; None where it does not.

    `latencies`: of the shipped graph on this machine; `tokens`: of the typical text that the target is for.
    """
    if target.bytes is not None and weights_bytes > target.bytes:
        return f"the weights that ship have {weights_bytes} bytes; prune.target.bytes allows {target.bytes}"
    if target.latency_ms is None or not latencies:
        return None
    latency_ms = latency_at(latencies, tokens)
    if latency_ms <= target.latency_ms:
        return None
    return (
        f"the edge model as shipped takes about {latency_ms:.3g} ms for {tokens:g} tokens on this machine; "
        f"prune.target.latency_ms allows {target.latency_ms:g}"
    )


def latency_at(latencies: Sequence[LengthLatency], tokens: float) -> float:
    """Milliseconds of a text of `tokens`, on the line through the two measured lengths nearest to it."""
    near = sorted(latencies, key=lambda each: abs(each.tokens - tokens))[:2]
    if len(near) == 1 or near[0].tokens == near[1].tokens:
        return near[0].median_ms
    slope = (near[1].median_ms - near[0].median_ms) / (near[1].tokens - near[0].tokens)
    return max(0.0, near[0].median_ms + slope * (tokens - near[0].tokens))
