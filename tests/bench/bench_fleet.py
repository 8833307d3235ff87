"""The fleet service's CPU time a message, and how long the operator's page takes, on a store that this fills."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

from cloud_service.fleet.buckets import Retention
from cloud_service.fleet.ingest import BrokerState, Ingest
from cloud_service.storage.engine import open_engine
from cloud_service.storage.fleet_store import FleetStore
from shared import topics
from shared.codec import decode_telemetry, encode_telemetry
from shared.mqtt import Message
from shared.types import Outcome
from tests.bench.report import Figure, finish
from tests.support.fake_clock import FakeClock
from tests.support.fleet_process import CloudRole, write_cloud_toml
from tests.support.simulated_device import CountedModel

ROUNDS, DEVICES, DECODED, PAGES = 5, 1000, 2000, 40
SHOWN_DEVICES, SHOWN_MINUTES = 100, 60
_OUTCOMES = (Outcome.EDGE, Outcome.EDGE, Outcome.CLOUD, Outcome.DEGRADED)


def busy(model: CountedModel, step: int) -> None:
    """Requests of all outcomes over ten buckets each, so that a message has some 50 non-zero series."""
    for place in range(40):
        model.serve(_OUTCOMES[place % 4], latency_ms=1.5 * 1.4 ** (place // 4) + step % 3)


def words(models: list[CountedModel], step: int) -> list[Message]:
    """One message of each device, in which everything has moved on."""
    for model in models:
        busy(model, step)
    told = [model.telemetry() for model in models]
    return [Message(topics.telemetry(each.device_id, each.model.name), encode_telemetry(each)) for each in told]


def ingest_into(folder: Path, clock: FakeClock) -> tuple[Ingest, FleetStore]:
    """The real ingest on a real SQLite store."""
    store = FleetStore(open_engine(f"sqlite:///{folder / 'data' / 'fleet.sqlite'}", writes=True))
    broker = BrokerState("localhost:1883", True, "")
    return Ingest(store, clock, lambda: broker, commit_interval_s=1, retention=Retention()), store


def decode_us() -> float:
    """CPU time of decoding one message."""
    (message,) = words([CountedModel("d1", "b1")], 0)
    began_s = time.process_time()
    for _ in range(DECODED):
        decode_telemetry(message.payload)
    return (time.process_time() - began_s) / DECODED * 1e6


async def ingest_us(folder: Path) -> list[float]:
    """CPU time a message, of every round: a thousand devices in one commit, MQTT apart."""
    clock = FakeClock()
    ingest, store = ingest_into(folder, clock)
    await ingest.open()
    models = [CountedModel(f"device-{number}", "b1") for number in range(DEVICES)]
    rounds = []
    for step in range(ROUNDS + 1):
        messages = words(models, step)
        began_s = time.process_time()
        for message in messages:
            await ingest.take(message)
        await ingest.commit()
        rounds.append((time.process_time() - began_s) / DEVICES * 1e6)
        clock.advance(10)
    store.close()
    return rounds[1:]


async def fill(folder: Path) -> None:
    """An hour of a hundred devices, ending now."""
    clock = FakeClock(unix_s=time.time() - SHOWN_MINUTES * 60)
    ingest, store = ingest_into(folder, clock)
    await ingest.open()
    models = [CountedModel(f"device-{number}", "b1") for number in range(SHOWN_DEVICES)]
    for step in range(SHOWN_MINUTES):
        for message in words(models, step):
            await ingest.take(replace(message, retained=False))
        await ingest.commit()
        clock.advance(60)
    store.close()


def page_ms(web: CloudRole, query: str) -> list[float]:
    """Wall time of a page, read anew each time."""
    took = []
    for _ in range(PAGES):
        time.sleep(0.21)
        began_s = time.perf_counter()
        with urllib.request.urlopen(web.url + query, timeout=10.0) as answer:
            answer.read()
        took.append((time.perf_counter() - began_s) * 1e3)
    return took


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = [
            Figure.of("decode one telemetry message, CPU", [decode_us() for _ in range(ROUNDS)], "µs"),
            Figure.of("take, book and commit one message, CPU", asyncio.run(ingest_us(folder / "a")), "µs", "≤ 500"),
        ]
        asyncio.run(fill(folder))
        with CloudRole(write_cloud_toml(folder, 1), "web") as web:
            for query, text in (("?range=15m", "15 minutes"), ("?range=1h", "1 hour"), ("?range=24h", "24 hours")):
                took = page_ms(web, query)
                p95 = statistics.quantiles(took, n=20)[-1]
                figures.append(Figure.of(f"page of {text}, {SHOWN_DEVICES} devices", took, "ms", "p95 ≤ 300"))
                figures.append(Figure(f"the same, p95 of {PAGES}", p95, p95, p95, "ms", "≤ 300"))
    finish(figures, __doc__ or "")


if __name__ == "__main__":
    main()
