"""Where a repository's files lie: the port, and the local folder."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shared.errors import RegistryError

UNFINISHED_SUFFIX = ".part"
_LOCK_POLL_S = 0.05


@dataclass(frozen=True)
class StoredFile:
    """A file of the repository: its path with '/' between parts, length in bytes and time of writing."""

    path: str
    length: int
    modified_unix_s: float


class ArtifactStore(Protocol):
    """Files by path ('/' between parts). What is put is there as a whole or not at all."""

    def get(self, path: str) -> bytes | None:
        """The file's bytes; None where there is none.

        Raises:
            RegistryError: the store cannot be read.
        """
        ...

    def put(self, path: str, data: bytes, *, only_new: bool = False) -> None:
        """Write a file, durable when this returns.

        Raises:
            RegistryError: the store cannot be written, or `only_new` and the file is there.
        """
        ...

    def exists(self, path: str) -> bool:
        """Whether the file is there."""
        ...

    def list(self, folder: str) -> Iterator[StoredFile]:
        """Every file below `folder`, those left unfinished by a kill among them."""
        ...

    def delete(self, path: str) -> None:
        """Take a file away; no error where it is gone."""
        ...

    def locked(self, name: str, wait_s: float) -> AbstractContextManager[None]:
        """Hold the lock `name` alone.

        Raises:
            RegistryError: another holds it for longer than `wait_s`.
        """
        ...


class FolderStore:
    """A repository in a local folder, which any HTTP server may serve as it is. Implements `ArtifactStore`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, path: str) -> bytes | None:
        """See `ArtifactStore`."""
        try:
            return (self.folder / path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RegistryError(f"{self.folder / path} cannot be read: {error}") from error

    def put(self, path: str, data: bytes, *, only_new: bool = False) -> None:
        """See `ArtifactStore`."""
        destination = self.folder / path
        unfinished = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}{UNFINISHED_SUFFIX}")
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            _write_synced(unfinished, data)
            if only_new:
                os.link(unfinished, destination)
                unfinished.unlink()
            else:
                unfinished.replace(destination)
            _sync(destination.parent)
        except FileExistsError as error:
            _discard(unfinished)
            raise RegistryError(f"{path} was written by another at the same time; run it again") from error
        except OSError as error:
            _discard(unfinished)
            raise RegistryError(f"{destination} cannot be written: {error}") from error

    def exists(self, path: str) -> bool:
        """See `ArtifactStore`."""
        return (self.folder / path).is_file()

    def list(self, folder: str) -> Iterator[StoredFile]:
        """See `ArtifactStore`."""
        for path in sorted((self.folder / folder).rglob("*")):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            if path.is_file():
                yield StoredFile(path.relative_to(self.folder).as_posix(), status.st_size, status.st_mtime)

    def delete(self, path: str) -> None:
        """See `ArtifactStore`."""
        try:
            (self.folder / path).unlink(missing_ok=True)
        except OSError as error:
            raise RegistryError(f"{self.folder / path} cannot be taken away: {error}") from error

    def locked(self, name: str, wait_s: float) -> AbstractContextManager[None]:
        """See `ArtifactStore`."""
        return locked_file(self.folder / f".{name}.lock", wait_s)


@contextmanager
def locked_file(path: Path, wait_s: float) -> Iterator[None]:
    """Hold the lock of a file; the system lets go of it when the process ends, however it ends.

    Raises:
        RegistryError: another process holds it for longer than `wait_s`, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RegistryError(f"{path} cannot be written: {error}") from error
    try:
        _take(descriptor, path, time.monotonic() + wait_s)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path, until_s: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= until_s:
                raise RegistryError(
                    f"another process is changing the repository ({path}); try again when it is done"
                ) from error
            time.sleep(_LOCK_POLL_S)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _discard(unfinished: Path) -> None:
    with suppress(OSError):
        unfinished.unlink()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
