"""A rollout's plan as an operator writes it: a TOML file, read strictly."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError, field_validator

from cloud_service.rollout.durations import parse_duration
from cloud_service.rollout.plan import FieldGates, OnFailure, Stage, Thresholds, Window
from shared.errors import ConfigurationError, RolloutError
from shared.settings import Section
from shared.update.assignment import Trial

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class WindowSection(Section):
    """A maintenance window, times of day in UTC as "22:30"; without `days` on every day."""

    begins: str = Field(alias="from")
    ends: str = Field(alias="until")
    days: tuple[str, ...] = ()

    @field_validator("begins", "ends")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        _minutes(value)
        return value

    @field_validator("days")
    @classmethod
    def _are_days(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not set(value) <= set(_DAYS):
            raise ValueError(f"days are {', '.join(_DAYS)}")
        return value

    def window(self) -> Window:
        """As the plan has it."""
        return Window(_minutes(self.begins), _minutes(self.ends), tuple(_DAYS.index(day) for day in self.days))


class PlanFile(Section):
    """The whole file; what it leaves out is as `cloud_service.rollout.plan` says."""

    stages: tuple[Stage, ...] = ()
    soak: str = "10m"
    thresholds: Thresholds = Thresholds()
    gates: FieldGates = FieldGates()
    trial: Trial = Trial()
    hardware: tuple[str, ...] = ()
    windows: tuple[WindowSection, ...] = ()
    needs_approval: bool = False
    on_failure: OnFailure = OnFailure.ROLL_BACK_ALL

    @field_validator("soak")
    @classmethod
    def _is_a_duration(cls, value: str) -> str:
        try:
            parse_duration(value)
        except RolloutError as error:
            raise ValueError(str(error)) from error
        return value


def read_plan_file(file: Path | None) -> PlanFile:
    """Read the file; without one, everything is as usual.

    Raises:
        ConfigurationError: it cannot be read, or a key is unknown or out of range; the text names the key.
    """
    if file is None:
        return PlanFile()
    try:
        values: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
        return TypeAdapter(PlanFile).validate_python(values)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{file}: cannot be read as TOML: {error}") from error
    except ValidationError as error:
        faults = [f"{file}: {'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors()]
        raise ConfigurationError("\n".join(faults)) from error


def _minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    if not (hours.isascii() and minutes.isascii() and hours.isdigit() and minutes.isdigit() and len(minutes) == 2):
        raise ValueError(f"{text!r} is no time of day; write it as 22:30")
    if int(minutes) > 59 or int(hours) * 60 + int(minutes) > 24 * 60:
        raise ValueError(f"{text!r} is no time of day; write it as 22:30")
    return int(hours) * 60 + int(minutes)
