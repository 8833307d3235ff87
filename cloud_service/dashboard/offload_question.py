"""What the Offload page asks of the store, and what it is told. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cloud_service.dashboard.offload_address import Dimension, Filter
from cloud_service.dashboard.offload_statistics import Share
from cloud_service.dashboard.ranges import Axis
from cloud_service.fleet.tally import NOTHING, Tally
from shared.types import LabelCounts


@dataclass(frozen=True)
class OffloadQuestion:
    """At most `top` values of the dimension, and those in `named` whatever their rank."""

    by: Dimension
    axis: Axis
    filter: Filter = field(default_factory=Filter)
    top: int = 20
    named: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slice:
    """One value of the dimension. `share`: wanted of accepted; for a reason its requests of those received.

    `shares`: the same by the begin of each bucket. `tally`, its latencies all under "all", is None where requests are
    not told apart so far (by reason, by label); `label` is for labels alone.
    """

    value: str
    share: Share
    shares: Mapping[int, Share] = field(default_factory=dict)
    tally: Tally | None = None
    label: LabelCounts | None = None


@dataclass(frozen=True)
class Choices:
    """What can be filtered by, as ever counted."""

    models: tuple[str, ...] = ()
    rings: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()


@dataclass(frozen=True)
class OffloadReading:
    """The answer. `rest` holds the `rest_values` other values together; None where there are none.

    `ranked` is the stretch by which devices were chosen, where it is not the one asked for.
    """

    slices: tuple[Slice, ...] = ()
    rest: Slice | None = None
    rest_values: int = 0
    whole: Slice = field(default_factory=lambda: Slice("", Share(0, 0), tally=NOTHING))
    choices: Choices = field(default_factory=Choices)
    ranked: Axis | None = None
