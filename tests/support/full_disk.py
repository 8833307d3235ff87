"""A disk that is really full: a file system of a few hundred kilobytes in memory."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE_BYTES = 4096
FILLER = "filler"


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """Mount a tmpfs of `size_bytes` on `folder`; where mounting is not allowed the test is skipped."""
    if os.geteuid() != 0:
        pytest.skip("a file system of its own needs root to be mounted")
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    if (tried := subprocess.run(mount, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"mounting is not allowed here: {tried.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path, free_bytes: int) -> None:
    """Leave about `free_bytes` of room."""
    (disk / FILLER).unlink(missing_ok=True)
    found = os.statvfs(disk)
    (disk / FILLER).write_bytes(b"\1" * max(0, found.f_bavail * found.f_frsize - free_bytes - PAGE_BYTES))


def make_room(disk: Path) -> None:
    """Take away what `fill` wrote."""
    (disk / FILLER).unlink()
