from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.budget import OffloadBudget


def test_without_a_cap_nothing_is_ever_over_it() -> None:
    budget = OffloadBudget(None)
    for _ in range(1000):
        budget.accepted()
        budget.escalated()
    assert not budget.is_over


def test_a_burst_is_let_go_and_what_follows_is_held_to_the_cap() -> None:
    budget = OffloadBudget(0.1)
    let_go = 0
    for _ in range(1000):
        budget.accepted()
        if not budget.is_over:
            budget.escalated()
            let_go += 1
    assert 100 <= let_go <= 120


def test_a_spell_that_could_not_be_loosened_is_soon_forgotten() -> None:
    budget = OffloadBudget(0.5)
    for _ in range(1000):
        budget.accepted()
        budget.escalated()
    assert budget.is_over
    for _ in range(44):
        budget.accepted()
    assert not budget.is_over


@given(st.floats(0.0, 1.0), st.lists(st.booleans(), max_size=400))
def test_over_any_stretch_at_most_the_cap_and_one_burst_are_let_go(cap: float, wanted: list[bool]) -> None:
    budget = OffloadBudget(cap)
    let_go: list[int] = []
    for wants in wanted:
        budget.accepted()
        let_go.append(int(wants and not budget.is_over))
        if let_go[-1]:
            budget.escalated()
    for start in range(0, len(let_go), 37):
        stretch = let_go[start:]
        assert sum(stretch) <= cap * len(stretch) + 20.0 + 1e-6
