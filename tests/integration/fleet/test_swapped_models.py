"""Models are swapped on a device, and the fleet's sums stay exact: through a real broker, whoever was away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from cloud_service.fleet.buckets import FLEET_WIDTHS_S, WHOLE_FLEET, Retention
from cloud_service.fleet.ingest import BrokerState, Ingest
from edge_agent.answers import InferenceRequest
from edge_agent.config import BrokerSettings
from edge_agent.labelling import LabelClaim, LabelDesk
from edge_agent.lanes import Lane
from edge_agent.pipeline import Pipeline
from edge_agent.reporting import Reporter
from edge_agent.state.answers import UnsavedAnswers
from edge_agent.state.file import StateFile
from edge_agent.state.keeper import StateKeeper, StateThread
from edge_agent.telemetry import Telemetry
from edge_agent.update.host import PipelineHost
from shared import topics
from shared.clock import SystemClock
from shared.codec import encode_policy
from shared.mqtt import BrokerAddress, BrokerLink, Message
from shared.types import GatePolicy
from tests.support.fake_clock import FakeClock
from tests.support.memory_store import MemoryStore
from tests.support.mosquitto import EXECUTABLE, Mosquitto
from tests.support.swap_parts import open_test_host, release_at, until, write_release

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(EXECUTABLE is None, reason="mosquitto is not installed")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Device:
    """A device d1 with host, state and telemetry, as an agent puts them together."""

    def __init__(self, pipeline: Pipeline, host: PipelineHost, keeper: StateKeeper, telemetry: Telemetry) -> None:
        self.pipeline, self.host, self.keeper, self.telemetry = pipeline, host, keeper, telemetry
        self.desk = LabelDesk(pipeline.lanes, keeper, tells_cloud=False, max_waiting=100)

    async def answer(self, count: int, request_id: str = "") -> None:
        for _ in range(count):
            await self.pipeline.answer(InferenceRequest("card", request_id=request_id))

    async def swap(self, folder: Path) -> None:
        await self.host.switch(await self.host.load(folder, release_at(folder)))


@asynccontextmanager
async def running_device(bundle: Path, broker: Mosquitto, state: Path, boot_id: str) -> AsyncIterator[Device]:
    memory, thread, clock = UnsavedAnswers(1000), StateThread(), SystemClock()
    settings = BrokerSettings(host="127.0.0.1", port=broker.port, telemetry_interval_ms=100)
    made: list[Device] = []

    def policies(model: str) -> list[bytes]:
        return made[0].keeper.policies(model)

    async def follow(lane: Lane) -> None:
        await made[0].telemetry.follow(lane)

    with open_test_host(bundle, memory=memory, policies=policies, follow=follow) as (pipeline, host):
        reporter = Reporter("d1", boot_id, "default", pipeline.lanes, lambda: None, clock)
        async with StateKeeper(StateFile(state, boot_id, 1000), thread, reporter, memory) as keeper:
            telemetry = Telemetry(settings, "default", reporter, keeper, pipeline.lanes, clock)
            made.append(Device(pipeline, host, keeper, telemetry))
            running = asyncio.create_task(telemetry.run())
            try:
                yield made[0]
                await telemetry.farewell()
            finally:
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running
        thread.close()


async def heard_by_a_late_fleet(broker: Mosquitto) -> MemoryStore:
    """The sums of a fleet service that comes only now, and hears what the broker retained."""
    store, clock = MemoryStore(), FakeClock()
    state = BrokerState("localhost:1883", True, "")
    ingest = Ingest(store, clock, lambda: state, commit_interval_s=1, retention=Retention(minutes_s=3600))
    heard: list[Message] = []

    async def hear(message: Message) -> None:
        heard.append(message)
        await ingest.take(message)

    link = BrokerLink(
        BrokerAddress("127.0.0.1", broker.port),
        "fleet",
        SystemClock(),
        subscriptions=(topics.ALL_LAST_WORDS, topics.ALL_TELEMETRY),
        on_message=hear,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(link.run)
        await until(lambda: len(heard) > 0)
        await anyio.sleep(0.3)
        tasks.cancel_scope.cancel()
    await ingest.commit()
    return store


async def test_a_fleet_that_was_away_hears_of_every_version_that_answered(tmp_path: Path) -> None:
    bundles = [tmp_path / str(number) for number in range(3)]
    for number, folder in enumerate(bundles):
        write_release(folder, f"{number}.0.0")
    with Mosquitto(tmp_path / "broker") as broker:
        async with running_device(bundles[0], broker, tmp_path / "d1.sqlite", "b1") as device:
            await until(lambda: device.telemetry.is_connected)
            await device.answer(1, "early")
            await device.answer(4)
            for folder, count in ((bundles[1], 7), (bundles[0], 3), (bundles[1], 2), (bundles[2], 11)):
                await device.swap(folder)
                await device.answer(count)
            await device.desk.take([LabelClaim("early", "card")])
        async with running_device(bundles[2], broker, tmp_path / "d1.sqlite", "b2") as device:
            await until(lambda: device.telemetry.is_connected)
            await device.answer(1)
        store = await heard_by_a_late_fleet(broker)
    for width_s in FLEET_WIDTHS_S:
        assert store.sum(width_s).counters.edge == 5 + 7 + 3 + 2 + 11 + 1
        assert store.sum(width_s).labels["card"].labelled == 1
    by_version = {
        key.model_version: tally.counters.edge
        for key, tally in store.counts.items()
        if key.bucket.width_s == FLEET_WIDTHS_S[0] and key.device_id == WHOLE_FLEET
    }
    assert by_version == {"0.0.0": 8, "1.0.0": 9, "2.0.0": 12}


async def test_a_broker_that_lost_everything_is_told_again_of_the_versions_before(tmp_path: Path) -> None:
    for number in (1, 2):
        write_release(tmp_path / str(number), f"{number}.0.0")
    broker = Mosquitto(tmp_path / "broker")
    with broker:
        async with running_device(tmp_path / "1", broker, tmp_path / "d1.sqlite", "b1") as device:
            await until(lambda: device.telemetry.is_connected)
            await device.answer(3)
            await device.swap(tmp_path / "2")
            await device.answer(4)
            broker.kill()
            await until(lambda: not device.telemetry.is_connected)
            await device.answer(1)
            await device.swap(tmp_path / "1")
            await device.answer(2)
            broker.start()
            await until(lambda: device.telemetry.is_connected)
        store = await heard_by_a_late_fleet(broker)
    assert store.sum(FLEET_WIDTHS_S[0]).counters.edge == 10


async def test_after_a_swap_the_policies_for_the_new_gate_are_heard_and_kept_for_its_return(tmp_path: Path) -> None:
    for number in (1, 2):
        write_release(tmp_path / str(number), f"{number}.0.0")

    async def issue(broker: Mosquitto, number: int) -> None:
        digest = release_at(tmp_path / str(number)).gate_digest
        policy = encode_policy(GatePolicy(f"p{number}", 1, "tiny", digest, {"kept-error": 0.2}))
        link = BrokerLink(BrokerAddress("127.0.0.1", broker.port), f"fleet{number}", SystemClock())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(link.run)
            await until(lambda: link.statistics().connected)
            await link.publish(topics.policy("default", "tiny", digest), policy, retain=True)
            tasks.cancel_scope.cancel()

    def obeyed(device: Device) -> str:
        return device.pipeline.lanes["tiny"].control.report().policy_id

    with Mosquitto(tmp_path / "broker") as broker:
        async with running_device(tmp_path / "1", broker, tmp_path / "d1.sqlite", "b1") as device:
            await until(lambda: device.telemetry.is_connected)
            await issue(broker, 1)
            await until(lambda: obeyed(device) == "p1")
            await device.swap(tmp_path / "2")
            await issue(broker, 2)
            await until(lambda: obeyed(device) == "p2")
            await device.keeper.save()
            broker.kill()
            await until(lambda: not device.telemetry.is_connected)
            await device.swap(tmp_path / "1")
            assert obeyed(device) == "p1"
            await device.swap(tmp_path / "2")
            assert obeyed(device) == "p2"
