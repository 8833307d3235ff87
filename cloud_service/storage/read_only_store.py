"""The store for those who only read it, from any process: it may not be there yet, or be of another Tandem."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from cloud_service.storage.schema import is_current
from shared.errors import StorageError


class ReadOnlyStore:
    """Once the schema was seen to be ours it is not looked at again, until a look fails."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._is_ready = False

    @contextmanager
    def look(self) -> Iterator[Connection | None]:
        """One consistent look; None while the fleet service has not set up the store.

        Raises:
            StorageError: the store cannot be read.
        """
        if is_missing(self._engine):
            yield None
            return
        try:
            with self._engine.begin() as connection:
                self._is_ready = self._is_ready or is_current(connection)
                yield connection if self._is_ready else None
        except SQLAlchemyError as error:
            self._is_ready = False
            raise StorageError(f"the store cannot be read: {error}") from error


def is_missing(engine: Engine) -> bool:
    """Whether it is an SQLite file that is not there; reading would make an empty one."""
    file = engine.url.database
    return engine.dialect.name == "sqlite" and bool(file) and not Path(str(file)).exists()
