"""A fleet that takes releases: broker, publisher and rollout service as real processes, devices of the swarm, and real
agents under traffic among them. What became of a rollout is read from the store and from the devices' own reports.
"""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from cloud_service.cli import main
from cloud_service.config import load_cloud_settings
from cloud_service.registry.ceremony import init_repository
from cloud_service.registry.publishing import publish
from cloud_service.registry.repository import Repository, open_repository
from cloud_service.rollout.records import Rollout, RolloutState
from cloud_service.storage.action_store import ActionLog, Wanted
from cloud_service.storage.engine import open_engine
from cloud_service.storage.rollout_reader import RolloutReader
from shared import topics
from shared.update.codec import decode_report
from shared.update.report import ErrorKind, UpdateReport
from tests.support.agent_process import AgentProcess
from tests.support.fleet_process import CloudRole
from tests.support.mosquitto import Mosquitto
from tests.support.tiny_bundle import write_tiny_bundle
from tests.support.update_swarm import Fault, SwarmPlan, UpdateSwarm, write_bad_bundle

OLD, CANARY, STABLE, MODEL = "1.0.0", "canary", "stable", "tiny"
_BAD_KINDS = (ErrorKind.PROVING, ErrorKind.TRIAL, ErrorKind.REFUSED)
_PATIENCE_S = 900.0
_ASKED_EVERY_S = 0.1
PLAN = """
[trial]
requests = 10
seconds = 1.0
longest_s = 60.0
max_offload_rise = 1.0
max_latency_ratio = 10.0
[gates]
max_latency_ratio = 100.0
max_offload_rise = 1.0
"""
"""All share one machine: the agents' answers are slower while the devices work, whatever the release."""


class ReportWatch:
    """Hears every device's reports, and keeps what each of them ever named."""

    def __init__(self, port: int) -> None:
        self.newest: dict[str, tuple[float, UpdateReport]] = {}
        self.named: defaultdict[str, set[str]] = defaultdict(set)
        self.failed_s: dict[str, list[float]] = defaultdict(list)
        self._lock = threading.Lock()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="report-watch")
        self._client.on_connect = lambda client, *rest: client.subscribe(topics.ALL_REPORTED, 1)
        self._client.on_message = lambda client, data, message: self._hear(bytes(message.payload))
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def close(self) -> None:
        """Hear no more."""
        self._client.disconnect()
        self._client.loop_stop()

    def reports(self) -> dict[str, tuple[float, UpdateReport]]:
        """Each device's newest, and when it came (seconds since 1970-01-01 UTC)."""
        with self._lock:
            return dict(self.newest)

    def first_failure_s(self, version: str) -> float:
        """When the first device said that `version` is no good."""
        with self._lock:
            return min(self.failed_s[version])

    def failures(self, version: str) -> int:
        """How many reports said so."""
        with self._lock:
            return len(self.failed_s[version])

    def who_named(self, version: str) -> set[str]:
        """The devices of which any report named `version`, as running or on its way."""
        with self._lock:
            return {device for device, versions in self.named.items() if version in versions}

    def _hear(self, payload: bytes) -> None:
        report, now_s = decode_report(payload), time.time()
        with self._lock:
            self.newest[report.device_id] = now_s, report
            self.named[report.device_id].add(report.active.version)
            if report.candidate is not None:
                self.named[report.device_id].add(report.candidate.version)
                if report.error_kind in _BAD_KINDS:
                    self.failed_s[report.candidate.version].append(now_s)


class AskedAgent:
    """A real agent that is asked all the time; `answers` counts by version, and `failed` what was no answer."""

    def __init__(self, config: Path) -> None:
        self.answers: Counter[str] = Counter()
        self.failed = 0
        self._agent = AgentProcess(config)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> AskedAgent:
        self._agent.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def kill(self) -> None:
        """SIGKILL to the agent."""
        self._agent.kill()

    def _ask(self) -> None:
        while not self._ended.wait(_ASKED_EVERY_S):
            try:
                status, body = self._agent.post({"text": "alpha beta"}, timeout_s=60.0)
            except OSError:
                status, body = 0, {}
            if status == 200:
                self.answers[body["model"]["version"]] += 1
            else:
                self.failed += 1


@dataclass(frozen=True)
class Reached:
    """A good release. Seconds from its start until the first ring's devices said that they run it, and until all did,
    the store had their word, and the rollout was done.
    """

    canary_s: float
    all_s: float
    rollout: Rollout


@dataclass(frozen=True)
class Stopped:
    """A bad release. Seconds between the first report of a failure, the decision, and the ring's being back.

    `failures` are reports that held something against it, `tried` the devices that ever named it.
    """

    reason: str
    failures: int
    first_failure_to_decision_s: float
    decision_to_back_s: float
    first_failure_to_back_s: float
    tried: int


class UpdateFleet:
    """`with UpdateFleet(folder, devices=20, real=1) as fleet:` has every device known to the rollout service.

    A tenth of the devices of either kind, and at least one, is the ring "canary"; the others are "stable".
    `versions` says which are published after `OLD`, and what is wrong with each (None: nothing).
    """

    def __init__(
        self,
        folder: Path,
        *,
        devices: int,
        real: int,
        versions: dict[str, Fault | None],
        processes: int = 1,
        canary_share: float = 0.1,
        hint_spread_s: float = 1.0,
        devices_folder: Path | None = None,
    ) -> None:
        """`devices_folder`: for the simulated devices' slots, by default in `folder`."""
        self._folder = folder
        self._devices_folder = devices_folder or folder / "devices"
        self._versions = versions
        self._processes = processes
        self._hint_spread_s = hint_spread_s
        self.rings = {
            **_split("sim", devices, canary_share),
            **_split("real", real, canary_share),
        }
        self.agents: dict[str, AskedAgent] = {}
        self._stack = ExitStack()

    def __enter__(self) -> UpdateFleet:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def ring(self, name: str) -> set[str]:
        """The devices of a ring."""
        return {device for device, ring in self.rings.items() if ring == name}

    def reaches_all(self, version: str) -> Reached:
        """Roll a good release out, until every device runs it."""
        began_s = time.time()
        self._roll_out(version)
        canary = self.ring(CANARY)
        self._wait(lambda: self._run(canary, version), f"{version} in the first ring")
        canary_s = time.time() - began_s
        self._wait(lambda: self._run(set(self.rings), version), f"{version} everywhere")
        self._wait(lambda: self.newest().state is RolloutState.DONE, "the rollout's end")
        self._wait(lambda: self._stored(version) == len(self.rings), "the store's word for it")
        return Reached(canary_s, time.time() - began_s, self.newest())

    def stops(self, version: str) -> Stopped:
        """Roll a bad release out, until it is rolled back and the first ring runs the old one again."""
        before = self._running(CANARY)
        self._roll_out(version)
        self._wait(lambda: self.newest().state is RolloutState.ROLLED_BACK, f"{version} is rolled back")
        sequence = next(each.sequence for each in self.reader.orders(MODEL) if each.ring == CANARY)
        canary = self.ring(CANARY)
        self._wait(lambda: self._obeyed(canary, sequence, before), "the first ring is back")
        self._wait(lambda: self._stored_obeying(canary, sequence), "the store's word for it")
        reports = self.watch.reports()
        back_s = max(reports[device][0] for device in canary)
        first_s, decided_s = self.watch.first_failure_s(version), self._decided_s(version)
        return Stopped(
            self.newest().reason,
            self.watch.failures(version),
            decided_s - first_s,
            back_s - decided_s,
            back_s - first_s,
            len(self.watch.who_named(version)),
        )

    def newest(self) -> Rollout:
        """The rollout begun last."""
        return self.reader.rollouts(limit=1)[0]

    def _start(self, stack: ExitStack) -> None:
        self.broker = stack.enter_context(Mosquitto(self._folder / "broker"))
        config = self._folder / "cloud.toml"
        config.write_text(
            f'data_dir = "cloud"\n[broker]\nport = {self.broker.port}\n[delivery]\nrepository = "cloud/repository"\n'
            "port = 0\n[fleet]\nmetrics_port = 0\n[rollout]\ninterval_ms = 500\n",
            encoding="utf-8",
        )
        (self._folder / "plan.toml").write_text(PLAN, encoding="utf-8")
        settings = load_cloud_settings(config)
        self._publish_all(open_repository(settings))
        self._config = config
        engine = open_engine(settings.storage_url(), writes=False)
        stack.callback(engine.dispose)
        self.reader, self._log = RolloutReader(engine), ActionLog(engine)
        stack.enter_context(CloudRole(config, "fleet"))
        self.delivery = stack.enter_context(CloudRole(config, "delivery"))
        self.service = stack.enter_context(CloudRole(config, "rollout"))
        self.watch = ReportWatch(self.broker.port)
        stack.callback(self.watch.close)
        for device, ring in self.rings.items():
            if device.startswith("real"):
                self.agents[device] = AskedAgent(self._agent_config(device, ring))
                stack.callback(self.agents[device].kill)
        for agent in self.agents.values():
            stack.enter_context(agent)
        self.swarm = stack.enter_context(UpdateSwarm(self._plans()))
        self._wait(lambda: self._stored(OLD) == len(self.rings), "every device is known")

    def _publish_all(self, repository: Repository) -> None:
        init_repository(repository, threshold=1, root_keys=1)
        write_tiny_bundle(self._folder / OLD, version=OLD)
        publish(repository, self._folder / OLD)
        for version, fault in self._versions.items():
            if fault is None:
                write_tiny_bundle(self._folder / version, version=version)
            else:
                write_bad_bundle(self._folder / version, version, fault)
            publish(repository, self._folder / version)

    def _agent_config(self, device: str, ring: str) -> Path:
        file = self._folder / f"{device}.toml"
        file.write_text(
            f'device_id = "{device}"\nring = "{ring}"\nmodels = [{{ bundle = "{OLD}" }}]\n[http]\nport = 0\n'
            f'[broker]\nhost = "127.0.0.1"\nport = {self.broker.port}\n[state]\ndata_dir = "{device}"\n'
            f'[update]\nroot_file = "cloud/keys/root.json"\nhint_spread_ms = {int(self._hint_spread_s * 1000)}\n',
            encoding="utf-8",
        )
        return file

    def _plans(self) -> list[SwarmPlan]:
        simulated = [device for device in self.rings if device.startswith("sim")]
        faults = {version: fault for version, fault in self._versions.items() if fault}
        return [
            SwarmPlan(
                self.broker.port,
                str(self._devices_folder),
                str(self._folder / OLD),
                str(self._folder / "cloud" / "keys" / "root.json"),
                {device: self.rings[device] for device in simulated[place :: self._processes]},
                faults,
                self._hint_spread_s,
            )
            for place in range(self._processes)
        ]

    def _roll_out(self, version: str) -> None:
        canary = len(self.ring(CANARY))
        start = ("start", f"{MODEL}@{version}", "--rings", f"{CANARY},{STABLE}", "--soak", "2s", "--from", OLD)
        options = (
            "--min-devices",
            str(canary),
            "--plan",
            str(self._folder / "plan.toml"),
            "--config",
            str(self._config),
        )
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main(["rollout", *start, *options])
        assert code == 0, said.getvalue()

    def _run(self, devices: set[str], version: str) -> bool:
        reports = self.watch.reports()
        return all(reports[device][1].active.version == version for device in devices)

    def _running(self, ring: str) -> str:
        reports = self.watch.reports()
        (version,) = {reports[device][1].active.version for device in self.ring(ring)}
        return version

    def _obeyed(self, devices: set[str], sequence: int, version: str) -> bool:
        told = [self.watch.reports()[device][1] for device in devices]
        return all(each.active.version == version and each.assignment_sequence >= sequence for each in told)

    def _stored_obeying(self, devices: set[str], sequence: int) -> bool:
        found = [self.reader.report(device, MODEL) for device in devices]
        return all(each is not None and each.assignment_sequence >= sequence for each in found)

    def _stored(self, version: str) -> int:
        return sum(share.devices for share in self.reader.ring_shares(MODEL) if share.version == version)

    def _decided_s(self, version: str) -> float:
        taken_back = self._log.read(Wanted(20, action="rollout.roll_back"))
        return next(each.entry.at_unix_ms for each in taken_back if version in each.entry.detail) / 1e3

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        until_s = time.monotonic() + _PATIENCE_S
        while not condition():
            assert time.monotonic() < until_s, f"waited in vain: {what}"
            time.sleep(0.2)


def _split(name: str, devices: int, canary_share: float) -> dict[str, str]:
    canary = min(devices, max(1, round(devices * canary_share)))
    return {f"{name}-{number:04d}": CANARY if number < canary else STABLE for number in range(devices)}


def all_named(fleet: UpdateFleet, versions: Sequence[str]) -> set[str]:
    """The devices of "stable" that any of these versions came near: by their reports, and by their own count."""
    stable = fleet.ring(STABLE)
    reported = {device for version in versions for device in fleet.watch.who_named(version)}
    loaded = {word.device_id for word in fleet.swarm.words() if set(word.loaded) & set(versions)}
    answered = {name for name, agent in fleet.agents.items() if set(agent.answers) & set(versions)}
    return stable & (reported | loaded | answered)
