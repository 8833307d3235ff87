"""The repository's files, as those who serve them see them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from shared.errors import MessageError
from shared.update.names import checked_repository_path


class RepositoryFiles(Protocol):
    """Files by their path in the repository. Blocking."""

    def length(self, path: str) -> int:
        """In bytes.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it cannot be read now.
        """
        ...

    def read(self, path: str, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset` on; fewer only at the file's end.

        Raises:
            FileNotFoundError, OSError: see `length`.
        """
        ...


class FolderFiles:
    """A folder with the repository's layout. Implements `RepositoryFiles`."""

    def __init__(self, folder: Path) -> None:
        self._folder = os.path.realpath(folder)

    def length(self, path: str) -> int:
        """See `RepositoryFiles`."""
        return os.stat(self.locate(path)).st_size  # noqa: PTH116 - of many small reads, pathlib takes half the time

    def read(self, path: str, offset: int, length: int) -> bytes:
        """See `RepositoryFiles`."""
        descriptor = os.open(self.locate(path), os.O_RDONLY)
        try:
            return os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)

    def locate(self, path: str) -> str:
        """Where the file lies.

        Raises:
            FileNotFoundError: there is none, `path` can be none, or a link leads out of the folder.
        """
        try:
            file = os.path.realpath(f"{self._folder}/{checked_repository_path(path)}")
        except MessageError as error:
            raise FileNotFoundError(str(error)) from error
        if not file.startswith(self._folder + "/") or not os.path.isfile(file):  # noqa: PTH113
            raise FileNotFoundError(f"{path} is no file of the repository")
        return file
