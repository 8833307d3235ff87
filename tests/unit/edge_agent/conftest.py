from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.loading import load_model
from edge_agent.model import EdgeModel
from tests.support.tiny_bundle import write_tiny_bundle


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    write_tiny_bundle(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Path) -> EdgeModel:
    return load_model(tiny_folder)
