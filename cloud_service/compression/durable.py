"""Files that are the old one or the new one as a whole at any time: written beside, synced, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cloud_service.compression.errors import WriteError

FULL_BYTES = 16 * 1024


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Where the block cannot write `file`, nothing is left of it, so that it takes no room.

    Raises:
        WriteError: the block failed; torch, safetensors and tokenizers have errors of their own for a full disk.
    """
    try:
        yield
    except Exception as error:
        reason = _reason(error, file.parent)
        with suppress(OSError):
            file.unlink(missing_ok=True)
        raise WriteError(file, reason) from error


def write_durably(path: Path, data: bytes) -> None:
    """Write a small file; the old one stays until the new one is whole on disk.

    Raises:
        WriteError: it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    with writing(partial):
        partial.write_bytes(data)
        replace_durably(partial, path)


def replace_durably(partial: Path, path: Path) -> None:
    """Sync `partial` to disk, then rename it over `path`.

    Raises:
        OSError: the disk is full or not writable.
    """
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(path)


def _reason(error: Exception, folder: Path) -> str:
    """torch tells of a full disk in its own terms, which say nothing to a user."""
    if folder.is_dir() and shutil.disk_usage(folder).free < FULL_BYTES:
        return os.strerror(errno.ENOSPC)
    return str(error).strip().partition("\n")[0] or type(error).__name__
