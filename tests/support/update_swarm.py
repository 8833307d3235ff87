"""Many devices that update themselves, few processes: all of an agent's update client but the engine.

Each has a connection, signed metadata, slots and saved state of its own; only who runs the models is a stand-in, which
says of each version whether it is any good. `python -m tests.support.update_swarm '{...}'` is one process of them;
`UpdateSwarm` starts several. Real bundles that are as bad come from `write_bad_bundle`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import anyio
import onnx
import uvloop
from onnx import helper

from edge_agent.update.disk import RealDisk
from edge_agent.update.mqtt_source import MqttSource
from edge_agent.update.parts import UpdateSettings
from edge_agent.update.ports import RepositorySource
from edge_agent.update.reports import DeviceFacts
from edge_agent.update.slots import ModelSlots
from edge_agent.update.staging import DiskBudget
from edge_agent.update.trust import TufRepository
from edge_agent.update.updater import Updater
from shared import topics
from shared.bundle import Manifest
from shared.clock import SystemClock
from shared.codec import encode_presence
from shared.errors import BrokerError, EngineError, ProvingFailed
from shared.mqtt import BrokerAddress, BrokerLink, Message
from shared.types import Presence
from shared.update.assignment import Assignment, Trial
from shared.update.codec import encode_report
from shared.update.report import InstalledRelease, Phase, TrialFigures, UpdateReport
from tests.support.fake_update_peers import FakeHost
from tests.support.slow_graph import slow_graph
from tests.support.tiny_bundle import LABELS, tiny_graph, write_tiny_bundle

ROOT = Path(__file__).resolve().parents[2]
DEVICE_TRIAL = Trial(requests=20, seconds=1.0, longest_s=60.0, max_offload_rise=1.0, max_latency_ratio=10.0)
_BLOCKING_THREADS = 16
_CONNECTS_PER_S = 100
_CONNECT_TIMEOUT_S = 120.0
T = TypeVar("T")


class Fault(str, Enum):
    """What is wrong with a version."""

    WRONG = "wrong"
    SLOW = "slow"
    CRASHES = "crashes"


def write_bad_bundle(folder: Path, version: str, fault: Fault) -> Manifest:
    """A bundle that a real agent finds as bad as the stand-in says: published, signed and whole all the same."""
    if fault is Fault.WRONG:
        graph = tiny_graph(LABELS)
        table = next(each for each in graph.graph.initializer if each.name == "table")
        table.raw_data = bytes(len(table.raw_data))
    elif fault is Fault.SLOW:
        graph = slow_graph(LABELS)
    else:
        graph = _graph_of_no_operator()
    return write_tiny_bundle(folder, version=version, graph=graph)


def _graph_of_no_operator() -> onnx.ModelProto:
    model = tiny_graph(LABELS)
    node = next(node for node in model.graph.node if node.op_type == "ReduceSum")
    node.CopyFrom(helper.make_node("NoSuchOperator", list(node.input), list(node.output), domain="nowhere"))
    model.opset_import.append(helper.make_opsetid("nowhere", 1))
    return model


class StandInHost(FakeHost):
    """Says of a version what its fault would show: at loading, in the golden set, or in the trial."""

    def __init__(self, faults: Mapping[str, Fault]) -> None:
        super().__init__()
        for version, fault in faults.items():
            if fault is Fault.CRASHES:
                self.faults["load", version] = EngineError("the engine cannot load the graph")
            elif fault is Fault.WRONG:
                self.faults["prove", version] = ProvingFailed("the golden set is answered otherwise")
            else:
                self.figures[version] = TrialFigures(requests=1000, latency_ms=100.0, old_latency_ms=1.0)

    @property
    def loaded(self) -> set[str]:
        """Every version that was ever to be loaded."""
        return {event.split()[-1] for event in self.events if event.startswith("load")}


class WatchedRepository(TufRepository):
    """Counts the looks that came to their end."""

    looks = 0

    async def assignment(self, ring: str, model: str) -> Assignment | None:
        """See `TrustedRepository`."""
        found = await super().assignment(ring, model)
        self.looks += 1
        return found


class InTurn:
    """One device's blocking work: one at a time, in threads that many devices share."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._lock = anyio.Lock()

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns."""
        async with self._lock:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _as_it_is(source: MqttSource) -> RepositorySource:
    return source


class SwarmDevice:
    """One device. `folder` is its own; `counted` may put something between it and the source of its files."""

    def __init__(
        self,
        device_id: str,
        ring: str,
        factory: Path,
        folder: Path,
        pinned_root: bytes,
        port: int,
        threads: ThreadPoolExecutor,
        *,
        faults: Mapping[str, Fault] | None = None,
        hint_spread_s: float = 0.0,
        interval_s: float = 3600.0,
        counted: Callable[[MqttSource], RepositorySource] = _as_it_is,
    ) -> None:
        clock = SystemClock()
        self.device_id, self.ring = device_id, ring
        self.slots = ModelSlots(folder, factory, RealDisk())
        self.host = StandInHost(faults or {})
        start = self.slots.start()
        self.host.boot(start.folder, start.release)
        self.slots.ready()
        source = MqttSource(device_id, self._publish, clock)
        self._blocks = source
        files = counted(source)
        facts = DeviceFacts(device_id, "boot-1", ring, "x86_64", "0.1.0")
        self.repository = WatchedRepository(
            files, folder, pinned_root, clock, device_id=device_id, hardware=facts.hardware
        )
        settings = UpdateSettings(interval_s, hint_spread_s, budget=DiskBudget(0))
        self.updater = Updater(
            facts,
            (self.slots,),
            self.repository,
            files,
            self.host,
            report=self._report,
            run_blocking=InTurn(threads).run,
            clock=clock,
            settings=settings,
        )
        self.link = self._make_link(port, clock)
        self.reports = 0
        self._untold: UpdateReport | None = None
        self._has_news = anyio.Event()

    @property
    def active(self) -> InstalledRelease:
        """What answers."""
        return self.host.active(self.slots.model)

    @property
    def is_connected(self) -> bool:
        """Whether the broker knows it."""
        return self.link.statistics().connected

    def has_committed(self, version: str, gate_digest: str) -> bool:
        """Whether it runs this version with this gate, for good."""
        told = (self.active.version, self.active.gate_digest)
        return self.slots.state.phase is Phase.COMMITTED and told == (version, gate_digest)

    async def run(self) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.link.run)
            tasks.start_soon(self._tell)
            tasks.start_soon(self.updater.run)

    def _make_link(self, port: int, clock: SystemClock) -> BrokerLink:
        model = self.slots.model
        return BrokerLink(
            BrokerAddress("127.0.0.1", port),
            self.device_id,
            clock,
            will=Message(topics.presence(self.device_id), self._presence(online=False), retained=True),
            subscriptions=(
                *self._blocks.subscriptions,
                topics.ring_desired(self.ring, model),
                topics.desired(self.device_id, model),
            ),
            on_connect=self._connected,
            on_message=self._hear,
        )

    def _presence(self, *, online: bool) -> bytes:
        return encode_presence(Presence(self.device_id, "boot-1", online, 0, "0.1.0", self.ring))

    async def _publish(self, topic: str, payload: bytes, *, retain: bool, qos: int) -> None:
        await self.link.publish(topic, payload, retain=retain, qos=qos)

    async def _connected(self) -> None:
        await self.link.publish(topics.presence(self.device_id), self._presence(online=True), retain=True)
        await self._blocks.reconnected()
        for report in self.updater.latest_reports:
            self._report(report)

    async def _hear(self, message: Message) -> None:
        if message.topic.endswith("/desired"):
            self.updater.hint(self.slots.model)
        else:
            await self._blocks.hear(message)

    def _report(self, report: UpdateReport) -> None:
        self.reports += 1
        self._untold = report
        self._has_news.set()

    async def _tell(self) -> None:
        while True:
            await self._has_news.wait()
            self._has_news = anyio.Event()
            while self._untold is not None and self.is_connected:
                report, self._untold = self._untold, None
                topic = topics.reported(report.device_id, report.model)
                try:
                    await self.link.publish(topic, encode_report(report), retain=True)
                except BrokerError:
                    self._untold = self._untold or report
                    break


@dataclass(frozen=True)
class SwarmPlan:
    """Which devices one process plays. `devices` from id to ring; `faults` by version."""

    port: int
    folder: str
    factory: str
    root_file: str
    devices: dict[str, str]
    faults: dict[str, Fault]
    hint_spread_s: float


@dataclass(frozen=True)
class DeviceWord:
    """What became of one device, by its own count. `loaded`: every version that it ever began to load."""

    device_id: str
    ring: str
    version: str
    phase: str
    loaded: tuple[str, ...]
    reports: int
    connections: int


async def play(plan: SwarmPlan, pinned_root: bytes) -> None:
    """Connect all, say so, and at a line of input say what became of them; ends at the end of input."""
    threads = ThreadPoolExecutor(_BLOCKING_THREADS)
    devices: list[SwarmDevice] = []
    async with anyio.create_task_group() as tasks:
        for device_id, ring in plan.devices.items():
            device = SwarmDevice(
                device_id,
                ring,
                Path(plan.factory),
                Path(plan.folder) / device_id,
                pinned_root,
                plan.port,
                threads,
                faults=plan.faults,
                hint_spread_s=plan.hint_spread_s,
            )
            devices.append(device)
            tasks.start_soon(device.run)
            await anyio.sleep(1 / _CONNECTS_PER_S)
        with anyio.fail_after(_CONNECT_TIMEOUT_S):
            while not all(device.is_connected for device in devices):  # noqa: ASYNC110
                await anyio.sleep(0.05)
        _say("connected")
        while await asyncio.to_thread(sys.stdin.readline):
            _say(json.dumps([asdict(word_of(device)) for device in devices]))
        tasks.cancel_scope.cancel()
    threads.shutdown()


def word_of(device: SwarmDevice) -> DeviceWord:
    """As it is now."""
    return DeviceWord(
        device.device_id,
        device.ring,
        device.active.version,
        device.slots.state.phase.value,
        tuple(sorted(device.host.loaded)),
        device.reports,
        device.link.statistics().connections,
    )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class UpdateSwarm:
    """`with UpdateSwarm(plans) as swarm:` has the devices of all plans connected when the block begins."""

    def __init__(self, plans: Sequence[SwarmPlan]) -> None:
        self._players = [_started(plan) for plan in plans]

    def __enter__(self) -> UpdateSwarm:
        try:
            for player in self._players:
                assert _line(player) == "connected\n", "a process of the swarm did not connect"
        except AssertionError:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pids(self) -> list[int]:
        """Of the processes."""
        return [player.pid for player in self._players]

    def words(self) -> list[DeviceWord]:
        """What every device says of itself now."""
        for player in self._players:
            assert player.stdin is not None
            player.stdin.write("\n")
            player.stdin.flush()
        told = [each for player in self._players for each in json.loads(_line(player))]
        return [DeviceWord(**{**each, "loaded": tuple(each["loaded"])}) for each in told]

    def kill(self) -> None:
        """SIGKILL."""
        for player in self._players:
            player.kill()
            player.communicate()


def _started(plan: SwarmPlan) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.support.update_swarm", json.dumps(asdict(plan))]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _line(player: subprocess.Popen[str]) -> str:
    assert player.stdout is not None
    return player.stdout.readline()


def _plan_of(text: str) -> SwarmPlan:
    told = json.loads(text)
    return SwarmPlan(**{**told, "faults": {version: Fault(fault) for version, fault in told["faults"].items()}})


if __name__ == "__main__":
    told = _plan_of(sys.argv[1])
    uvloop.run(play(told, Path(told.root_file).read_bytes()))
