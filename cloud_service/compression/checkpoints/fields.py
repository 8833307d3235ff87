"""A JSON object out of a checkpoint's folder, read field by field with errors that name the field."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cloud_service.compression.errors import CheckpointError

MOST_JSON_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Fields:
    """The fields of one JSON object; `null` counts as absent. `source` names the object in errors."""

    source: str
    values: Mapping[str, object]

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.values.get(name) is not None

    def integer(self, name: str, default: int | None = None, most: int = 2**31 - 1) -> int:
        """A whole number from 1 to `most`.

        Raises:
            CheckpointError: it is something else, or absent where there is no default.
        """
        value = self._value(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise CheckpointError(f"{self.source}: {name} must be a whole number from 1 to {most}, not {value!r}")
        return value

    def number(self, name: str, default: float) -> float:
        """A finite number above 0.

        Raises:
            CheckpointError: it is something else.
        """
        value = self._value(name, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
            raise CheckpointError(f"{self.source}: {name} must be a number above 0, not {value!r}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false.

        Raises:
            CheckpointError: it is something else.
        """
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise CheckpointError(f"{self.source}: {name} must be true or false, not {value!r}")
        return value

    def inner(self, name: str) -> Fields:
        """The object under `name`.

        Raises:
            CheckpointError: it is absent or something else.
        """
        return as_fields(f"{self.source}: {name}", self._value(name, None))

    def items(self, name: str) -> list[object]:
        """The list under `name`; empty where it is absent.

        Raises:
            CheckpointError: it is something else.
        """
        value = self._value(name, [])
        if not isinstance(value, list):
            raise CheckpointError(f"{self.source}: {name} must be a list, not {value!r}")
        return value

    def _value(self, name: str, default: object) -> object:
        value = self.values.get(name)
        value = default if value is None else value
        if value is None:
            raise CheckpointError(f"{self.source}: {name} is missing")
        return value


def as_fields(source: str, value: object) -> Fields:
    """`value` as an object's fields.

    Raises:
        CheckpointError: it is no JSON object.
    """
    if not isinstance(value, dict):
        raise CheckpointError(f"{source} must be a JSON object, not {type(value).__name__}")
    return Fields(source, value)


def read_fields(path: Path) -> Fields:
    """The JSON object in the file at `path`.

    Raises:
        CheckpointError: the file is missing, unreadable, too large, or no JSON object.
    """
    try:
        if path.stat().st_size > MOST_JSON_BYTES:
            raise CheckpointError(f"{path}: has more than {MOST_JSON_BYTES} bytes")
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON ({error})") from error
    return as_fields(str(path), document)
