"""Which texts of a batch to run together, so that little is computed for padding. Rules alone."""

from __future__ import annotations

from collections.abc import Sequence


def runs_of_like_length(lengths: Sequence[int], tokens_a_run: float) -> list[list[int]]:
    """Part a batch into runs, each padded to its longest text, so that all together cost least.

    A run costs its size times its longest text, and `tokens_a_run` besides: what starting it costs, counted in
    tokens. Returns the texts' places in `lengths`, a list a run. Optimal among all partitions, since the best runs
    hold neighbours in order of length (dynamic programming, quadratic in the batch's size).
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    cheapest, begins = [0.0], [0]
    for end in range(1, len(order) + 1):
        longest = lengths[order[end - 1]]
        cost, begin = min((cheapest[begin] + (end - begin) * longest, begin) for begin in range(end))
        cheapest.append(cost + tokens_a_run)
        begins.append(begin)
    runs: list[list[int]] = []
    end = len(order)
    while end:
        runs.insert(0, order[begins[end] : end])
        end = begins[end]
    return runs
