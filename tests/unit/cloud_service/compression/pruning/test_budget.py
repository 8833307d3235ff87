"""A target is met with what matters least for its cost, wherever in the network that is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_service.compression.costs import network_cost
from cloud_service.compression.networks.shape import LayerShape, NetworkShape
from cloud_service.compression.pruning.budget import (
    Allotment,
    Floors,
    allot,
    bytes_target,
    latency_target,
    multiply_accumulates_target,
)
from cloud_service.compression.pruning.ranking import Ranking, rank_at_random

FLOORS = Floors(channels=4, channel_multiple=4)
SOME = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def half_of_the_arithmetic(shape: NetworkShape, ranking: Ranking) -> Allotment:
    return allot(ranking, shape, multiply_accumulates_target(shape, 0.5, 5, 16), FLOORS)


@SOME
@given(seed=st.integers(0, 1000), ratio=st.floats(0.4, 1.0))
def test_a_target_within_reach_is_met_and_not_by_far(shape: NetworkShape, seed: int, ratio: float) -> None:
    target = multiply_accumulates_target(shape, ratio, 5, 16)
    result = allot(rank_at_random(shape, seed), shape, target, FLOORS)
    assert result.met and result.cost <= target.limit
    assert result.cost == network_cost(result.shape, 5, 16).multiply_accumulates
    assert result.cost > 0.5 * target.limit


@SOME
@given(seed=st.integers(0, 1000), limit=st.floats(0, 2e5), whole=st.booleans())
def test_no_layer_ends_without_heads_or_below_the_floor_of_channels(
    shape: NetworkShape, seed: int, limit: float, whole: bool
) -> None:
    result = allot(rank_at_random(shape, seed), shape, bytes_target(limit, 5), replace(FLOORS, whole_groups=whole))
    assert result.met == (result.cost <= limit)
    assert result.kept.layers[0].source == 0 and result.kept.layers[-1].source == 2
    for layer in result.shape.layers:
        assert layer.attention_heads >= layer.key_value_heads >= 1
        assert layer.attention_heads % layer.key_value_heads == 0
        assert layer.ffn_size >= 4 and layer.ffn_size % 4 == 0


def test_the_same_question_has_the_same_answer(shape: NetworkShape) -> None:
    ranking = rank_at_random(shape, seed=1)
    assert half_of_the_arithmetic(shape, ranking) == half_of_the_arithmetic(shape, ranking)


def test_the_layer_that_matters_least_loses_most(shape: NetworkShape) -> None:
    ranking = rank_at_random(shape, seed=1)
    worthless = replace(
        ranking.layers[1],
        heads=ranking.layers[1].heads / 1e6,
        groups=ranking.layers[1].groups / 1e6,
        channels=ranking.layers[1].channels / 1e6,
    )
    ranking = replace(ranking, layers=(ranking.layers[0], worthless, ranking.layers[2]))
    result = allot(ranking, shape, multiply_accumulates_target(shape, 0.9, 5, 16), FLOORS)
    before, after = shape.layers[1], result.shape.layers[1]
    assert result.shape.layers[0] == before and result.shape.layers[2] == before
    assert (after.attention_heads, after.ffn_size) < (before.attention_heads, before.ffn_size)
    assert set(result.kept.layers[1].channels) >= set(np.argsort(-worthless.channels)[:4].tolist())


def test_a_target_out_of_reach_gives_the_smallest_network_and_says_so(ernie: NetworkShape) -> None:
    result = allot(rank_at_random(ernie, seed=0), ernie, bytes_target(10, 5), FLOORS)
    assert not result.met and "smallest network allowed" in result.reason and "bytes" in result.reason
    assert result.shape.layers == (LayerShape(4, 4, 4),) * 2


def test_a_target_already_met_removes_nothing(ernie: NetworkShape) -> None:
    result = allot(rank_at_random(ernie, seed=0), ernie, bytes_target(1e9, 5))
    assert result.met and result.shape == ernie


def test_whole_groups_leave_only_when_allowed(ernie: NetworkShape) -> None:
    ranking, target = rank_at_random(ernie, seed=0), bytes_target(10, 5)
    assert all(layer.key_value_heads == 4 for layer in allot(ranking, ernie, target, FLOORS).shape.layers)
    smallest = allot(ranking, ernie, target, replace(FLOORS, whole_groups=True))
    assert smallest.shape.layers == (LayerShape(1, 1, 4),) * 2


def test_latency_comes_from_the_callers_table_even_where_it_has_steps(shape: NetworkShape) -> None:
    def latency_ms(candidate: NetworkShape) -> float:
        return sum(0.1 + -(-layer.ffn_size // 16) * 0.5 for layer in candidate.layers)

    result = allot(rank_at_random(shape, seed=2), shape, latency_target(2.0, latency_ms), FLOORS)
    assert result.met and result.cost == pytest.approx(latency_ms(result.shape)) and "ms" in result.reason


def test_an_expensive_layer_leaves_whole_where_its_parts_save_nothing(shape: NetworkShape) -> None:
    result = allot(rank_at_random(shape, 0), shape, latency_target(2.0, lambda net: float(len(net.layers))), FLOORS)
    assert result.met and result.shape.layers == shape.layers[:2]
