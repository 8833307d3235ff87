"""A repository in a bucket, through obstore. Implements `ArtifactStore`."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_service.registry.store import StoredFile, locked_file
from shared.errors import RegistryError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_LOCK_POLL_S = 0.2
_ABANDONED_S = 3600.0
"""A lock that is older belongs to a writer that was killed: nothing that is done under one takes so long."""


def open_bucket(url: str, lock_folder: Path) -> BucketStore:
    """The bucket at `url`, e.g. s3://name/folder; region and credentials come from the environment (AWS_...).

    `lock_folder`: where the writers of this machine wait for each other.

    Raises:
        RegistryError: see `open_objects`.
    """
    return BucketStore(open_objects(url), lock_folder, url)


def open_objects(url: str, patience: timedelta | None = None) -> ObjectStore:
    """obstore's own view of the bucket at `url`. `patience`: no request is tried again after so long.

    Raises:
        RegistryError: obstore is not installed, or does not know such a URL.
    """
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ModuleNotFoundError as error:
        raise RegistryError(
            f"a repository at {url} needs obstore: pip install 'tandem[cluster]' on Python 3.11 or newer ({error})"
        ) from error
    try:
        if patience is None:
            return from_url(url)
        return from_url(url, retry_config={"retry_timeout": patience})
    except (BaseError, ValueError) as error:
        raise RegistryError(f"registry.url: {url} cannot be opened: {error}") from error


class BucketStore:
    """Files as objects; a lock is an object that only one writer can make."""

    def __init__(self, store: ObjectStore, lock_folder: Path, name: str = "the bucket") -> None:
        import obstore
        from obstore.exceptions import AlreadyExistsError, BaseError

        self._obstore = obstore
        self._store = store
        self._lock_folder = lock_folder
        self._name = name
        self._already_there = AlreadyExistsError
        self._errors: tuple[type[Exception], ...] = (BaseError, OSError)

    def get(self, path: str) -> bytes | None:
        """See `ArtifactStore`."""
        try:
            return bytes(self._obstore.get(self._store, path).bytes())
        except FileNotFoundError:
            return None
        except self._errors as error:
            raise RegistryError(f"{path} cannot be read from {self._name}: {error}") from error

    def put(self, path: str, data: bytes, *, only_new: bool = False) -> None:
        """See `ArtifactStore`."""
        try:
            self._obstore.put(self._store, path, data, mode="create" if only_new else "overwrite")
        except self._already_there as error:
            raise RegistryError(f"{path} was written by another at the same time; run it again") from error
        except self._errors as error:
            raise RegistryError(f"{path} cannot be written to {self._name}: {error}") from error

    def exists(self, path: str) -> bool:
        """See `ArtifactStore`."""
        return self._modified_unix_s(path) is not None

    def list(self, folder: str) -> Iterator[StoredFile]:
        """See `ArtifactStore`."""
        try:
            for batch in self._obstore.list(self._store, folder):
                for found in batch:
                    yield StoredFile(found["path"], found["size"], found["last_modified"].timestamp())
        except self._errors as error:
            raise RegistryError(f"{self._name} cannot be listed: {error}") from error

    def delete(self, path: str) -> None:
        """See `ArtifactStore`."""
        try:
            with suppress(FileNotFoundError):
                self._obstore.delete(self._store, path)
        except self._errors as error:
            raise RegistryError(f"{path} cannot be taken out of {self._name}: {error}") from error

    @contextmanager
    def locked(self, name: str, wait_s: float) -> Iterator[None]:
        """See `ArtifactStore`; other machines' writers are kept out as well."""
        path = f"locks/{name}"
        with locked_file(self._lock_folder / f".{name}.lock", wait_s):
            self._take(path, time.monotonic() + wait_s)
            try:
                yield
            finally:
                self.delete(path)

    def _take(self, path: str, until_s: float) -> None:
        owner = f"{socket.gethostname()} {os.getpid()}".encode()
        while True:
            try:
                self._obstore.put(self._store, path, owner, mode="create")
                return
            except self._already_there as error:
                modified = self._modified_unix_s(path)
                if modified is not None and time.time() - modified > _ABANDONED_S:
                    self.delete(path)
                elif time.monotonic() >= until_s:
                    holder = (self.get(path) or b"another").decode(errors="replace")
                    raise RegistryError(
                        f"{holder} is changing the repository; try again when it is done, or take {path} out of "
                        f"{self._name} where it was killed"
                    ) from error
                else:
                    time.sleep(_LOCK_POLL_S)
            except self._errors as error:
                raise RegistryError(f"{self._name} cannot be written: {error}") from error

    def _modified_unix_s(self, path: str) -> float | None:
        try:
            return self._obstore.head(self._store, path)["last_modified"].timestamp()
        except FileNotFoundError:
            return None
        except self._errors as error:
            raise RegistryError(f"{path} cannot be read from {self._name}: {error}") from error
