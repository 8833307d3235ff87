"""One line a record on standard error, as `time level logger message`, for journald and people alike."""

from __future__ import annotations

import logging
import sys


class OneLineFormatter(logging.Formatter):
    """Folds line breaks, those of tracebacks too, so that a record is always one line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return super().format(record).replace("\n", " ⏎ ")


def set_up_logging(level: str) -> None:
    """Send every record of `level` and above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("alembic", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
