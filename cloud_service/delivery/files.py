"""The repository's files, as those who serve them see them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shared.errors import MessageError
from shared.update.names import checked_repository_path


@dataclass(frozen=True)
class FilePart:
    """A piece of a file, and how long the whole file was when it was read, in bytes."""

    data: bytes
    file_length: int


class RepositoryFiles(Protocol):
    """Files by their path in the repository. Blocking, and used by several threads at once."""

    def read(self, path: str, offset: int, length: int) -> FilePart:
        """At most `length` bytes from `offset` on; fewer only at the file's end, none beyond it.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it cannot be read now.
        """
        ...


class FolderFiles:
    """A folder with the repository's layout. Implements `RepositoryFiles`."""

    def __init__(self, folder: Path) -> None:
        self._folder = os.path.realpath(folder)

    def read(self, path: str, offset: int, length: int) -> FilePart:
        """See `RepositoryFiles`; a link that leads out of the folder is no file."""
        descriptor = os.open(self._locate(path), os.O_RDONLY)
        try:
            file_length = os.fstat(descriptor).st_size
            return FilePart(os.pread(descriptor, length, offset) if offset < file_length else b"", file_length)
        finally:
            os.close(descriptor)

    def _locate(self, path: str) -> str:
        """By strings: of many small reads, pathlib would take half the time."""
        file = os.path.realpath(f"{self._folder}/{require_repository_path(path)}")
        if not file.startswith(self._folder + "/") or not os.path.isfile(file):  # noqa: PTH113
            raise FileNotFoundError(f"{path} is no file of the repository")
        return file


def require_repository_path(path: str) -> str:
    """`path`, if a repository may have such a file.

    Raises:
        FileNotFoundError: no repository has.
    """
    try:
        return checked_repository_path(path)
    except MessageError as error:
        raise FileNotFoundError(str(error)) from error
