from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.tiny_bundle import write_tiny_bundle


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[..., Path]:
    """Writes agent.toml beside a tiny bundle, listening on a port of the system's choice."""

    def write(more: str = "", *, device: str = "d1", http: str = "port = 0") -> Path:
        write_tiny_bundle(tmp_path / "tiny")
        file = tmp_path / f"{device}.toml"
        text = f'device_id = "{device}"\n[[models]]\nbundle = "tiny"\n[http]\n{http}\n{more}'
        file.write_text(text, encoding="utf-8")
        return file

    return write
