"""Sections of the report on which precision was chosen: menu, sensitivity, tuning, choice."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_service.compression.assessment.statistics import PairedDifference
from cloud_service.compression.report.making import Part, PartShare
from shared.documents import Document

Plan = dict[str, str]
"""By the layer's name: its precision."""


@dataclass(frozen=True)
class Variant(Document):
    """One way to write the model down, and what it came to; `failure` says why figures are missing.

    Latency: median of one text of the report's typical length, milliseconds. `is_on_front`: no other is at
    least as good in accuracy, bytes and latency and better in one.
    """

    name: str
    accuracy: PartShare | None = None
    file_bytes: int | None = None
    latency_ms: float | None = None
    peak_memory_bytes: int | None = None
    note: str = ""
    failure: str | None = None
    is_on_front: bool = False


@dataclass(frozen=True)
class Menu(Document):
    """The whole model in each precision there is."""

    rows: tuple[Variant, ...]


@dataclass(frozen=True)
class LayerSensitivity(Document):
    """One layer alone in `precision`, the others as they were.

    `change`: accuracy with it minus without, on the same texts. `divergence_nats`: mean Kullback-Leibler
    divergence of its answers from the untouched model's.
    """

    layer: str
    precision: str
    change: PairedDifference | None = None
    divergence_nats: float | None = None


@dataclass(frozen=True)
class Sensitivity(Document):
    """What each layer loses, on `texts` texts of `part`. `all_layers`: how many there are; None where not told."""

    part: Part
    texts: int
    layers: tuple[LayerSensitivity, ...]
    all_layers: int | None = None

    @property
    def layers_tried(self) -> int:
        """Of how many layers something is told."""
        return len({each.layer for each in self.layers})


@dataclass(frozen=True)
class Trial(Document):
    """One plan that tuning tried, in the order tried."""

    number: int
    plan: Plan
    variant: Variant
    outcome: str = ""


@dataclass(frozen=True)
class FinalTime(Document):
    """Median of one text by the trial called `name`, milliseconds, timed in turns with the other finalists."""

    name: str
    latency_ms: float


@dataclass(frozen=True)
class Tuning(Document):
    """The search for a plan, in words and trial by trial; `finals` are the last comparison, which decided.

    `forecast_for`: the device class that the trials' latencies are forecasts for; None where they were measured
    as the menu's were.
    """

    method: str
    trials: tuple[Trial, ...]
    finals: tuple[FinalTime, ...] = ()
    forecast_for: str | None = None


@dataclass(frozen=True)
class Choice(Document):
    """The variant that was packaged: its name in the menu or the trials, and why.

    `tolerance`: how much accuracy could be given up, as a share. `evidence`: what `is_tolerance_met` rests on.
    """

    name: str
    plan: Plan
    reason: str
    tolerance: float
    is_tolerance_met: bool
    evidence: str = ""
