"""The broker link, as far as it goes without a broker; with a real one it is tested where it is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import BrokerError, ConfigurationError
from shared.mqtt import BrokerAddress, BrokerLink
from tests.support.fake_clock import FakeClock


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_a_missing_certificate_authority_is_an_error_that_names_the_key(tmp_path: Path) -> None:
    address = BrokerAddress("127.0.0.1", 1, ca_file=str(tmp_path / "none.pem"))
    with pytest.raises(ConfigurationError, match=r"broker\.ca_file"):
        BrokerLink(address, "d1", FakeClock())


@pytest.mark.anyio
async def test_nothing_is_queued_while_there_is_no_connection() -> None:
    link = BrokerLink(BrokerAddress("127.0.0.1", 1), "d1", FakeClock())
    with pytest.raises(BrokerError, match="not connected"):
        await link.publish("tandem/v1/devices/d1/presence", b"", retain=True)
    assert not link.statistics().connected
