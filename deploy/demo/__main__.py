"""`python -m deploy.demo`: the whole of Tandem on one machine, see `--help`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import anyio

from deploy.demo.arguments import parse_arguments
from deploy.demo.run import INTERRUPTED, Demo
from deploy.demo.screen import LastingConsole, Screen
from shared.errors import TandemError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the process's exit code."""
    options = parse_arguments(arguments)
    try:
        return anyio.run(Demo(options, Screen(LastingConsole())).run)
    except TandemError as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
