from __future__ import annotations

from pathlib import Path

import pytest

from cloud_service.serving.model import FullModel
from tests.support.gateway_parts import tiny_model
from tests.support.scripted_backend import ScriptedBackend


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def backend() -> ScriptedBackend:
    """Text "card" is token id 1, "cash" 2, "loan" 3; the answers are "cash", "loan" and "card"."""
    return ScriptedBackend()


@pytest.fixture
def model(tmp_path: Path, backend: ScriptedBackend) -> FullModel:
    return tiny_model(tmp_path / "tiny", backend)
