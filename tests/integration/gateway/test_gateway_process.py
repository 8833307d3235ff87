from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import grpc.aio
import psutil
import pytest

from shared.bundle import Tier
from tests.support.gateway_parts import question, stub_of
from tests.support.gateway_process import GatewayProcess, run_cloud_service, write_cloud_config
from tests.support.slow_graph import slow_graph
from tests.support.tiny_bundle import LABELS, write_tiny_bundle

pytestmark = pytest.mark.anyio


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_tiny_bundle(tmp_path / "tiny", tier=Tier.FULL)
    return write_cloud_config(tmp_path, tmp_path / "tiny")


@pytest.fixture
def slow_config(tmp_path: Path) -> Path:
    write_tiny_bundle(tmp_path / "slow", tier=Tier.FULL, graph=slow_graph(LABELS))
    return write_cloud_config(tmp_path, tmp_path / "slow", "max_batch = 1")


@pytest.fixture
def hasty_config(slow_config: Path) -> Path:
    text = slow_config.read_text(encoding="utf-8")
    slow_config.write_text(text.replace("max_batch = 1", "max_batch = 1\ndrain_ms = 100"), encoding="utf-8")
    return slow_config


def channel_to(gateway: GatewayProcess) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}")


async def test_a_gateway_process_answers_counts_and_stops_with_code_zero(config: Path) -> None:
    with GatewayProcess(config) as gateway:
        async with channel_to(gateway) as channel:
            for text in LABELS:
                answer = await stub_of(channel).Infer(question(text), timeout=5)
                assert answer.top[0].label == text
        assert gateway.metric('tandem_gateway_requests_total{code="OK",model="tiny"}') == 3
        assert gateway.metric('tandem_backend_batch_size_sum{model="tiny"}') == 3
        assert gateway.terminate() == 0


async def test_sigterm_answers_every_accepted_call_and_refuses_the_rest(slow_config: Path) -> None:
    with GatewayProcess(slow_config) as gateway:
        async with channel_to(gateway) as channel:
            await stub_of(channel).Infer(question("card"), timeout=5)
            calls = [stub_of(channel).Infer(question("card"), timeout=20) for _ in range(20)]
            await asyncio.to_thread(gateway.wait_until_accepted, "tiny", 21)
            code = await asyncio.to_thread(gateway.terminate)
            ends = [await asyncio.wait_for(call.code(), 5) for call in calls]
    assert code == 0
    assert ends == [grpc.StatusCode.OK] * 20


async def test_sigterm_with_more_work_than_time_ends_within_the_drain_time(hasty_config: Path) -> None:
    with GatewayProcess(hasty_config) as gateway:
        async with channel_to(gateway) as channel:
            await stub_of(channel).Infer(question("card"), timeout=20)
            calls = [stub_of(channel).Infer(question("card"), timeout=60) for _ in range(200)]
            await asyncio.to_thread(gateway.wait_until_accepted, "tiny", 150)
            code = await asyncio.to_thread(gateway.terminate, 10.0)
            ends = {await asyncio.wait_for(call.code(), 5) for call in calls}
    assert code == 0
    assert ends <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


async def test_a_supervisor_that_is_killed_leaves_no_process_behind(config: Path) -> None:
    with GatewayProcess(config, role="") as gateway:
        children = gateway.children()
        assert len(children) >= 1
        gateway.process.kill()
        _, alive = psutil.wait_procs(children, timeout=15)
    assert alive == []


async def test_a_gateway_that_is_killed_is_started_again(config: Path) -> None:
    with GatewayProcess(config, role="") as gateway:
        first = next(child for child in gateway.children() if "gateway" in child.cmdline())
        first.kill()
        await asyncio.to_thread(gateway.wait_for_a_start)
        async with channel_to(gateway) as channel:
            assert await stub_of(channel).Infer(question("card"), timeout=5)
        children = gateway.children()
        assert gateway.terminate(30.0) == 0
    assert not any(child.is_running() for child in children)


@pytest.mark.parametrize(
    ("gateway", "named"),
    [
        ("max_bach = 4", "gateway.max_bach: unknown key; did you mean max_batch?"),
        ('host = "0.0.0.0"', "gateway.host would listen on 0.0.0.0 without TLS and credentials"),
        ('metrics_host = "0.0.0.0"', "gateway.metrics_host would listen on 0.0.0.0"),
        ("max_batch = 0", "gateway.max_batch"),
        ('credentials = "none.json"', "none.json"),
        ('tls = { certificate = "none.pem", key = "none.pem" }', "none.pem"),
    ],
)
def test_a_configuration_that_cannot_hold_ends_with_one_clear_line(tmp_path: Path, gateway: str, named: str) -> None:
    write_tiny_bundle(tmp_path / "tiny", tier=Tier.FULL)
    if "metrics_host" in gateway:
        file = tmp_path / "cloud.toml"
        file.write_text(f"[gateway]\n{gateway}\n", encoding="utf-8")
    else:
        file = write_cloud_config(tmp_path, tmp_path / "tiny", gateway)
    ended = run_cloud_service("serve", "gateway", "--config", str(file))
    assert ended.returncode == 2
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_bundle_that_is_not_there_ends_with_one_clear_line(tmp_path: Path) -> None:
    ended = run_cloud_service("serve", "gateway", "--config", str(write_cloud_config(tmp_path, tmp_path / "none")))
    assert ended.returncode == 2
    assert str(tmp_path / "none") in ended.stderr
    assert "Traceback" not in ended.stderr
