"""The full model is exchanged while it serves."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import weakref
from pathlib import Path

import grpc.aio
import pytest

from cloud_service.config import GatewaySettings, ServedModelSettings
from cloud_service.gateway.bundle_watch import BundleWatch
from cloud_service.gateway.server import Gateway
from cloud_service.serving.model import FullModel, load_model
from shared.bundle import Tier
from shared.clock import SystemClock
from shared.errors import UnknownModel
from shared.folders import replacing_folder
from tests.support.gateway_parts import channel_to, question, running_gateway, stub_of, tiny_model
from tests.support.gateway_process import GatewayProcess, write_cloud_config
from tests.support.scripted_backend import ScriptedBackend
from tests.support.swap_parts import until
from tests.support.tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.anyio
FAST = GatewaySettings(port=0)


def exchange(folder: Path, version: str, model: str = "tiny") -> None:
    """As an operator or a deployment does: whole, or not at all."""
    with replacing_folder(folder) as fresh:
        fresh.rmdir()
        write_tiny_bundle(fresh, tier=Tier.FULL, version=version, model=model)


def loaded(folder: Path) -> FullModel:
    return load_model(ServedModelSettings(bundle=folder, threads=1))


def swaps(gateway: Gateway, result: str) -> float:
    words = {"model": "tiny", "result": result}
    return gateway.metrics.registry.get_sample_value("tandem_gateway_model_swaps_total", words) or 0.0


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    exchange(tmp_path / "bundle", "1.0.0")
    return tmp_path / "bundle"


async def test_under_load_no_call_fails_and_every_answer_is_of_a_model_that_served_meanwhile(
    bundle: Path, tmp_path: Path
) -> None:
    exchange(tmp_path / "other", "2.0.0")
    order, done, answers = ["1.0.0"], asyncio.Event(), []
    async with running_gateway(FAST, loaded(bundle)) as gateway, channel_to(gateway) as channel:
        stub = stub_of(channel)

        async def client() -> None:
            while not done.is_set():
                began = len(order) - 1
                answer = await stub.Infer(question("card cash"), timeout=60.0)
                answers.append((answer.model.version, set(order[began:]), answer.top[0].label))

        clients = [asyncio.create_task(client()) for _ in range(16)]
        for number in range(6):
            model = await asyncio.to_thread(loaded, (tmp_path / "other", bundle)[number % 2])
            order.append(model.identity.version)
            gateway.swap(model)
            before = len(answers)
            await until(lambda before=before: len(answers) > before + 20)  # type: ignore[misc]
        done.set()
        await asyncio.gather(*clients)
        counted = gateway.metrics.registry.get_sample_value(
            "tandem_gateway_requests_total", {"model": "tiny", "code": "OK"}
        )
        assert counted == len(answers) and swaps(gateway, "swapped") == 6
    assert all(version in served for version, served, _ in answers)
    assert {version for version, _, _ in answers} == {"1.0.0", "2.0.0"}


async def test_what_waits_in_the_line_is_computed_by_the_model_that_it_came_to(tmp_path: Path) -> None:
    slow, quick = ScriptedBackend(), ScriptedBackend()
    slow.hold()
    old, new = tiny_model(tmp_path / "old", slow), tiny_model(tmp_path / "new", quick)
    async with running_gateway(FAST, old) as gateway, channel_to(gateway) as channel:
        early = [stub_of(channel).Infer(question(), timeout=60.0)]
        await until(slow.begun.is_set)
        early += [stub_of(channel).Infer(question(), timeout=60.0) for _ in range(3)]
        await until(lambda: gateway_queue(gateway) == 3)
        gateway.swap(new)
        late = [stub_of(channel).Infer(question(), timeout=60.0) for _ in range(3)]
        await until(lambda: gateway_queue(gateway) == 6)
        slow.release()
        await asyncio.gather(*early, *late)
    assert (sum(map(len, slow.batches)), sum(map(len, quick.batches))) == (4, 3)


def gateway_queue(gateway: Gateway) -> float:
    return gateway.metrics.registry.get_sample_value("tandem_gateway_queued", {"model": "tiny"}) or 0.0


async def test_the_model_that_was_replaced_is_freed(bundle: Path, tmp_path: Path) -> None:
    exchange(tmp_path / "other", "2.0.0")
    model = loaded(bundle)
    async with running_gateway(FAST, loaded(bundle)) as gateway, channel_to(gateway) as channel:
        gateway.swap(model)
        old = weakref.ref(model)
        del model
        gc.disable()
        try:
            await stub_of(channel).Infer(question(), timeout=60.0)
            gateway.swap(loaded(tmp_path / "other"))
            await stub_of(channel).Infer(question(), timeout=60.0)
            await until(lambda: old() is None)
        finally:
            gc.enable()
        with pytest.raises(UnknownModel):
            exchange(tmp_path / "stranger", "1.0.0", model="stranger")
            gateway.swap(loaded(tmp_path / "stranger"))


async def test_a_bundle_that_was_exchanged_on_the_disk_is_taken_and_a_bad_one_is_not(
    bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_gateway(FAST, loaded(bundle)) as gateway, channel_to(gateway) as channel:
        settings = [ServedModelSettings(bundle=bundle, threads=1)]
        watch = BundleWatch(gateway, settings, ["tiny"], SystemClock(), 0.02)
        watching = asyncio.create_task(watch.run())
        try:
            exchange(bundle, "2.0.0")
            await until(lambda: gateway.served("tiny").version == "2.0.0")
            (bundle / "tokenizer.json").write_text("{}")
            await until(lambda: swaps(gateway, "failed") == 1)
            exchange(bundle, "3.0.0", model="stranger")
            await until(lambda: swaps(gateway, "failed") == 2)
            shutil.rmtree(bundle)
            await asyncio.sleep(0.1)
            assert (await stub_of(channel).Infer(question(), timeout=60.0)).model.version == "2.0.0"
            exchange(bundle, "4.0.0")
            await until(lambda: gateway.served("tiny").version == "4.0.0")
            assert (await stub_of(channel).Infer(question(), timeout=60.0)).model.version == "4.0.0"
        finally:
            watching.cancel()
            watch.close()
        assert (swaps(gateway, "swapped"), swaps(gateway, "failed")) == (2, 2)
    assert "tiny 2.0.0 answers on" in caplog.text and "stranger" in caplog.text


async def test_the_process_takes_a_new_bundle_when_it_is_told_to(bundle: Path, tmp_path: Path) -> None:
    config = write_cloud_config(tmp_path, bundle, "watch_bundles_ms = 0")
    with GatewayProcess(config) as gateway:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
            assert (await stub_of(channel).Infer(question(), timeout=60.0)).model.version == "1.0.0"
            exchange(bundle, "2.0.0")
            os.kill(gateway.process.pid, signal.SIGHUP)
            await until(lambda: any("2.0.0 answers in place of 1.0.0" in line for line in gateway.log))
            assert (await stub_of(channel).Infer(question(), timeout=60.0)).model.version == "2.0.0"
        info = [line for line in gateway.metrics().splitlines() if line.startswith("tandem_gateway_model_info{")]
        assert len(info) == 1 and 'version="2.0.0"' in info[0]
        assert gateway.terminate() == 0
