"""Trials: a plan built and measured, or what went wrong. Each plan is run once, within a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cloud_service.compression.errors import WriteError
from cloud_service.compression.tuning.goal import Outcome
from cloud_service.compression.tuning.space import Plan, PlanKey, plan_key
from shared.clock import Clock
from shared.documents import Document
from shared.errors import ConfigurationError, TandemError

Evaluate = Callable[[Plan], Outcome]


@dataclass(frozen=True)
class Trial(Document):
    """One plan with its outcome, or None and the text of its failure. It took `seconds`."""

    plan: dict[str, str]
    outcome: Outcome | None
    failure: str = ""
    seconds: float = 0.0

    @property
    def key(self) -> PlanKey:
        """See `plan_key`."""
        return plan_key(self.plan)


@dataclass(frozen=True)
class Budget:
    """When to stop: after so many trials, so many seconds of them, or `patience` trials that improved nothing.

    Trials of an earlier run of the same search count, so that a resumed run ends where it would have ended.
    The first trial is always run.
    """

    trials: int = 300
    seconds: float = 3600.0
    patience: int = 40

    def __post_init__(self) -> None:
        """Raises: ConfigurationError: no trial is allowed."""
        if self.trials < 1:
            raise ConfigurationError(f"budget: {self.trials} trials; at least one is needed")


class Record(Protocol):
    """Where trials are kept beyond this process; `tuning.journal.Journal` is one."""

    def trials(self) -> tuple[Trial, ...]:
        """What earlier runs recorded, in their order."""
        ...

    def begin(self, plan: Plan) -> None:
        """A trial is about to run."""
        ...

    def end(self, trial: Trial) -> None:
        """It ended; on disk when this returns."""
        ...


class BudgetSpent(Exception):
    """No further trial may be run; caught by the search, never by its caller."""


class TrialLog:
    """Runs trials and remembers them."""

    def __init__(
        self,
        evaluate: Evaluate,
        budget: Budget,
        clock: Clock,
        record: Record | None,
        on_trial: Callable[[Trial], None],
    ) -> None:
        self._evaluate, self._budget, self._clock = evaluate, budget, clock
        self._record, self._on_trial = record, on_trial
        self._recorded = {trial.key: trial for trial in record.trials()} if record else {}
        self._asked: dict[PlanKey, Trial] = {}
        self._seconds = 0.0

    @property
    def asked(self) -> tuple[Trial, ...]:
        """What this search has asked for, in its order."""
        return tuple(self._asked.values())

    @property
    def known(self) -> tuple[Trial, ...]:
        """What this search asked for, and what earlier ones recorded beside it."""
        return tuple({**self._asked, **self._recorded}.values())

    def knows(self, plan: Plan) -> bool:
        """Whether this search has asked for `plan` already."""
        return plan_key(plan) in self._asked

    def ask(self, plan: Plan) -> Trial:
        """The trial of `plan`: from memory, from the record, or run now.

        Raises:
            BudgetSpent: it is new, and no further trial is allowed.
            WriteError, OSError: the disk is full or not writable.
        """
        key = plan_key(plan)
        if key in self._asked:
            return self._asked[key]
        if self._asked and (len(self._asked) >= self._budget.trials or self._seconds >= self._budget.seconds):
            raise BudgetSpent
        trial = self._recorded.get(key) or self._run(plan)
        self._asked[key] = trial
        self._seconds += trial.seconds
        self._on_trial(trial)
        return trial

    def _run(self, plan: Plan) -> Trial:
        if self._record:
            self._record.begin(plan)
        began_s = self._clock.monotonic_s()
        outcome, failure = self._attempt(plan)
        trial = Trial(dict(plan), outcome, failure, self._clock.monotonic_s() - began_s)
        if self._record:
            self._record.end(trial)
        return trial

    def _attempt(self, plan: Plan) -> tuple[Outcome | None, str]:
        """A trial is a border: whatever a build or a run raises is that plan's failure, and the search goes on.

        A disk that is full is no plan's failure: it ends the search, which goes on when there is room.
        """
        try:
            outcome = self._evaluate(plan)
        except (WriteError, OSError):
            raise
        except TandemError as error:
            return None, str(error) or type(error).__name__
        except Exception as error:  # noqa: BLE001
            return None, f"{type(error).__name__}: {error}"
        return (outcome, "") if outcome.finite else (None, "its figures are not finite numbers")
