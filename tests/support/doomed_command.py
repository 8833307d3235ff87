"""`python -m tests.support.doomed_command CONFIG ACTION [PATTERN]`: a model command, killed once it touches a path."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.sudden_death import die_after_touching
from tests.support.tiny_compression import run_model_command


def main() -> None:
    config, action, *patterns = sys.argv[1:]
    for pattern in patterns:
        die_after_touching(pattern)
    sys.exit(run_model_command(Path(config), action))


if __name__ == "__main__":
    main()
