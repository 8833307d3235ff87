"""`python on_a_terminal.py COMMAND...`: runs a command on a terminal of its own and copies what it shows.

SIGINT to this process is typed there as Ctrl-C.
"""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import sys
import termios


def main() -> int:
    """The command's exit code."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(sys.argv[1], sys.argv[1:])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    signal.signal(signal.SIGINT, lambda *_: os.write(terminal, b"\x03"))
    while chunk := _read(terminal):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


if __name__ == "__main__":
    sys.exit(main())
