from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_service.serving.padding import runs_of_like_length

LENGTHS = st.lists(st.integers(1, 64), min_size=1, max_size=7)


def cost_of(lengths: Sequence[int], runs: Sequence[Sequence[int]], tokens_a_run: float) -> float:
    return sum(tokens_a_run + len(run) * max(lengths[place] for place in run) for run in runs)


def partitions(places: Sequence[int]) -> Iterator[list[list[int]]]:
    if not places:
        yield []
        return
    first, rest = places[0], places[1:]
    for size in range(len(rest) + 1):
        for companions in itertools.combinations(rest, size):
            left = [place for place in rest if place not in companions]
            for others in partitions(left):
                yield [[first, *companions], *others]


def test_where_a_run_costs_much_the_batch_stays_whole() -> None:
    assert runs_of_like_length([3, 60, 4], math.inf) == [[0, 2, 1]]


def test_where_a_run_costs_nothing_only_equals_run_together() -> None:
    assert runs_of_like_length([5, 9, 5, 7], 0.0) == [[0, 2], [3], [1]]


def test_short_texts_do_not_pay_for_a_long_one() -> None:
    assert runs_of_like_length([6, 7, 60, 6], 8.0) == [[0, 3, 1], [2]]


def test_one_text_is_one_run() -> None:
    assert runs_of_like_length([12], 8.0) == [[0]]


@given(LENGTHS, st.sampled_from((0.0, 8.0, 100.0, math.inf)))
def test_every_text_is_in_exactly_one_run(lengths: list[int], tokens_a_run: float) -> None:
    runs = runs_of_like_length(lengths, tokens_a_run)
    assert sorted(place for run in runs for place in run) == list(range(len(lengths)))


@pytest.mark.parametrize("tokens_a_run", [1.0, 8.0, 40.0])
@given(lengths=st.lists(st.integers(1, 64), min_size=1, max_size=6))
def test_no_other_partition_costs_less(tokens_a_run: float, lengths: list[int]) -> None:
    chosen = cost_of(lengths, runs_of_like_length(lengths, tokens_a_run), tokens_a_run)
    best = min(cost_of(lengths, runs, tokens_a_run) for runs in partitions(range(len(lengths))))
    assert chosen == pytest.approx(best)
