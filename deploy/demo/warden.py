"""The process that outlives the demo by a moment, so that a killed demo leaves nothing behind.

Its standard input is a pipe whose other end the demo alone holds. When that end closes, however the demo ended,
it ends the processes that bear the run's mark: SIGTERM, and SIGKILL after a grace.
"""

from __future__ import annotations

import signal
import sys
import time

from deploy.demo.marks import signal_marked

GRACE_S = 3.0
_POLL_S = 0.1


def end_run(mark: str, grace_s: float = GRACE_S) -> None:
    """End all processes of a run, those included that are started meanwhile."""
    signal_marked(mark, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline:
        if not signal_marked(mark, 0):
            return
        time.sleep(_POLL_S)
    while signal_marked(mark, signal.SIGKILL):
        time.sleep(_POLL_S)


def main() -> None:
    """The process's entry point."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    end_run(sys.argv[1])


if __name__ == "__main__":
    main()
