"""Whatever is lost, doubled, overtaken, restarted or refused on the way: the sums equal the truth in the end."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_service.fleet.buckets import DEVICE_WIDTHS_S, FLEET_WIDTHS_S, Retention
from cloud_service.fleet.ingest import BrokerState, Ingest
from cloud_service.fleet.tally import Tally, total
from shared import topics
from shared.codec import encode_telemetry
from shared.mqtt import Message
from shared.types import Outcome, RequestCounters
from tests.support.fake_clock import FakeClock
from tests.support.memory_store import MemoryStore
from tests.support.simulated_device import CountedModel

DEVICES = ("d1", "d2")
OUTCOMES = (Outcome.EDGE, Outcome.CLOUD, Outcome.DEGRADED, Outcome.FAILED)
device = st.sampled_from(DEVICES)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), device, st.integers(1, 3)),
        st.tuples(st.just("end"), device, st.sampled_from(OUTCOMES)),
        st.tuples(st.just("reject"), device),
        st.tuples(st.just("report"), device),
        st.tuples(st.just("deliver"), st.integers(0, 50)),
        st.tuples(st.just("lose"), st.integers(0, 50)),
        st.tuples(st.just("double"), st.integers(0, 50)),
        st.tuples(st.just("boot"), device),
        st.tuples(st.just("update"), device),
        st.tuples(st.just("commit")),
        st.tuples(st.just("commit_some"), st.integers(0, 2)),
        st.tuples(st.just("commit_fails"), st.sampled_from(["before", "after"])),
        st.tuples(st.just("kill_service")),
        st.tuples(st.just("jump"), st.integers(-4000, 4000)),
    ),
    max_size=60,
)


class World:
    """Two devices, a network that loses, doubles and reorders, and a service that may be killed."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = FakeClock()
        self.boots = 0
        self.running = {name: self._model(name, 1) for name in DEVICES}
        self.all = list(self.running.values())
        self.network: list[Message] = []
        self.ingest = self._start()

    async def step(self, what: str, *arguments: object) -> None:
        await getattr(self, "do_" + what)(*arguments)

    async def do_begin(self, name: str, requests: int) -> None:
        self.running[name].begin(requests)

    async def do_end(self, name: str, outcome: Outcome) -> None:
        if self.running[name].in_flight:
            self.running[name].end(outcome)

    async def do_reject(self, name: str) -> None:
        self.running[name].reject()

    async def do_report(self, name: str) -> None:
        self.network.append(self.word(self.running[name]))

    async def do_deliver(self, place: int) -> None:
        if self.network:
            await self.ingest.take(self.network.pop(place % len(self.network)))

    async def do_lose(self, place: int) -> None:
        if self.network:
            self.network.pop(place % len(self.network))

    async def do_double(self, place: int) -> None:
        if self.network:
            self.network.append(self.network[place % len(self.network)])

    async def do_boot(self, name: str) -> None:
        self._replace(name, 1)

    async def do_update(self, name: str) -> None:
        self._replace(name, 2)

    async def do_commit(self) -> None:
        await self.ingest.commit()

    async def do_commit_some(self, most: int) -> None:
        await self.ingest.commit(most)

    async def do_commit_fails(self, when: str) -> None:
        self.store.fail_next = when
        await self.ingest.commit(1)

    async def do_kill_service(self) -> None:
        self.ingest = self._start()

    async def do_jump(self, seconds: int) -> None:
        self.clock.jump(seconds)

    async def settle(self) -> None:
        """Every series' newest word arrives at last, as the broker retains it."""
        for message in [*self.network, *map(self.word, self.all)]:
            await self.ingest.take(message)
        await self.ingest.commit()

    def word(self, model: CountedModel) -> Message:
        told = model.telemetry()
        return Message(topics.telemetry(told.device_id, told.model.name), encode_telemetry(told))

    def _replace(self, name: str, version: int) -> None:
        self.running[name] = self._model(name, version)
        self.all.append(self.running[name])

    def _model(self, name: str, version: int) -> CountedModel:
        self.boots += 1
        return CountedModel(name, f"b{self.boots}", version=str(version))

    def _start(self) -> Ingest:
        broker = BrokerState("localhost:1883", True, "")
        return Ingest(self.store, self.clock, lambda: broker, commit_interval_s=1, retention=Retention(minutes_s=3600))


def truth(models: list[CountedModel]) -> RequestCounters:
    return total(Tally(model.counters()) for model in models).counters


def assert_adds_up(tally: Tally) -> None:
    counted = tally.counters
    assert counted.received == counted.accepted + counted.rejected
    ended = counted.edge + counted.cloud + counted.degraded + counted.failed
    assert counted.accepted == ended + counted.in_flight
    assert counted.attempted == counted.served + counted.call_failed + counted.timed_out + counted.calls_in_flight
    assert sum(sum(histogram.dense()) for histogram in tally.latency.values()) == ended


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_sums_equal_the_truth_after_any_faults(taken: list[tuple[str, object]]) -> None:
    async def play() -> World:
        world = World()
        for what, *arguments in taken:
            await world.step(what, *arguments)
        await world.settle()
        return world

    world = asyncio.run(play())
    assert {world.store.sum(width_s).counters for width_s in FLEET_WIDTHS_S} == {truth(world.all)}
    for name in DEVICES:
        own = truth([model for model in world.all if model._device_id == name])
        assert {world.store.sum(width_s, name).counters for width_s in DEVICE_WIDTHS_S} == {own}
    for tally in world.store.counts.values():
        assert_adds_up(tally)
