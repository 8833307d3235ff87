"""Trials on disk, one JSON line each, synced as they end: a killed run goes on where it stopped."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from cloud_service.compression.errors import CheckpointError
from cloud_service.compression.tuning.result import FinalTimes
from cloud_service.compression.tuning.space import Plan, PlanKey, plan_key
from cloud_service.compression.tuning.trials import Trial
from shared.documents import Document, DocumentError, read_document

_FORMAT = 1
_ENDS_BEFORE_GIVING_UP = 3
_GAVE_UP = f"the process ended during this trial {_ENDS_BEFORE_GIVING_UP} times"


@dataclasses.dataclass(frozen=True)
class _Line(Document):
    """One line: the journal's `subject`, a plan that `began` or was `withdrawn`, a `trial` that ended, or `finals`."""

    subject: str | None = None
    format: int = _FORMAT
    began: dict[str, str] | None = None
    withdrawn: dict[str, str] | None = None
    trial: Trial | None = None
    finals: FinalTimes | None = None


class Journal:
    """The file at `path`, held by one process at a time; closes as a context manager.

    It belongs to a `subject`: everything on which outcomes depend beside the plan (network, texts, machine).
    Goal, budget and seed may change from run to run. A plan during which the process died three times (a
    crash below Python, memory) counts as failed, so that it cannot end every run.
    """

    def __init__(self, path: Path, subject: str) -> None:
        """Open or begin the journal; a torn last line is dropped.

        Raises:
            CheckpointError: it cannot be read or written, is damaged, is another subject's, or is in use.
        """
        self._path = path
        self._trials: dict[PlanKey, Trial] = {}
        self._finals: list[FinalTimes] = []
        self._begun: Counter[PlanKey] = Counter()
        self._plans: dict[PlanKey, Plan] = {}
        self._running: dict[str, str] | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream: BinaryIO = path.open("a+b")
        except OSError as error:
            raise CheckpointError(f"{path}: the journal cannot be opened: {error}") from error
        try:
            self._take(subject)
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> Journal:
        """The journal itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file and let go of it; a plan that was interrupted in good order may be run again."""
        try:
            if self._running is not None:
                self._append(_Line(withdrawn=self._running))
        finally:
            self._stream.close()

    def trials(self) -> tuple[Trial, ...]:
        """Every recorded trial, in the order in which they ended."""
        return tuple(self._trials.values())

    def begin(self, plan: Plan) -> None:
        """Note that `plan` is about to run.

        Raises:
            CheckpointError: the file cannot be written.
        """
        self._running = dict(plan)
        self._append(_Line(began=self._running))

    def end(self, trial: Trial) -> None:
        """Record `trial`; it is on disk when this returns.

        Raises:
            CheckpointError: the file cannot be written.
        """
        self._trials[trial.key] = trial
        self._append(_Line(trial=trial))
        self._running = None

    def finals(self) -> tuple[FinalTimes, ...]:
        """Every recorded comparison of plans in turns, in their order."""
        return tuple(self._finals)

    def end_finals(self, times: FinalTimes) -> None:
        """Record that plans were timed in turns; it is on disk when this returns.

        Raises:
            CheckpointError: the file cannot be written.
        """
        self._finals.append(times)
        self._append(_Line(finals=times))

    def _take(self, subject: str) -> None:
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CheckpointError(f"{self._path}: another run is using this journal") from error
        self._stream.seek(0)
        data = self._stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._stream.truncate(len(whole))
        lines = [self._parse(number, line) for number, line in enumerate(whole.splitlines(), start=1)]
        if not lines:
            self._append(_Line(subject=subject))
        elif lines[0].format != _FORMAT or lines[0].subject != subject:
            raise CheckpointError(
                f"{self._path}: its trials are of another network, data or machine; give this run another journal"
            )
        for line in lines:
            self._replay(line)
        self._give_up_on_killers()

    def _parse(self, number: int, line: bytes) -> _Line:
        try:
            return read_document(_Line, line)
        except DocumentError as error:
            raise CheckpointError(f"{self._path}: line {number} is damaged ({error}); delete the file") from error

    def _replay(self, line: _Line) -> None:
        if line.began is not None:
            key = plan_key(line.began)
            self._begun[key] += 1
            self._plans[key] = line.began
        if line.withdrawn is not None:
            self._begun[plan_key(line.withdrawn)] -= 1
        if line.trial is not None:
            self._trials[line.trial.key] = line.trial
        if line.finals is not None:
            self._finals.append(line.finals)

    def _give_up_on_killers(self) -> None:
        for key, times in self._begun.items():
            if key not in self._trials and times >= _ENDS_BEFORE_GIVING_UP:
                self.end(Trial(dict(self._plans[key]), None, _GAVE_UP))

    def _append(self, line: _Line) -> None:
        fields: Mapping[str, object] = dataclasses.asdict(line)
        said = {name: value for name, value in fields.items() if value is not None}
        try:
            self._stream.write(json.dumps(said, sort_keys=True, allow_nan=False).encode() + b"\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise CheckpointError(f"{self._path}: the journal cannot be written: {error}") from error
