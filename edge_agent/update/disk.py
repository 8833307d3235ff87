"""What updates do to the disk, one operation at a time, so that a power cut can be tried after each."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from shared.errors import NoRoom, UpdateError


class Disk(Protocol):
    """Every change that an update makes. What is not synced may be lost, torn or in another order after a power cut.

    Each raises OSError.
    """

    def make_folder(self, path: Path) -> None:
        """Make the folder, with those above it, where it is not there."""
        ...

    def set_length(self, path: Path, length: int) -> None:
        """Make the file where it is not there; cut it, or fill it with zeros, to `length` bytes."""
        ...

    def write(self, path: Path, offset: int, data: bytes) -> None:
        """Write into a file that is there."""
        ...

    def sync(self, path: Path) -> None:
        """What a file holds, or the names in a folder, survive a power cut from here on."""
        ...

    def rename(self, source: Path, destination: Path) -> None:
        """Give a file or folder another name; a file of that name is replaced in one step."""
        ...

    def remove_tree(self, path: Path) -> None:
        """Remove a folder with all in it, where it is there."""
        ...

    def free_bytes(self, path: Path) -> int:
        """What can still be written to the disk that holds the folder `path`."""
        ...


class RealDisk:
    """The machine's file system."""

    def make_folder(self, path: Path) -> None:
        """See `Disk`."""
        path.mkdir(parents=True, exist_ok=True)

    def set_length(self, path: Path, length: int) -> None:
        """See `Disk`."""
        with _opened(path, os.O_WRONLY | os.O_CREAT) as descriptor:
            os.ftruncate(descriptor, length)

    def write(self, path: Path, offset: int, data: bytes) -> None:
        """See `Disk`."""
        left = memoryview(data)
        with _opened(path, os.O_WRONLY) as descriptor:
            while left:
                written = os.pwrite(descriptor, left, offset)
                left, offset = left[written:], offset + written

    def sync(self, path: Path) -> None:
        """See `Disk`."""
        with _opened(path, os.O_RDONLY) as descriptor:
            os.fsync(descriptor)

    def rename(self, source: Path, destination: Path) -> None:
        """See `Disk`."""
        source.rename(destination)

    def remove_tree(self, path: Path) -> None:
        """See `Disk`."""
        if path.exists():
            shutil.rmtree(path)

    def free_bytes(self, path: Path) -> int:
        """See `Disk`."""
        return shutil.disk_usage(path).free


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Say in plain words what the disk refused.

    Raises:
        NoRoom: it is full.
        UpdateError: it cannot be written or read.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoRoom(f"the disk is full: {what} failed; make room, it goes on from where it is") from error
        raise UpdateError(f"{what} failed: {error}") from error


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    # A link in a slot could lead a write out of it.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
