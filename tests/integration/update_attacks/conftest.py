"""An honest repository, and a device that trusts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.hostile_repository import (
    HostileRepository,
)
from tests.support.trusting_device import (
    TrustingDevice,
    honest_repository,
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def repository() -> HostileRepository:
    return honest_repository()


@pytest.fixture
def device(tmp_path: Path, repository: HostileRepository) -> TrustingDevice:
    return TrustingDevice(tmp_path / "trust", repository)
