"""Audits that go bad reach an alarm, and the ring its order, through a real broker, store and fleet service."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy import select, update

from cloud_service.storage import tables
from cloud_service.storage.engine import open_engine
from cloud_service.storage.fleet_store import FleetStore
from cloud_service.storage.schema import migrate
from cloud_service.storage.watch_rows import alarm_of, policy_row
from cloud_service.watch.orders import Order, make_policy
from cloud_service.watch.records import AlarmKind, GateAlarm, GateWatch, IssuedPolicy, WatchKind, WatchState
from shared import topics
from shared.codec import decode_policy, encode_telemetry
from shared.types import GatePolicy
from tests.support.audited_model import audited_gate, audited_model, known_gate
from tests.support.fleet_process import PATIENCE_S, CloudRole, wait_until, write_cloud_toml
from tests.support.mosquitto import EXECUTABLE, Mosquitto
from tests.support.simulated_device import SimulatedDevice

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="mosquitto is not installed")
RING = "early"


class Records:
    """What the store beside `config` holds of gates."""

    def __init__(self, config: Path) -> None:
        self._url = f"sqlite:///{config.parent / 'data' / 'fleet.sqlite'}"
        self.engine = open_engine(self._url, writes=True)
        self.store = FleetStore(self.engine)

    def watch(self, kind: WatchKind = WatchKind.DISAGREEMENT) -> GateWatch | None:
        watches = [watch for watch in self.store.load_watch().watches if watch.key.kind is kind]
        return watches[0] if watches else None

    def alarms(self) -> list[GateAlarm]:
        with self.engine.begin() as connection:
            return [alarm_of(row) for row in connection.execute(select(tables.gate_alarms)).mappings()]

    def policies(self) -> tuple[IssuedPolicy, ...]:
        return self.store.newest_policies()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def config(tmp_path: Path, broker: Mosquitto) -> Path:
    return write_cloud_toml(tmp_path, broker.port)


@pytest.fixture
def records(config: Path) -> Iterator[Records]:
    """A store that knows the gate."""
    records = Records(config)
    migrate(records.engine)
    records.store.keep_gates([known_gate()])
    yield records
    records.store.close()


@pytest.fixture
def device(broker: Mosquitto) -> Iterator[SimulatedDevice]:
    with SimulatedDevice(broker.port, "d1") as device:
        device.model = audited_model("d1", "boot-1", ring=RING)
        yield device


def retained_policy(port: int) -> GatePolicy:
    """What a device that connects now is told."""
    heard: queue.Queue[bytes] = queue.Queue(4)
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="listener")
    client.on_message = lambda _client, _data, message: heard.put_nowait(bytes(message.payload))
    client.connect("127.0.0.1", port)
    client.subscribe(topics.policy(RING, "intents", audited_gate().digest), qos=1)
    client.loop_start()
    try:
        return decode_policy(heard.get(timeout=PATIENCE_S))
    finally:
        client.disconnect()
        client.loop_stop()


def is_uncertified(fleet: CloudRole) -> bool:
    lines = fleet.get("metrics").splitlines()
    states = [line for line in lines if line.startswith("tandem_gate_state{") and 'kind="disagreement"' in line]
    return any('state="uncertified"' in line and line.endswith(" 1.0") for line in states)


def test_bad_audits_raise_an_alarm_and_the_ring_is_told_to_escalate_all(
    config: Path, broker: Mosquitto, records: Records, device: SimulatedDevice
) -> None:
    with CloudRole(config, "fleet") as fleet:
        device.model.judge_audits("balance", 0.5, 40, wrong=20)
        device.report()
        wait_until(lambda: bool(records.alarms()), "the alarm")
        policy = retained_policy(broker.port)
        wait_until(lambda: records.policies()[0].published_s is not None, "the order marked as published")
        assert policy.escalate_all and policy.gate_digest == audited_gate().digest
        assert [alarm.kind for alarm in records.alarms()] == [AlarmKind.DISAGREEMENT]
        assert fleet.metric('tandem_gate_alarms_total{kind="disagreement"}') == 1
        wait_until(lambda: is_uncertified(fleet), "the state in the metrics")


def test_enough_good_audits_of_a_stricter_step_keep_it(
    config: Path, broker: Mosquitto, records: Records, device: SimulatedDevice
) -> None:
    with CloudRole(config, "fleet"):
        device.model.judge_audits("balance", 0.7, 200)
        device.model.judge_audits("balance", 0.5, 60, wrong=36)
        device.report()
        wait_until(lambda: bool(records.alarms()), "the alarm")
        policy = retained_policy(broker.port)
    assert (policy.least_threshold, policy.escalate_all) == (0.6, False)
    assert records.policies()[0].policy == policy


def test_a_killed_service_goes_on_from_the_same_evidence_and_doubled_words_add_nothing(
    config: Path, broker: Mosquitto, records: Records, device: SimulatedDevice
) -> None:
    with CloudRole(config, "fleet"):
        device.model.judge_audits("balance", 0.5, 30, wrong=4)
        early = encode_telemetry(device.model.telemetry())
        device.say(topics.telemetry("d1", "intents"), early)
        wait_until(lambda: (watch := records.watch()) is not None and watch.judged == 30, "the first audits")
    device.model.judge_audits("balance", 0.5, 10, wrong=2)
    late = encode_telemetry(device.model.telemetry())
    for payload in (late, late, early, late):
        device.say(topics.telemetry("d1", "intents"), payload)
    with CloudRole(config, "fleet"):
        wait_until(lambda: (watch := records.watch()) is not None and watch.judged == 40, "the audits since")
        for payload in (early, late):
            device.say(topics.telemetry("d1", "intents"), payload)
        device.model.judge_audits("balance", 0.5, 1)
        device.report()
        wait_until(lambda: (watch := records.watch()) is not None and watch.judged >= 41, "the newest")
        watch = records.watch()
        assert watch is not None
        assert (watch.judged, watch.wrong, watch.cusum) == (41, 6, 6 * 13 - 41)
        assert not records.alarms()


def test_an_order_given_by_an_operator_reaches_the_ring_and_a_broker_that_forgot_it_hears_it_again(
    config: Path, broker: Mosquitto, records: Records, device: SimulatedDevice
) -> None:
    policy = make_policy(
        audited_gate(),
        Order(in_force={"kept-disagreement": 0.01}, reason="a careful week"),
        model="intents",
        ring=RING,
        newest_sequence=0,
        issued_by="ada",
        now_unix_ms=1_800_000_000_000,
    )
    with CloudRole(config, "fleet"):
        with records.engine.begin() as connection:
            connection.execute(
                tables.gate_policies.insert().values(policy_row(IssuedPolicy(policy, RING, 1_800_000_000)))
            )
        assert retained_policy(broker.port) == policy
        device.model.judge_audits("balance", 0.85, 3)
        device.report()
        wait_until(lambda: (watch := records.watch()) is not None and watch.judged == 3, "the watch under the order")
        broker.kill()
        broker.start()
        assert retained_policy(broker.port) == policy
    watch = records.watch()
    assert watch is not None
    assert (watch.alpha, watch.threshold, watch.state) == (0.01, 0.8, WatchState.CERTIFIED)


def test_an_alarm_before_a_kill_is_published_after_the_start(
    config: Path, broker: Mosquitto, records: Records, device: SimulatedDevice
) -> None:
    with CloudRole(config, "fleet"):
        device.model.judge_audits("balance", 0.5, 40, wrong=20)
        device.report()
        wait_until(lambda: bool(records.alarms()), "the alarm")
    with records.engine.begin() as connection:
        connection.execute(update(tables.gate_policies).values(published_s=None))
    broker.kill()
    broker.start()
    with CloudRole(config, "fleet"):
        assert retained_policy(broker.port).escalate_all
        wait_until(lambda: records.policies()[0].published_s is not None, "the order marked as published")
    assert len(records.alarms()) == 1
