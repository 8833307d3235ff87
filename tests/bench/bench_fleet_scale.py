"""One fleet process behind mosquitto with many devices that report: its CPU time, memory and lag, and nothing lost."""

from __future__ import annotations

import resource
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from cloud_service.fleet.reading import FleetReading
from shared.types import RequestCounters
from tests.bench.report import Figure, finish, options
from tests.support.device_swarm import Outcome, Swarm
from tests.support.fleet_process import CloudRole, StoreWatch
from tests.support.mosquitto import Mosquitto
from tests.support.swarm_words import Profile, non_zero_counts

_SAMPLE_S = 5.0
_SETTLE_S = 120.0
_FILES_BESIDE = 500
_PRESENT = 'tandem_fleet_messages_total{kind="presence"}'
_HEARD = 'tandem_fleet_messages_total{kind="telemetry"}'


@dataclass
class Watch:
    """What the fleet process needs while it runs, read every few seconds from outside."""

    lag_s: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)

    def run(self, fleet: CloudRole, process: psutil.Process, stopped: threading.Event) -> None:
        """Until `stopped`."""
        while not stopped.wait(_SAMPLE_S):
            self.lag_s.append(fleet.metric("tandem_fleet_lag_seconds"))
            self.waiting.append(fleet.metric("tandem_fleet_messages_waiting"))
            self.rss_mb.append(process.memory_info().rss / 1e6)


@dataclass(frozen=True)
class Run:
    """One run: `cpu_s` from the first report until the last one was booked, `wall_s` while the devices reported."""

    outcome: Outcome
    heard: int
    booked: RequestCounters
    cpu_s: float
    wall_s: float
    broker_cpu_s: float
    watch: Watch

    @property
    def lost(self) -> int:
        """Requests told of and not booked, by the counter that misses most; messages that were never heard."""
        told, booked = _values(self.outcome.counters), _values(self.booked)
        missing = [abs(one - other) for one, other in zip(told, booked, strict=True)]
        return max(*missing, self.outcome.messages - self.heard)


def measure(devices: int, minutes: float, interval_s: float) -> Run:
    """Start broker, fleet service and devices, let them report, and hold the store's sums against the truth."""
    steps = max(1, round(minutes * 60 / interval_s))
    raise_file_limit(devices + _FILES_BESIDE)
    with tempfile.TemporaryDirectory() as name, Mosquitto(Path(name) / "broker") as broker:
        config = write_config(Path(name), broker.port)
        swarm = Swarm(broker.port, devices, interval_s=interval_s, steps=steps)
        with CloudRole(config, "fleet") as fleet, swarm:
            wait_for_presences(fleet, devices)
            process, broker_process = psutil.Process(fleet.pid), psutil.Process(broker.pid)
            watch, stopped = Watch(), threading.Event()
            watcher = threading.Thread(target=watch.run, args=(fleet, process, stopped))
            watcher.start()
            began_s, cpu_s, broker_cpu_s = time.monotonic(), cpu_of(process), cpu_of(broker_process)
            swarm.begin()
            outcome = swarm.outcome()
            wall_s = time.monotonic() - began_s
            reading = settled(StoreWatch(config), outcome.counters)
            run = Run(
                outcome,
                int(fleet.metric(_HEARD)),
                reading.all_time.counters,
                cpu_of(process) - cpu_s,
                wall_s,
                cpu_of(broker_process) - broker_cpu_s,
                watch,
            )
            stopped.set()
            watcher.join()
            swarm.leave()
    return run


def wait_for_presences(fleet: CloudRole, devices: int) -> None:
    """Until the fleet service has heard that every device is there: from now on it hears every message."""
    until_s = time.monotonic() + _SETTLE_S
    while (heard := fleet.metric(_PRESENT)) < devices:
        if time.monotonic() > until_s:
            raise SystemExit(f"{devices - heard:.0f} devices said that they are there and were not heard")
        time.sleep(0.2)


def settled(store: StoreWatch, truth: RequestCounters) -> FleetReading:
    """The store's sums once they equal the truth, or after a while."""
    until_s = time.monotonic() + _SETTLE_S
    while True:
        reading = store.read()
        if reading is not None and (reading.all_time.counters == truth or time.monotonic() > until_s):
            return reading
        time.sleep(1.0)


def write_config(folder: Path, broker_port: int) -> Path:
    """As in production: one commit a second, everything else by default."""
    file = folder / "cloud.toml"
    file.write_text(
        f'data_dir = "data"\n[broker]\nport = {broker_port}\n[fleet]\nmetrics_port = 0\n[web]\nport = 0\n',
        encoding="utf-8",
    )
    return file


def raise_file_limit(least: int) -> None:
    """One connection is one open file, here for the processes of the swarm and for the broker."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < least:
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, max(hard, least)))


def cpu_of(process: psutil.Process) -> float:
    """CPU seconds of all its threads, in user and system mode."""
    times = process.cpu_times()
    return times.user + times.system


def figures_of(run: Run, devices: int) -> list[Figure]:
    """The table's lines."""
    messages, cores = run.outcome.messages, run.cpu_s / run.wall_s

    def one(what: str, value: float, unit: str, aim: str = "") -> Figure:
        return Figure(what, value, value, value, unit, aim)

    return [
        one("devices", devices, "connections"),
        one("counts in a message that are not zero", non_zero_counts(Profile.of(0).telemetry("d", 1)), "", "≥ 40"),
        one("telemetry messages", messages, f"in {run.wall_s:.0f} s"),
        one("messages or requests lost", run.lost, "", "0"),
        one("the fleet process", cores, "cores", "≤ 0.5"),
        one("the same, a message", run.cpu_s / messages * 1e6, "µs"),
        one("mosquitto", run.broker_cpu_s / run.wall_s, "cores"),
        Figure.of("lag of a commit", run.watch.lag_s or [0.0], "s"),
        Figure.of("waiting messages", run.watch.waiting or [0.0], ""),
        Figure.of("resident memory", run.watch.rss_mb or [0.0], "MB"),
        one("devices late by, at most", run.outcome.latest_s, "s"),
    ]


def main() -> None:
    """Measure and print; exit status 1 where something was lost."""
    parser = options(__doc__)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--interval-s", type=float, default=10.0)
    asked = parser.parse_args()
    run = measure(asked.devices, asked.minutes, asked.interval_s)
    finish(figures_of(run, asked.devices), __doc__ or "", asked)
    if run.lost:
        raise SystemExit(1)


def _values(counters: RequestCounters) -> list[int]:
    return list(asdict(counters).values())


if __name__ == "__main__":
    main()
