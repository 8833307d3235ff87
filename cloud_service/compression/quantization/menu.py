"""The precisions that compression tries on a whole network, and how each is built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cloud_service.compression.errors import ExportError
from cloud_service.compression.graphs.source import GraphSource
from cloud_service.compression.graphs.writer import GraphFiles
from cloud_service.compression.quantization.network import write_network
from cloud_service.compression.quantization.plan import (
    PlannedWeights,
    Precision,
    PrecisionPlan,
    Scheme,
    product_names,
    uniform,
)
from cloud_service.compression.quantization.smoothing import ALPHA, smooth
from cloud_service.compression.quantization.statistics import COVERAGE, ActivationStatistics
from shared.documents import Document

INT8_BLOCK_SIZES = (32, 64, 128)
INT4_BLOCK_SIZES = (16, 32, 64, 128)


@dataclass(frozen=True)
class Choice(Document):
    """One way to write a network.

    `smoothing`: how much of the activations' spread moves into the weights first (0 to 1), or None.
    `coverage`: the share of an activation's values that a fixed range represents, where the plan has such.
    """

    plan: PrecisionPlan
    smoothing: float | None = None
    coverage: float = COVERAGE

    @property
    def name(self) -> str:
        """As reports show it: `int8-static-smoothed`."""
        return self.plan.name if self.smoothing is None else f"{self.plan.name}-smoothed"

    @property
    def is_unchanged(self) -> bool:
        """Whether it writes the network in FP32 as it is."""
        return self.smoothing is None and self.plan.precisions() == {Precision(Scheme.FP32)}


def menu() -> tuple[Choice, ...]:
    """Every uniform choice, the most exact first."""
    dynamic, static = uniform(Precision(Scheme.INT8_DYNAMIC)), uniform(Precision(Scheme.INT8_STATIC))
    return (
        Choice(uniform(Precision(Scheme.FP32))),
        Choice(uniform(Precision(Scheme.FP16))),
        *(Choice(uniform(Precision(Scheme.INT8_BLOCKS, size))) for size in INT8_BLOCK_SIZES),
        Choice(dynamic),
        Choice(dynamic, smoothing=ALPHA),
        Choice(static),
        Choice(static, smoothing=ALPHA),
        *(Choice(uniform(Precision(Scheme.INT4_BLOCKS, size))) for size in INT4_BLOCK_SIZES),
    )


def build(source: GraphSource, choice: Choice, statistics: ActivationStatistics | None, folder: Path) -> GraphFiles:
    """Write `source` as `choice` says; `statistics` are of `source` itself, before any smoothing.

    Raises:
        ExportError: the plan names a product that the network has not, statistics are needed and there are
            none, or the graph cannot be written.
    """
    unknown = set(choice.plan.exceptions) - set(product_names(source.shape))
    if unknown:
        raise ExportError(f"{choice.name}: no product is named {', '.join(sorted(unknown))}")
    static = any(precision.scheme is Scheme.INT8_STATIC for precision in choice.plan.precisions())
    if statistics is None and (static or choice.smoothing is not None):
        raise ExportError(f"{choice.name}: needs the statistics of calibration texts")
    if statistics is not None and choice.smoothing is not None:
        source, statistics = smooth(source, statistics, choice.smoothing)
    ranges = statistics.ranges(choice.coverage) if statistics is not None and static else {}
    return write_network(source, PlannedWeights(choice.plan, ranges), folder)
