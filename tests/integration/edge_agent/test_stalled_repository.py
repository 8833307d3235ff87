"""A repository that accepts and then says nothing holds no agent up that is told to stop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cloud_service.registry.keys import PINNED_ROOT
from edge_agent.update.http_source import HttpSource
from shared.clock import SystemClock
from tests.support.agent_process import AgentProcess
from tests.support.repository_files import BIG
from tests.support.repository_folder import make_repository
from tests.support.stalled_server import BEFORE_THE_HEAD, WITHIN_THE_BODY, StalledServer
from tests.support.tiny_bundle import write_tiny_bundle

_READ_TIMEOUT_S = 20.0
"""The source's own: what ends before it has not waited for it."""
_WELL_BEFORE_S = 15.0
_PATIENCE_S = 60.0


@pytest.mark.parametrize("sent", [BEFORE_THE_HEAD, WITHIN_THE_BODY], ids=["before the head", "within the body"])
def test_an_agent_that_is_told_to_stop_ends_while_the_server_still_says_nothing(tmp_path: Path, sent: bytes) -> None:
    made = make_repository(tmp_path / "repository", versions=())
    write_tiny_bundle(tmp_path / "v1", version="1.0.0")
    with StalledServer(sent) as server:
        config = tmp_path / "agent.toml"
        config.write_text(
            f'device_id = "d1"\nmodels = [{{ bundle = "v1" }}]\n[http]\nport = 0\n[update]\ntransport = "http"\n'
            f'url = "{server.url}"\nroot_file = "{made.keys / PINNED_ROOT}"\nhint_spread_ms = 0\n',
            encoding="utf-8",
        )
        with AgentProcess(config) as agent:
            assert server.asked.wait(_PATIENCE_S)
            assert agent.terminate() == 0


def test_who_is_cancelled_goes_on_while_the_server_still_says_nothing() -> None:
    async def read_in_vain(server: StalledServer) -> bool:
        source = HttpSource(server.url, SystemClock())
        reading = asyncio.ensure_future(_whole(source))
        await asyncio.to_thread(server.asked.wait, _PATIENCE_S)
        reading.cancel()
        done, _ = await asyncio.wait([reading], timeout=_WELL_BEFORE_S)
        source.close()
        return bool(done) and reading.cancelled()

    with StalledServer(BEFORE_THE_HEAD) as server:
        assert asyncio.run(read_in_vain(server))


async def _whole(source: HttpSource) -> bytes:
    return b"".join([piece async for piece in source.read(BIG, most_bytes=1 << 30)])
