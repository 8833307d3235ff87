"""How long each step took when it was done: a later run reads its work back in no time, which says nothing."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cloud_service.compression.durable import write_durably
from shared.documents import Document, DocumentError, canonical_json, read_document

NAME = "steps.json"


@dataclass(frozen=True)
class _Times(Document):
    """Seconds by the step's name and its result."""

    seconds: dict[str, float] = field(default_factory=dict)


class StepTimes:
    """The first time of each step, in a small file of the work folder."""

    def __init__(self, folder: Path) -> None:
        """What earlier runs noted; nothing where there is no such file, or none that can be read."""
        self._path = folder / NAME
        self._times = _Times()
        with suppress(FileNotFoundError, DocumentError):
            self._times = read_document(_Times, self._path.read_bytes())

    def first_seconds(self, step: str, result: str, seconds: float) -> float:
        """What `step` took when it first came to `result`; now, if it never did: then that is `seconds`.

        Raises:
            WriteError, OSError: the disk is full or not writable.
        """
        key = f"{step}: {result}"
        if key not in self._times.seconds:
            self._times = dataclasses.replace(self._times, seconds={**self._times.seconds, key: seconds})
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(self._path, canonical_json(self._times))
        return self._times.seconds[key]
