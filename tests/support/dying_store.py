"""A repository's store whose writer dies at a chosen write, as a kill would have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

from cloud_service.registry.store import ArtifactStore, StoredFile


class WriterDied(BaseException):
    """Nothing of the program may catch it."""


class DyingStore:
    """Implements `ArtifactStore` over another: counts writes and deletions, dies before that of number `dies_at`."""

    def __init__(self, store: ArtifactStore, dies_at: int | None = None) -> None:
        self._store = store
        self._dies_at = dies_at
        self.changes = 0

    def get(self, path: str) -> bytes | None:
        return self._store.get(path)

    def put(self, path: str, data: bytes, *, only_new: bool = False) -> None:
        self._count()
        self._store.put(path, data, only_new=only_new)

    def exists(self, path: str) -> bool:
        return self._store.exists(path)

    def list(self, folder: str) -> Iterator[StoredFile]:
        return self._store.list(folder)

    def delete(self, path: str) -> None:
        self._count()
        self._store.delete(path)

    def locked(self, name: str, wait_s: float) -> AbstractContextManager[None]:
        return self._store.locked(name, wait_s)

    def _count(self) -> None:
        if self.changes == self._dies_at:
            raise WriterDied
        self.changes += 1
