from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from cloud_service.storage.engine import open_engine
from tests.support.postgres import WHY_NOT, running_postgres


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    if WHY_NOT:
        pytest.skip(WHY_NOT)
    pytest.importorskip("psycopg")
    with running_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'data' / 'fleet.sqlite'}"
    url: str = request.getfixturevalue("postgres_url")
    engine = open_engine(url, writes=True)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return url


@pytest.fixture
def writing(url: str) -> Iterator[Engine]:
    engine = open_engine(url, writes=True)
    yield engine
    engine.dispose()


@pytest.fixture
def reading(url: str) -> Iterator[Engine]:
    engine = open_engine(url, writes=False)
    yield engine
    engine.dispose()
