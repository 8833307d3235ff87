"""Which parts stay, for a given cost: the least important per cost saved leave first, wherever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from cloud_service.compression.costs import FLOAT32_BYTES, network_cost
from cloud_service.compression.networks.shape import LayerShape, NetworkShape
from cloud_service.compression.pruning.allotment import CHANNEL_MULTIPLE
from cloud_service.compression.pruning.ranking import LayerRanking, Ranking
from cloud_service.compression.pruning.surgery import KeptLayer, KeptParts, all_parts

Cost = Callable[[NetworkShape], float]


@dataclass(frozen=True)
class Target:
    """A cost that a network of some shape has, the most it may be, and its unit for messages."""

    cost: Cost
    limit: float
    unit: str


@dataclass(frozen=True)
class Floors:
    """What never leaves. The first and the last layer stay always, and a head of every group that stays."""

    layers: int = 2
    channels: int = CHANNEL_MULTIPLE
    channel_multiple: int = CHANNEL_MULTIPLE  # as many leave at once
    whole_groups: bool = False  # whether key/value groups that query heads share may leave whole


@dataclass(frozen=True)
class Allotment:
    """What stays, what it costs, whether that is within the target, and a sentence about it."""

    kept: KeptParts
    shape: NetworkShape
    cost: float
    met: bool
    reason: str


@dataclass(frozen=True)
class _Removal:
    """A layer with less in it, or None without it, and how much it loses for what it saves."""

    position: int
    left: KeptLayer | None
    price: tuple[int, float]


def multiply_accumulates_target(shape: NetworkShape, ratio: float, label_count: int, tokens: int) -> Target:
    """At most `ratio` of the arithmetic that `shape` does for one text of `tokens` tokens."""

    def cost(candidate: NetworkShape) -> float:
        return network_cost(candidate, label_count, tokens).multiply_accumulates

    return Target(cost, ratio * cost(shape), "multiply-accumulates")


def bytes_target(limit_bytes: float, label_count: int, bytes_per_weight: float = FLOAT32_BYTES) -> Target:
    """Weights of at most `limit_bytes`."""

    def cost(candidate: NetworkShape) -> float:
        return network_cost(candidate, label_count, tokens=1).weight_bytes(bytes_per_weight)

    return Target(cost, limit_bytes, "bytes")


def latency_target(limit_ms: float, latency_ms: Cost) -> Target:
    """At most `limit_ms` by the caller's own measure or table."""
    return Target(latency_ms, limit_ms, "ms")


def allot(ranking: Ranking, shape: NetworkShape, target: Target, floors: Floors | None = None) -> Allotment:
    """Remove the part with the least importance per cost saved, across the whole network, until the target is met.

    Layers come out uneven. Where the target cannot be met, the smallest network allowed, and the reason.
    What a part saves is measured again when its layer changes, or when a layer leaves.
    """
    search = _Search(ranking, shape, target, floors or Floors())
    while search.cost > target.limit and search.step():
        pass
    met = search.cost <= target.limit
    amounts = f"{search.cost:,.6g} {target.unit}, the target {target.limit:,.6g}"
    reason = f"it costs {amounts}" if met else f"the smallest network allowed costs {amounts}"
    return Allotment(search.kept, search.kept.shape(shape), search.cost, met, reason)


class _Search:
    """The network as it shrinks, and for each of its layers what could leave next."""

    def __init__(self, ranking: Ranking, shape: NetworkShape, target: Target, floors: Floors) -> None:
        self.kept = all_parts(shape)
        self.cost = target.cost(shape)
        self._ranking = ranking
        self._shape = shape
        self._target = target
        self._floors = floors
        self._removals = [self._removals_at(position) for position in range(len(shape.layers))]

    def step(self) -> bool:
        """Let the cheapest removal happen; False where nothing may leave any more."""
        candidates = [removal for removals in self._removals for removal in removals]
        if not candidates:
            return False
        chosen = min(candidates, key=lambda removal: removal.price)
        self.kept = _replaced(self.kept, chosen.position, chosen.left)
        self.cost = self._target.cost(self.kept.shape(self._shape))
        if chosen.left is None:
            self._removals = [self._removals_at(position) for position in range(len(self.kept.layers))]
        else:
            self._removals[chosen.position] = self._removals_at(chosen.position)
        return True

    def _removals_at(self, position: int) -> list[_Removal]:
        kept = self.kept.layers[position]
        ranking, layer = self._ranking.layers[kept.source], self._shape.layers[kept.source]
        before = _importance(ranking, layer, kept)
        removals = []
        for left in self._smaller(kept, position):
            lost = before - (_importance(ranking, layer, left) if left else 0.0)
            saved = self.cost - self._target.cost(_replaced(self.kept, position, left).shape(self._shape))
            # What saves nothing by itself may be a step towards something that does: it is the last resort.
            price = (0, lost / saved) if saved > 0 else (1, lost)
            removals.append(_Removal(position, left, price))
        return removals

    def _smaller(self, kept: KeptLayer, position: int) -> Iterator[KeptLayer | None]:
        ranking, layer = self._ranking.layers[kept.source], self._shape.layers[kept.source]
        heads = _fewer_heads(kept, ranking, layer, self._floors.whole_groups)
        yield from (replace(kept, heads=fewer) for fewer in heads)
        channels = _fewer_channels(kept, ranking, self._floors)
        if channels:
            yield replace(kept, channels=channels)
        count = len(self.kept.layers)
        if 0 < position < count - 1 and count > self._floors.layers:
            yield None


def _replaced(kept: KeptParts, position: int, left: KeptLayer | None) -> KeptParts:
    middle = (left,) if left else ()
    return KeptParts((*kept.layers[:position], *middle, *kept.layers[position + 1 :]))


def _importance(ranking: LayerRanking, layer: LayerShape, kept: KeptLayer) -> float:
    """Of the parts that stay: their heads, channels, and keys and values that heads share."""
    per_group = layer.attention_heads // layer.key_value_heads
    shared = ranking.groups - ranking.heads.reshape(-1, per_group).sum(axis=1)
    heads = ranking.heads[list(kept.heads)].sum() + shared[list(kept.groups(layer))].sum()
    return float(heads + ranking.channels[list(kept.channels)].sum())


def _fewer_heads(
    kept: KeptLayer, ranking: LayerRanking, layer: LayerShape, whole_groups: bool
) -> Iterator[tuple[int, ...]]:
    """Without each group's least important head; without the least important group."""
    per_group = layer.attention_heads // layer.key_value_heads
    groups = kept.groups(layer)
    by_group = [[head for head in kept.heads if head // per_group == group] for group in groups]
    if len(by_group[0]) > 1:
        weakest = {min(heads, key=lambda head: ranking.heads[head]) for heads in by_group}
        yield tuple(head for head in kept.heads if head not in weakest)
    if len(groups) > 1 and (whole_groups or per_group == 1):
        sums = [float(ranking.heads[heads].sum()) for heads in by_group]
        leaving = by_group[int(np.argmin(sums))]
        yield tuple(head for head in kept.heads if head not in leaving)


def _fewer_channels(kept: KeptLayer, ranking: LayerRanking, floors: Floors) -> tuple[int, ...]:
    """Without the least important, down to the next multiple; nothing where the floor forbids it."""
    left = (len(kept.channels) - 1) // floors.channel_multiple * floors.channel_multiple
    if left < max(floors.channels, 1):
        return ()
    channels = np.array(kept.channels)
    strongest = np.argsort(-ranking.channels[channels], kind="stable")[:left]
    return tuple(int(channel) for channel in np.sort(channels[strongest]))
