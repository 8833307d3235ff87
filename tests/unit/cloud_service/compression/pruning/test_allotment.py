"""Ratios become counts that every kernel can run, and the most important parts fill them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_service.compression.errors import CompressionError
from cloud_service.compression.networks.shape import LayerShape, NetworkShape
from cloud_service.compression.pruning.allotment import (
    KeepRatios,
    LayerChoice,
    allot_by_ratios,
    choose_layers,
)
from cloud_service.compression.pruning.ranking import Criterion, LayerRanking, Ranking, rank_at_random

SOME = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def kept_shape(shape: NetworkShape, ratios: KeepRatios) -> NetworkShape:
    return allot_by_ratios(rank_at_random(shape, seed=0), shape, ratios).shape(shape)


def layers_of_importance(*importance: float) -> Ranking:
    one = np.ones(1)
    return Ranking(Criterion.TAYLOR, tuple(LayerRanking(one, one, one * value) for value in importance))


def test_two_thirds_of_twelve_heads_are_eight(bert: NetworkShape) -> None:
    shape = bert.with_layers((LayerShape(12, 12, 64),))
    assert kept_shape(shape, KeepRatios(heads=0.67)).layers == (LayerShape(8, 8, 64),)


def test_two_thirds_of_sixteen_heads_in_two_groups_are_ten(ernie: NetworkShape) -> None:
    shape = ernie.with_layers((LayerShape(16, 2, 64),))
    assert kept_shape(shape, KeepRatios(heads=0.67)).layers == (LayerShape(10, 2, 64),)


def test_whole_groups_leave_when_asked(ernie: NetworkShape) -> None:
    assert kept_shape(ernie, KeepRatios(groups=0.5)).layers == (LayerShape(4, 2, 24),) * 3


def test_channels_come_in_whole_runs(ernie: NetworkShape) -> None:
    shape = ernie.with_layers((LayerShape(8, 4, 100), LayerShape(8, 4, 24)))
    sizes = [layer.ffn_size for layer in kept_shape(shape, KeepRatios(ffn=0.5, channel_multiple=16)).layers]
    assert sizes == [48, 16]
    assert kept_shape(shape, KeepRatios()).layers == shape.layers


@SOME
@given(heads=st.floats(0, 1.2), ffn=st.floats(0, 1.2), groups=st.floats(0, 1.2), layers=st.integers(1, 3))
def test_any_ratios_give_a_network_that_can_be_built(
    shape: NetworkShape, heads: float, ffn: float, groups: float, layers: int
) -> None:
    ratios = KeepRatios(heads, ffn, groups, layers, LayerChoice.IMPORTANCE, channel_multiple=16)
    smaller = kept_shape(shape, ratios)
    assert len(smaller.layers) == layers
    for layer, before in zip(smaller.layers, shape.layers, strict=False):
        assert 1 <= layer.key_value_heads <= before.key_value_heads
        assert 1 <= layer.attention_heads <= before.attention_heads
        assert layer.attention_heads % layer.key_value_heads == 0
        assert 1 <= layer.ffn_size <= before.ffn_size


@SOME
@given(seed=st.integers(0, 1000))
def test_nothing_that_leaves_mattered_more_than_what_stays_beside_it(ernie: NetworkShape, seed: int) -> None:
    ranking = rank_at_random(ernie, seed)
    kept = allot_by_ratios(ranking, ernie, KeepRatios(heads=0.5, ffn=0.5, channel_multiple=4))
    for part in kept.layers:
        ranked = ranking.layers[part.source]
        left_out = sorted(set(range(24)) - set(part.channels))
        assert ranked.channels[list(part.channels)].min() >= ranked.channels[left_out].max()
        for group in ranked.heads.reshape(4, 2):
            assert group.max() in ranked.heads[list(part.heads)]


@pytest.mark.parametrize(("count", "expected"), [(1, [3]), (2, [0, 3]), (3, [0, 2, 3]), (4, [0, 1, 2, 3])])
def test_layers_are_spread_evenly_with_the_first_and_the_last(count: int, expected: list[int]) -> None:
    assert choose_layers(layers_of_importance(1, 1, 1, 1), count, LayerChoice.EVEN) == expected


def test_the_most_important_layers_stay_between_the_first_and_the_last() -> None:
    ranking = layers_of_importance(0, 5, 2, 9, 1)
    assert choose_layers(ranking, 4, LayerChoice.IMPORTANCE) == [0, 1, 3, 4]
    assert choose_layers(ranking, 1, LayerChoice.IMPORTANCE) == [4]


@pytest.mark.parametrize("count", [0, 4])
def test_layers_that_are_not_there_cannot_be_kept(ernie: NetworkShape, count: int) -> None:
    with pytest.raises(CompressionError, match="layers cannot be kept of 3"):
        kept_shape(ernie, KeepRatios(layers=count))
