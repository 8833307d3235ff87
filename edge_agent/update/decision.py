"""What to do about an assignment, and when a trial is over: pure rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from edge_agent.update.machine import FACTORY, SLOT_A, SLOT_B, Failure, Installed, Target, UpdateState, idle_slot
from edge_agent.update.ports import trial_fault
from shared.update.assignment import Trial
from shared.update.report import InstalledRelease, TrialFigures

FEWEST_JUDGED_REQUESTS = 10
"""Of fewer a share or a median says little."""
FEWEST_SPLIT_REQUESTS = 200
"""Of either side, and of audits: who looks again and again, without an end, sees chance alone in fewer."""
_FEWEST_SPLIT_FAILURES = 5


@dataclass(frozen=True)
class Stay:
    """It runs already, or nothing is asked."""


@dataclass(frozen=True)
class Wait:
    """It is for later."""

    until_unix_s: int


@dataclass(frozen=True)
class Blocked:
    """It was tried and failed; only another decision brings another try."""

    failure: Failure


@dataclass(frozen=True)
class Take:
    """It lies whole in `slot`, and is taken from there. One that was committed once needs no proof and no trial."""

    target: Target
    slot: str
    is_proven: bool


@dataclass(frozen=True)
class Fetch:
    """It is to be fetched into `slot`."""

    target: Target
    slot: str


Decision = Stay | Wait | Blocked | Take | Fetch


def decide(
    state: UpdateState,
    places: Mapping[str, Installed],
    target: Target | None,
    not_before_unix_s: int,
    now_unix_s: float,
) -> Decision:
    """What to do about `target`, the newest assignment's. `places` says what lies whole in the slots, factory too."""
    if target is None:
        return Stay()
    running = places.get(state.active)
    if (
        running is not None
        and running.content == target.content
        and (target.is_beside or _is_labelled(running.release, target))
    ):
        return Stay()
    if (failure := state.failure_of(target)) is not None:
        return Blocked(failure)
    if now_unix_s < not_before_unix_s:
        return Wait(not_before_unix_s)
    for slot in (state.active, SLOT_A, SLOT_B, FACTORY):
        place = places.get(slot)
        if place is not None and place.content == target.content:
            return Take(target, slot, place.is_proven)
    return Fetch(target, idle_slot(state))


def _is_labelled(running: InstalledRelease, target: Target) -> bool:
    """Whether it is told under the variant and number that are asked for: a factory's bundle has none at first."""
    return (running.variant, running.release) == (target.variant, target.release)


@dataclass(frozen=True)
class TrialVerdict:
    """Whether a trial is over, and what was wrong; `fault` "" where nothing is."""

    is_over: bool
    fault: str = ""


def judge_trial(figures: TrialFigures, trial: Trial, elapsed_s: float) -> TrialVerdict:
    """Whether to go on watching, to commit or to roll back, `elapsed_s` after the trial's begin."""
    is_out_of_time = elapsed_s >= trial.longest_s
    says_enough = figures.requests >= min(FEWEST_JUDGED_REQUESTS, trial.requests)
    if (says_enough or is_out_of_time) and figures.requests and (fault := trial_fault(figures, trial)):
        return TrialVerdict(True, fault)
    is_enough = figures.requests >= trial.requests and elapsed_s >= trial.seconds
    return TrialVerdict(is_enough or is_out_of_time)


def fault_of_split(figures: TrialFigures, trial: Trial) -> str:
    """What is wrong with a bundle that answers its share of the requests, in plain words; "" where nothing is.

    What is wrong by little is for the A/B test's verdict to say. A bundle that fails more often than not ends it early.
    """
    fails_mostly = figures.requests >= FEWEST_JUDGED_REQUESTS and figures.failed > figures.requests / 2
    if figures.requests < FEWEST_SPLIT_REQUESTS and not fails_mostly:
        return ""
    if figures.failed < _FEWEST_SPLIT_FAILURES:
        figures = replace(figures, failed=0)
    if figures.compared < FEWEST_SPLIT_REQUESTS:
        figures = replace(figures, compared=0, agreed=0)
    return trial_fault(figures, trial)
