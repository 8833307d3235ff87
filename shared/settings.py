"""Settings from a TOML file with environment overrides, read once and strictly."""

from __future__ import annotations

import difflib
import os
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared.errors import ConfigurationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_DELIMITER = "__"


class Section(BaseModel):
    """A table of a configuration file: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Settings(BaseSettings):
    """A whole configuration file. A subclass names its environment prefix in `env_prefix`.

    An environment variable overrides the file's key: PREFIX + the key's path in capitals, joined by "__".
    """

    model_config = SettingsConfigDict(extra="forbid", frozen=True, env_nested_delimiter=_DELIMITER)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before the file, which arrives as init arguments."""
        return env_settings, init_settings


S = TypeVar("S", bound=Settings)


def load_settings(kind: type[S], file: Path | None) -> S:
    """Read `file` (or nothing but the environment) into `kind`.

    Raises:
        ConfigurationError: the file cannot be read, or a key is unknown, missing or out of range; the text
            names the key and where it stands.
    """
    values = _read_toml(file) if file else {}
    _check_environment(kind)
    try:
        return kind(**values)
    except ValidationError as error:
        problems = [_describe(kind, file, dict(fault)) for fault in error.errors()]
        raise ConfigurationError("\n".join(problems)) from error


def resolve_beside(file: Path | None, path: Path) -> Path:
    """A path named in the configuration `file`: relative ones are meant from the file's folder."""
    return path if path.is_absolute() or file is None else file.parent / path


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"{file}: there is no such file") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{file}: cannot be read as TOML: {error}") from error


def _check_environment(kind: type[Settings]) -> None:
    prefix = str(kind.model_config.get("env_prefix", "")).upper()
    known = {prefix + _DELIMITER.join(path).upper() for path in _key_paths(kind)}
    for name in os.environ:
        if prefix and name.upper().startswith(prefix) and name.upper() not in known:
            raise ConfigurationError(f"environment variable {name}: unknown key{_suggest(name.upper(), sorted(known))}")


def _describe(kind: type[BaseModel], file: Path | None, fault: dict[str, Any]) -> str:
    path = [str(part) for part in fault["loc"]]
    variable = (str(kind.model_config.get("env_prefix", "")) + _DELIMITER.join(path)).upper()
    where = f"environment variable {variable}" if variable in os.environ else str(file or "the configuration")
    if fault["type"] == "extra_forbidden":
        table = [part for part in path[:-1] if not part.isdigit()]
        siblings = [known[-1] for known in _key_paths(kind) if list(known[:-1]) == table]
        return f"{where}: {'.'.join(path)}: unknown key{_suggest(path[-1], siblings)}"
    got = "" if fault["type"] == "missing" else f" (got {fault['input']!r})"
    return f"{where}: {'.'.join(path)}: {fault['msg']}{got}"


def _suggest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}" if known else ""


def _key_paths(kind: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    for name, field in kind.model_fields.items():
        yield (name,)
        for inner in _models_in(field.annotation):
            for path in _key_paths(inner):
                yield (name, *path)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType, tuple, list):
        for part in typing.get_args(annotation):
            yield from _models_in(part)
