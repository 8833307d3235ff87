"""A tuning run that is killed goes on where it stopped."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from cloud_service.compression.errors import CheckpointError
from cloud_service.compression.tuning.goal import Goal, Objective, Outcome
from cloud_service.compression.tuning.journal import Journal
from cloud_service.compression.tuning.search import tune
from cloud_service.compression.tuning.space import Plan
from cloud_service.compression.tuning.trials import Budget
from tests.support.fake_clock import FakeClock
from tests.unit.cloud_service.compression.tuning.landscapes import simple

GOAL = Goal(Objective.LATENCY, tolerance_points=0.3)


def test_a_killed_run_runs_no_trial_again_and_ends_as_if_never_killed(tmp_path: Path) -> None:
    undisturbed, killed, resumed = simple(), simple(), simple()
    expected = tune(undisturbed.space, GOAL, Budget(), undisturbed, FakeClock())

    def evaluate(plan: Plan) -> Outcome:
        if len(killed.calls) == 20:
            raise KeyboardInterrupt
        return killed(plan)

    with Journal(tmp_path / "journal", "net 1") as journal, pytest.raises(KeyboardInterrupt):
        tune(killed.space, GOAL, Budget(), evaluate, FakeClock(), record=journal)
    with Journal(tmp_path / "journal", "net 1") as journal:
        result = tune(resumed.space, GOAL, Budget(), resumed, FakeClock(), record=journal)
    assert not set(killed.calls) & set(resumed.calls)
    assert killed.calls + resumed.calls == undisturbed.calls
    assert (result.best.plan, result.met) == (expected.best.plan, expected.met)
    assert result.trials == expected.trials


def test_failures_are_not_tried_again_either(tmp_path: Path) -> None:
    landscape = simple()
    landscape.fails = lambda key: ("layers.0", "int4") in key
    for _ in range(2):
        with Journal(tmp_path / "journal", "net") as journal:
            tune(landscape.space, GOAL, Budget(), landscape, FakeClock(), record=journal)
    assert len(set(landscape.calls)) == len(landscape.calls)


def test_trials_of_a_run_with_another_goal_count_in_the_choice(tmp_path: Path) -> None:
    landscape = simple()
    with Journal(tmp_path / "journal", "net") as journal:
        first = tune(landscape.space, GOAL, Budget(), landscape, FakeClock(), record=journal)
        strict = Goal(Objective.LATENCY, tolerance_points=0.2)
        again = tune(landscape.space, strict, Budget(trials=3), landscape, FakeClock(), record=journal)
    assert len(again.trials) >= len(first.trials) and again.met


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    file, landscape = tmp_path / "journal", simple()
    with Journal(file, "net") as journal:
        tune(landscape.space, GOAL, Budget(trials=5), landscape, FakeClock(), record=journal)
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    with Journal(file, "net") as journal:
        assert len(journal.trials()) == 4
        tune(landscape.space, GOAL, Budget(trials=5), landscape, FakeClock(), record=journal)
    assert len(landscape.calls) == 6
    with Journal(file, "net") as journal:
        assert len(journal.trials()) == 5


@pytest.mark.parametrize("cut", range(0, 120, 7))
def test_a_cut_anywhere_leaves_a_journal_that_opens(tmp_path: Path, cut: int) -> None:
    file, landscape = tmp_path / "journal", simple()
    with Journal(file, "net") as journal:
        tune(landscape.space, GOAL, Budget(trials=2), landscape, FakeClock(), record=journal)
    file.write_bytes(file.read_bytes()[:-cut] if cut else file.read_bytes())
    with Journal(file, "net") as journal:
        assert len(journal.trials()) <= 2


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    Journal(file, "net").__exit__(None, None, None)
    file.write_bytes(file.read_bytes() + b'{"trial": 3}\n')
    with pytest.raises(CheckpointError, match="line 2 is damaged"):
        Journal(file, "net")


def test_a_journal_of_another_network_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path / "journal", "net 1").__exit__(None, None, None)
    with pytest.raises(CheckpointError, match="another network"):
        Journal(tmp_path / "journal", "net 2")


def test_two_runs_cannot_share_a_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", "net"), pytest.raises(CheckpointError, match="another run"):
        Journal(tmp_path / "journal", "net")


def test_a_journal_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be opened"):
        Journal(tmp_path, "net")


def test_a_plan_that_kills_the_process_three_times_is_given_up(tmp_path: Path) -> None:
    program = """
        import os, sys
        from pathlib import Path
        from cloud_service.compression.tuning.goal import Goal, Objective
        from cloud_service.compression.tuning.journal import Journal
        from cloud_service.compression.tuning.search import tune
        from cloud_service.compression.tuning.trials import Budget
        from shared.clock import SystemClock
        from tests.unit.cloud_service.compression.tuning.landscapes import simple

        landscape = simple(2)
        def evaluate(plan):
            if plan == {"layers.0": "int4", "layers.1": "int4"}:
                os.kill(os.getpid(), 9)
            return landscape(plan)

        with Journal(Path(sys.argv[1]), "net") as journal:
            goal = Goal(Objective.LATENCY, 0.25)
            result = tune(landscape.space, goal, Budget(), evaluate, SystemClock(), record=journal)
        print(result.met, next(trial.failure for trial in result.trials if trial.outcome is None))
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "journal")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[5])}
    runs = [subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60) for _ in range(4)]
    assert [run.returncode for run in runs] == [-9, -9, -9, 0], runs[-1].stderr
    assert runs[-1].stdout.strip() == "True the process ended during this trial 3 times"


def test_a_plan_that_a_person_interrupts_again_and_again_is_not_given_up(tmp_path: Path) -> None:
    landscape = simple(2)

    def interrupted(plan: Plan) -> Outcome:
        raise KeyboardInterrupt

    for _ in range(4):
        with pytest.raises(KeyboardInterrupt), Journal(tmp_path / "journal", "net") as journal:
            tune(landscape.space, GOAL, Budget(), interrupted, FakeClock(), record=journal)
    with Journal(tmp_path / "journal", "net") as journal:
        assert not journal.trials()


def test_a_full_disk_is_no_failure_of_the_plan_that_met_it(tmp_path: Path) -> None:
    landscape = simple(2)

    def without_room(plan: Plan) -> Outcome:
        raise OSError(errno.ENOSPC, "No space left on device")

    for _ in range(4):
        with pytest.raises(OSError, match="No space left"), Journal(tmp_path / "journal", "net") as journal:
            tune(landscape.space, GOAL, Budget(), without_room, FakeClock(), record=journal)
    with Journal(tmp_path / "journal", "net") as journal:
        result = tune(landscape.space, GOAL, Budget(), landscape, FakeClock(), record=journal)
    assert result.met and all(trial.outcome is not None for trial in result.trials)
