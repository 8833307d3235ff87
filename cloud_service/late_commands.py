"""Commands whose code is imported when they run: the others then need none of its packages."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from shared.errors import ConfigurationError

Commands = argparse._SubParsersAction  # argparse has no public name for it


def add_command(
    module: str, commands: Commands[argparse.ArgumentParser], name: str, text: str, function: str, *told: object
) -> argparse.ArgumentParser:
    """Add the command `name`, which takes --config and calls `function` of `module` with `told` and its options."""
    parser = commands.add_parser(name, help=text)
    parser.add_argument("--config", type=Path, help="cloud.toml")
    parser.set_defaults(handler=partial(_run, module, function, *told))
    return parser


def _run(module: str, function: str, *arguments: object) -> int:
    try:
        handler: Callable[..., int] = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"this needs more packages: pip install 'tandem[cloud]' ({error})") from error
    return handler(*arguments)
