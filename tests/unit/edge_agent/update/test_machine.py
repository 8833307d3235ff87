from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_agent.update import machine
from edge_agent.update.decision import (
    FEWEST_SPLIT_REQUESTS,
    Blocked,
    Fetch,
    Stay,
    Take,
    Wait,
    decide,
    fault_of_split,
    judge_trial,
)
from edge_agent.update.machine import (
    FACTORY,
    MOST_DEATHS_IN_TRIAL,
    MOST_DEATHS_LOADING,
    MOST_FAILED_STARTS,
    MOST_FAILURES,
    Installed,
    Life,
    Target,
    UpdateState,
    idle_slot,
)
from shared.update.assignment import Trial
from shared.update.report import ErrorKind, InstalledRelease, Phase, TrialFigures

FETCHED = (Phase.FETCHING, Phase.VERIFYING)
TO_TRIAL = (Phase.LOADING, Phase.PROVING, Phase.TRIAL)


def target(
    number: int, *, sequence: int = 1, shadow_share: float = 0.0, variant: str = "", key_share: float = 0.0
) -> Target:
    content = (f"{number}.0.0", f"manifest-{number}", "gate", number)
    return Target(*content, variant, shadow_share, "rollout", sequence, 0, Trial(), key_share)


def installed(number: int, *, is_proven: bool = False) -> Installed:
    return Installed(InstalledRelease(f"{number}.0.0", "model", "gate", number), f"manifest-{number}", is_proven)


def at(phase: Phase, number: int = 2) -> UpdateState:
    """A device that runs release 1 from slot a, with release `number` in `phase` on its way into b."""
    state = UpdateState("tiny", active="a", slots={"a": installed(1, is_proven=True)}, life=Life.READY)
    state = machine.begun(state, target(number), "b", Phase.FETCHING)
    if phase is Phase.FETCHING:
        return state
    state = machine.moved(state, Phase.VERIFYING)
    if phase is Phase.VERIFYING:
        return state
    state = machine.staged(state, installed(number))
    for step in (Phase.LOADING, Phase.PROVING, Phase.SHADOW, Phase.TRIAL):
        if state.phase is phase:
            return state
        state = machine.moved(state, step)
    return state


def split(number: int = 2) -> UpdateState:
    """As `at`, while both releases answer, each its share."""
    return machine.moved(at(Phase.PROVING, number), Phase.SPLIT)


def died(state: UpdateState, times: int) -> UpdateState:
    """So many lives that become ready and die in the same phase again."""
    for _ in range(times):
        phase = state.phase
        state = machine.ready(machine.started(state))
        if state.phase is Phase.STAGED and phase is not Phase.STAGED:
            state = machine.moved(machine.begun(state, target(2), "b", Phase.STAGED), Phase.LOADING)
        if state.phase is Phase.LOADING and phase is Phase.SPLIT:
            state = machine.moved(state, Phase.SPLIT)
    return state


def test_a_committed_release_is_active_proven_and_raises_the_floor() -> None:
    state = machine.begun(UpdateState("tiny"), replace(target(2), floor=2), "a", Phase.FETCHING)
    state = machine.staged(machine.moved(state, Phase.VERIFYING), installed(2))
    for phase in TO_TRIAL:
        state = machine.moved(state, phase)
    state = machine.committed(state, installed(2))
    assert (state.active, state.phase, state.floor, state.candidate) == ("a", Phase.COMMITTED, 2, None)
    assert state.slots["a"].is_proven


@pytest.mark.parametrize("phase", [Phase.IDLE, Phase.FETCHING, Phase.STAGED, Phase.LOADING, Phase.SHADOW])
def test_no_step_is_left_out(phase: Phase) -> None:
    state = UpdateState("tiny") if phase is Phase.IDLE else at(phase)
    with pytest.raises(ValueError, match="no step leads"):
        machine.moved(state, Phase.COMMITTED)


@pytest.mark.parametrize("phase", [*FETCHED, Phase.STAGED, *TO_TRIAL, Phase.SHADOW])
def test_from_every_phase_the_way_back_leads_to_what_was_committed(phase: Phase) -> None:
    state = machine.rolled_back(at(phase), ErrorKind.TRIAL, "too slow")
    assert (state.running_slot, state.phase, state.error) == ("a", Phase.ROLLED_BACK, "too slow")
    assert state.failure_of(target(2)) is not None
    assert state.failure_of(target(2, sequence=2)) is None
    assert state.failure_of(target(3)) is None


def test_only_in_a_trial_the_candidate_is_started() -> None:
    assert at(Phase.PROVING).running_slot == "a"
    assert at(Phase.TRIAL).running_slot == "b"


def test_a_trial_that_does_not_become_ready_at_a_start_is_rolled_back_at_the_next() -> None:
    state = machine.started(at(Phase.TRIAL))
    assert state.running_slot == "b"
    state = machine.started(state)
    assert (state.running_slot, state.error_kind) == ("a", ErrorKind.TRIAL)


def test_a_trial_that_kills_the_agent_again_and_again_is_rolled_back() -> None:
    assert died(at(Phase.TRIAL), MOST_DEATHS_IN_TRIAL - 1).running_slot == "b"
    state = died(at(Phase.TRIAL), MOST_DEATHS_IN_TRIAL)
    assert (state.running_slot, state.phase) == ("a", Phase.ROLLED_BACK)


def test_a_bundle_that_kills_the_agent_while_it_loads_is_not_loaded_for_ever() -> None:
    assert died(at(Phase.LOADING), MOST_DEATHS_LOADING - 1).failures == ()
    state = died(at(Phase.LOADING), MOST_DEATHS_LOADING)
    assert (state.phase, state.error_kind) == (Phase.ROLLED_BACK, ErrorKind.PROVING)
    assert state.failure_of(target(2)) is not None


def test_while_requests_are_split_a_death_leads_back_to_what_was_committed_and_many_end_the_split() -> None:
    assert machine.started(split()).running_slot == "a"
    assert machine.started(split()).phase is Phase.STAGED
    few = died(split(), MOST_DEATHS_IN_TRIAL - 1)
    assert (few.phase, few.running_slot, few.failures) == (Phase.SPLIT, "a", ())
    state = died(split(), MOST_DEATHS_IN_TRIAL)
    assert (state.phase, state.running_slot, state.error_kind) == (Phase.ROLLED_BACK, "a", ErrorKind.TRIAL)
    assert state.failure_of(target(2)) is not None


def test_deaths_are_forgotten_once_the_release_has_answered_its_share_long_enough() -> None:
    state = split()
    for _ in range(5):
        state = machine.survived(died(state, MOST_DEATHS_IN_TRIAL - 1))
    assert (state.phase, state.failures) == (Phase.SPLIT, ())
    assert machine.survived(UpdateState("tiny")) == UpdateState("tiny")


def test_a_stop_in_good_order_while_it_loads_again_is_held_against_nobody_whatever_was_before() -> None:
    state = machine.stopped(died(split(), MOST_DEATHS_IN_TRIAL - 1))
    for _ in range(3):
        state = machine.begun(machine.ready(machine.started(state)), target(2), "b", Phase.STAGED)
        state = machine.stopped(machine.moved(state, Phase.LOADING))
    assert (state.phase, state.failures) == (Phase.LOADING, ())


def test_what_answers_its_share_well_goes_on_to_its_trial_and_from_the_shadow_to_its_share() -> None:
    state = machine.committed(machine.moved(split(), Phase.TRIAL), installed(2))
    assert (state.active, state.phase) == ("b", Phase.COMMITTED)
    assert machine.moved(at(Phase.SHADOW), Phase.SPLIT).running_slot == "a"
    assert machine.rolled_back(split(), ErrorKind.TRIAL, "too slow").running_slot == "a"
    with pytest.raises(ValueError, match="no step leads"):
        machine.moved(split(), Phase.COMMITTED)


def test_what_was_committed_once_answers_beside_without_proof() -> None:
    for phase in (Phase.SHADOW, Phase.SPLIT):
        assert machine.moved(at(Phase.LOADING), phase).phase is phase


def test_another_share_or_rollout_asks_for_another_split() -> None:
    asked = target(2, key_share=0.5)
    assert asked.asks_the_same(target(2, key_share=0.5, sequence=9))
    assert not asked.asks_the_same(target(2, key_share=0.4))
    assert not asked.asks_the_same(replace(asked, rollout="another"))
    assert not asked.asks_the_same(target(2))
    assert target(2).asks_the_same(replace(target(2), rollout="another"))


def test_a_stop_in_good_order_is_held_against_nobody() -> None:
    state = machine.stopped(at(Phase.TRIAL))
    for _ in range(10):
        state = machine.stopped(machine.ready(machine.started(state)))
    assert (state.running_slot, state.candidate.deaths if state.candidate else None) == ("b", 0)


def test_a_committed_slot_that_never_becomes_ready_is_given_up_for_the_one_before() -> None:
    slots = {"a": installed(1, is_proven=True), "b": installed(2, is_proven=True)}
    state = machine.started(UpdateState("tiny", active="b", slots=slots))
    for _ in range(MOST_FAILED_STARTS - 1):
        state = machine.started(state)
        assert state.running_slot == "b"
    state = machine.started(state)
    assert (state.running_slot, state.crashes) == ("a", MOST_FAILED_STARTS)
    for _ in range(MOST_FAILED_STARTS):
        state = machine.started(state)
    assert state.running_slot == FACTORY


def test_a_damaged_slot_is_given_up_at_once_and_may_be_fetched_again() -> None:
    state = UpdateState("tiny", active="a", slots={"a": installed(2, is_proven=True)})
    state = machine.could_not_start(machine.started(state), "a chunk is damaged")
    assert state.running_slot == FACTORY
    assert "a chunk is damaged" in state.error
    assert decide(state, {FACTORY: installed(1)}, target(2), 0, 0.0) == Fetch(target(2), "a")


def test_the_active_slot_is_never_emptied_nor_fetched_into() -> None:
    state = at(Phase.TRIAL)
    for slot in ("a", "b", FACTORY):
        with pytest.raises(ValueError, match="in use"):
            machine.emptied(state, slot)
    assert idle_slot(UpdateState("tiny", active="b")) == "a"
    both = {"a": installed(3, is_proven=True), "b": installed(2)}
    assert idle_slot(UpdateState("tiny", slots=both)) == "b"


def test_so_many_failures_are_remembered_and_a_second_try_is_counted() -> None:
    state = UpdateState("tiny")
    for number in range(2, 2 + 2 * MOST_FAILURES):
        state = machine.rolled_back(machine.begun(state, target(number), "b", Phase.FETCHING), ErrorKind.TRIAL, "slow")
    assert len(state.failures) == MOST_FAILURES
    again = target(1 + 2 * MOST_FAILURES, sequence=2)
    state = machine.rolled_back(machine.begun(state, again, "b", Phase.FETCHING), ErrorKind.TRIAL, "slow")
    failure = state.failure_of(again)
    assert failure is not None
    assert failure.attempts == 2


def test_what_runs_already_is_left_alone_and_what_lies_in_a_slot_is_taken_from_there() -> None:
    state = UpdateState("tiny", active="b")
    places = {
        FACTORY: installed(0, is_proven=True),
        "a": installed(1, is_proven=True),
        "b": installed(2),
        "x": installed(9),
    }
    assert decide(state, places, None, 0, 0.0) == Stay()
    assert decide(state, places, target(2), 0, 0.0) == Stay()
    assert decide(state, places, target(1), 0, 0.0) == Take(target(1), "a", True)
    assert decide(state, places, target(0), 0, 0.0) == Take(target(0), FACTORY, True)
    assert decide(state, places, target(3), 0, 0.0) == Fetch(target(3), "a")
    assert decide(state, places, target(2, variant="B"), 0, 0.0) == Take(target(2, variant="B"), "b", False)
    assert decide(state, places, target(2, variant="B", key_share=0.5), 0, 0.0) == Stay()


def test_what_is_for_later_waits_and_what_failed_is_blocked_under_the_same_decision() -> None:
    state = machine.rolled_back(at(Phase.PROVING), ErrorKind.PROVING, "wrong answers")
    places = {"a": installed(1, is_proven=True), "b": installed(2)}
    assert decide(state, places, target(3), 100, 99.0) == Wait(100)
    assert decide(state, places, target(3), 100, 100.0) == Fetch(target(3), "b")
    blocked = decide(state, places, target(2), 0, 0.0)
    assert isinstance(blocked, Blocked)
    assert blocked.failure.reason == "wrong answers"
    assert decide(state, places, target(2, sequence=2), 0, 0.0) == Take(target(2, sequence=2), "b", False)


def test_a_trial_ends_with_enough_requests_and_time_or_its_longest() -> None:
    trial = Trial(requests=50, seconds=30.0, longest_s=600.0)
    enough, few = TrialFigures(requests=50), TrialFigures(requests=1)
    assert not judge_trial(enough, trial, 29.0).is_over
    assert not judge_trial(few, trial, 599.0).is_over
    assert judge_trial(enough, trial, 30.0).is_over
    assert judge_trial(few, trial, 600.0).is_over
    assert judge_trial(TrialFigures(), trial, 600.0).fault == ""


def test_a_trial_ends_at_once_where_requests_fail_but_not_for_the_first_alone() -> None:
    trial = Trial()
    assert not judge_trial(TrialFigures(requests=1, failed=1), trial, 1.0).is_over
    assert "failed" in judge_trial(TrialFigures(requests=10, failed=1), trial, 1.0).fault
    slow = TrialFigures(requests=10, latency_ms=20.0, old_latency_ms=10.0)
    assert "20.0 ms" in judge_trial(slow, trial, 1.0).fault


def test_a_split_is_ended_by_what_a_trial_is_ended_by_but_not_by_the_first_requests_and_audits() -> None:
    trial = Trial()
    assert fault_of_split(TrialFigures(requests=9, failed=9), trial) == ""
    assert "6 of 10" in fault_of_split(TrialFigures(requests=10, failed=6), trial)
    assert fault_of_split(TrialFigures(requests=199, failed=99, offload=1.0), trial) == ""
    assert fault_of_split(TrialFigures(requests=200, failed=4), trial) == ""
    assert "failed" in fault_of_split(TrialFigures(requests=200, failed=5), trial)
    assert fault_of_split(TrialFigures(requests=200, failed=5, old_failed=0.02), trial) == ""
    assert fault_of_split(TrialFigures(requests=10**6, compared=199), trial) == ""
    assert "disagree" in fault_of_split(TrialFigures(requests=10**6, compared=200, agreed=1), trial)


def ends_by_chance(seed: int) -> bool:
    """Whether a split of two equal releases is ended by what is seen of 3,000 requests of each, every ten of them."""
    draws = np.random.default_rng(seed)
    shares = np.array([[0.003, 0.2, 0.1]])  # of failures, of offload, of disagreement
    new, old = (np.cumsum(draws.random((3000, 3)) < shares, axis=0) for _ in range(2))
    for place in range(9, 3000, 10):
        requests, knows_old = place + 1, place + 1 >= FEWEST_SPLIT_REQUESTS
        failed, wanted, disagreed = map(int, new[place])
        offload = wanted / requests
        figures = TrialFigures(
            requests=requests,
            failed=failed,
            offload=offload,
            old_offload=int(old[place, 1]) / requests if knows_old else offload,
            compared=requests,
            agreed=requests - disagreed,
            old_failed=int(old[place, 0]) / requests if knows_old else 0.0,
        )
        if fault_of_split(figures, Trial()):
            return True
    return False


def test_of_splits_of_equal_releases_hardly_any_is_ended_by_chance() -> None:
    assert sum(map(ends_by_chance, range(200))) <= 4
