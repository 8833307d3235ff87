"""The entry in the log for what is done by a command on the machine itself."""

from __future__ import annotations

import getpass
import time
from collections.abc import Mapping

from cloud_service.access.action_log import Entry, detail_json

HOST_ROLE = "host"
"""In the log: the role of who acts by a command on the machine itself. No user's name holds a colon, theirs does."""


def host_entry(action: str, subject: str, detail: Mapping[str, object] | None = None) -> Entry:
    """What the one at this machine's terminal does now, for the log."""
    return Entry(
        time.time_ns() // 1_000_000, f"host:{_login_name()}", HOST_ROLE, action, subject, detail_json(detail or {})
    )


def _login_name() -> str:
    """Of the operating system; a container's user may have none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
