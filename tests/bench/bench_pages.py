"""How long each page takes on a store of ten thousand devices with the fleet's full retention.

The fleet's own rows go back all the way: an hour of ten seconds, two days of minutes, thirty days of hours, two years
of days. Rows of single devices go back as far as any page looks at all of them (--device-days, -hours, -minutes: more;
--full: all that is kept by default, which is 43 million rows of ten thousand devices).
Of comparisons and true labels there are as many as are kept. Pages are read by an operator who is signed in. Beside
the wall time, which other programs on the machine lengthen, stands the CPU time of the process that serves the pages.
With --store FOLDER the store stays there and is measured again, if it is not older than what the pages look at.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil

from cloud_service.fleet.buckets import DAY_S, HOUR_S, MINUTE_S, Retention
from tests.bench.report import Figure, finish, options
from tests.support.fleet_process import CloudRole, write_cloud_toml
from tests.support.full_records import SESSION_ID, fill_records
from tests.support.full_store import Extent, device_name, fill_store

ROUNDS = 40
RECORDS = 1_000_000
ONE_DEVICE = 234
PAGES = {
    "overview, 15 minutes": "?range=15m",
    "overview, 24 hours": "?range=24h",
    "offload by ring, 24 hours": "offload",
    "offload by device, 1 hour": "offload?by=device&range=1h",
    "offload by device, 24 hours": "offload?by=device",
    "offload by device, 7 days": "offload?by=device&range=7d",
    "offload by device, a year": "offload?by=device&range=1y",
    "offload by model version, 30 days": "offload?by=version&range=30d",
    "offload by reason, 7 days": "offload?by=reason&range=7d",
    "offload by label, 24 hours": "offload?by=label",
    "offload by label, a year": "offload?by=label&range=1y",
    "offload against the day before": "offload?against=before",
    "offload as CSV": "offload.csv?by=label&range=7d",
    "devices by name": "devices",
    "devices by p99, page 100": "devices?sort=-p99&page=100",
    "devices found by a part of the name": "devices?q=0012&sort=-offload",
    "one device, 24 hours": f"devices/{device_name(ONE_DEVICE)}",
    "one device, 30 days": f"devices/{device_name(ONE_DEVICE)}?range=30d",
    "risk": "risk",
    "risk of the canaries": "risk?ring=canary",
    "hard cases": "hard-cases",
    "hard cases, true labels, 30 days": "hard-cases?kind=labels&range=30d",
    "log of actions": "log",
    "log, one user's, far back": "log?actor=user-7&before=20000",
}


@dataclass(frozen=True)
class Took:
    """Each round's wall time, and the CPU time that the server spent on all of them; in ms."""

    walls_ms: list[float]
    cpu_ms: float


def page_ms(web: CloudRole, path: str) -> Took:
    """Asked for again and again, after once in advance; the overview no more often than it is read anew."""
    request = urllib.request.Request(web.url + path, headers={"Cookie": f"tandem_session={SESSION_ID}"})
    urllib.request.urlopen(request, timeout=60.0).close()
    walls, began_cpu_s = [], cpu_s(web.pid)
    for _ in range(ROUNDS):
        time.sleep(0.21 if path.startswith("?") else 0.0)
        began_s = time.perf_counter()
        with urllib.request.urlopen(request, timeout=60.0) as answer:
            answer.read()
            assert "/login" not in answer.url
        walls.append((time.perf_counter() - began_s) * 1e3)
    return Took(walls, (cpu_s(web.pid) - began_cpu_s) * 1e3)


def cpu_s(pid: int) -> float:
    """What a process has spent so far, in seconds."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def figures_of(words: str, took: Took) -> list[Figure]:
    """The lines of one page."""
    walls = took.walls_ms
    p95, cpu = statistics.quantiles(walls, n=20, method="inclusive")[-1], took.cpu_ms / len(walls)
    return [
        Figure(f"{words}: p95 of {len(walls)}", p95, min(walls), max(walls), "ms", "≤ 300"),
        Figure(f"{words}: median", statistics.median(walls), min(walls), max(walls), "ms"),
        Figure(f"{words}: CPU, mean", cpu, cpu, cpu, "ms"),
    ]


@dataclass(frozen=True)
class Store:
    """What is filled in: rows of counts, and so many comparisons, true labels and, a tenth of it, actions."""

    folder: Path | None
    extent: Extent
    records: int


def parsed() -> argparse.Namespace:
    """The command line."""
    parser, usual = options(__doc__), Extent()
    parser.add_argument("--devices", type=int, default=usual.devices)
    parser.add_argument("--device-days", type=int, default=usual.days_s // DAY_S)
    parser.add_argument("--device-hours", type=int, default=usual.hours_s // HOUR_S)
    parser.add_argument("--device-minutes", type=int, default=usual.minutes_s // MINUTE_S)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--full", action="store_true")
    return parser.parse_args()


def store_of(asked: argparse.Namespace) -> Store:
    """What to fill in, and where."""
    kept = Retention()
    spans = (asked.device_minutes * MINUTE_S, asked.device_hours * HOUR_S, asked.device_days * DAY_S)
    spans = (kept.minutes_s, kept.hours_s, kept.days_s) if asked.full else spans
    return Store(asked.store, Extent(asked.devices, *spans), asked.records)


def fill(file: Path, store: Store) -> None:
    """Fill the file and say how; it is there once it is whole."""
    began_s, unfinished, number = time.perf_counter(), file.with_name("unfinished.sqlite"), store.records
    unfinished.unlink(missing_ok=True)
    rows = fill_store(unfinished, int(time.time()), store.extent, lambda words: _tell(words, began_s))
    fill_records(unfinished, int(time.time()), comparisons=number, labels=number, actions=number // 10)
    unfinished.rename(file)
    print(
        f"{store.extent}; {rows:,} rows of counts, {number:,} comparisons and as many true labels, {number // 10:,} "
        f"actions, {file.stat().st_size / 1e6:,.0f} MB, filled in {time.perf_counter() - began_s:.0f} s\n"
    )


def _tell(words: str, began_s: float) -> None:
    print(f"{words}, {time.perf_counter() - began_s:.0f} s", flush=True)


def main() -> None:
    """Fill, measure and print."""
    asked, figures = parsed(), []
    store = store_of(asked)
    with tempfile.TemporaryDirectory() as name:
        folder = store.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        config = write_cloud_toml(folder, 1)
        file = folder / "data" / "fleet.sqlite"
        if not file.exists():
            fill(file, store)
        with CloudRole(config, "web") as web:
            for words, path in PAGES.items():
                figures += figures_of(words, page_ms(web, path))
    finish(figures, __doc__ or "", asked)


if __name__ == "__main__":
    main()
