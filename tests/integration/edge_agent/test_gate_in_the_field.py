"""Policies, true labels, audits and saved counters, of a real agent over a real broker and a gateway."""

from __future__ import annotations

import dataclasses
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import grpc
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from shared import topics
from shared.bundle import read_bundle
from shared.codec import decode_telemetry, encode_policy
from shared.types import AuditCounts, GatePolicy, ModelTelemetry, Priority
from tests.support.agent_process import AgentProcess, run_edge_agent
from tests.support.edge_parts import assert_counters_add_up
from tests.support.fake_gateway import FakeGateway, answer_with
from tests.support.mosquitto import EXECUTABLE, Mosquitto

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="mosquitto is not installed")

WriteConfig = Callable[..., Path]
_PATIENCE_S = 20.0


class Fleet:
    """Hears all telemetry, the newest of each boot; tells rings their policies."""

    def __init__(self, client: paho.Client) -> None:
        self.boots: dict[str, ModelTelemetry] = {}
        self.order: list[str] = []
        self._client = client

    def hear(self, topic: str, payload: bytes) -> None:
        if topics.parse(topic).kind != "telemetry" or not payload:
            return
        told = decode_telemetry(payload)
        assert_counters_add_up(told.counters)
        before = self.boots.get(told.boot_id)
        if before is None or told.sequence > before.sequence:
            self.boots[told.boot_id] = told
            self.order += [told.boot_id] if before is None else []

    @property
    def newest(self) -> ModelTelemetry | None:
        return self.boots[self.order[-1]] if self.order else None

    def tell(self, policy: GatePolicy, ring: str = "default") -> None:
        topic = topics.policy(ring, policy.model, policy.gate_digest)
        self._client.publish(topic, encode_policy(policy), qos=1, retain=True).wait_for_publish(_PATIENCE_S)

    def wait_until(self, condition: Callable[[ModelTelemetry], bool]) -> ModelTelemetry:
        until_s = time.monotonic() + _PATIENCE_S
        while (told := self.newest) is None or not condition(told):
            assert time.monotonic() < until_s, self.newest
            time.sleep(0.02)
        return told


@contextmanager
def fleet_at(broker: Mosquitto, password: str | None = None) -> Iterator[Fleet]:
    client = paho.Client(CallbackAPIVersion.VERSION2)
    if password:
        client.username_pw_set("tandem-fleet", password)
    fleet = Fleet(client)
    client.on_message = lambda client, data, message: fleet.hear(message.topic, bytes(message.payload))
    client.on_connect = lambda client, *rest: client.subscribe(topics.ROOT + "/#", qos=1)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        yield fleet
    finally:
        client.disconnect()
        client.loop_stop()


def broker_section(broker: Mosquitto, interval_ms: int = 100) -> str:
    return f'[broker]\nhost = "127.0.0.1"\nport = {broker.port}\ntelemetry_interval_ms = {interval_ms}\n'


def policy_for(config: Path, sequence: int, **words: object) -> GatePolicy:
    gate = read_bundle(config.parent / "tiny").gate
    assert gate is not None
    return dataclasses.replace(GatePolicy(f"p{sequence}", sequence, "tiny", gate.digest), **words)  # type: ignore[arg-type]


def outcome_of(agent: AgentProcess, text: str) -> tuple[str, str]:
    status, answer = agent.post({"text": text})
    assert status == 200 and isinstance(answer, dict), answer
    return str(answer["outcome"]), str(answer["reason"])


def test_a_policy_reaches_the_ring_is_obeyed_reported_and_kept_over_a_restart_without_a_broker(
    tmp_path: Path, write_config: WriteConfig
) -> None:
    with Mosquitto(tmp_path / "broker") as broker:
        config = write_config(broker_section(broker), http='port = 0\n[state]\ndata_dir = "state"')
        with fleet_at(broker) as fleet, AgentProcess(config) as agent:
            assert outcome_of(agent, "card") == ("edge", "confident")
            fleet.tell(policy_for(config, 1, escalate_all=True))
            told = fleet.wait_until(lambda told: told.gate.policy_id == "p1")
            assert told.gate.threshold is None and told.gate.refusal == ""
            assert outcome_of(agent, "card") == ("degraded", "no_cloud")
            fleet.tell(policy_for(config, 2, in_force={"kept-error": 0.07}))
            told = fleet.wait_until(lambda told: told.gate.refused_policy_id == "p2")
            assert told.gate.policy_id == "p1" and "alpha 0.07 is not certified" in told.gate.refusal
            assert agent.metric('tandem_gate_policy_refused{model="tiny"}') == 1
            time.sleep(1.2)
        broker.kill()
        with AgentProcess(config) as agent:
            assert outcome_of(agent, "card") == ("degraded", "no_cloud")


def test_a_policy_of_another_ring_is_not_heard(tmp_path: Path, write_config: WriteConfig) -> None:
    with Mosquitto(tmp_path / "broker") as broker, fleet_at(broker) as fleet:
        config = write_config(broker_section(broker))
        config.write_text('ring = "early"\n' + config.read_text(encoding="utf-8"), encoding="utf-8")
        with AgentProcess(config) as agent:
            fleet.tell(policy_for(config, 1, escalate_all=True), "default")
            fleet.tell(policy_for(config, 2, in_force={"kept-error": 0.2}), "early")
            told = fleet.wait_until(lambda told: told.gate.policy_id != "")
            assert (told.ring, told.gate.policy_id, told.gate.threshold) == ("early", "p2", 0.4)
            assert outcome_of(agent, "card cash") == ("edge", "confident")


def test_a_device_that_changes_rings_leaves_the_old_rings_orders_behind(
    tmp_path: Path, write_config: WriteConfig
) -> None:
    with Mosquitto(tmp_path / "broker") as broker, fleet_at(broker) as fleet:
        config = write_config(broker_section(broker))
        fleet.tell(policy_for(config, 1, escalate_all=True), "early")
        fleet.tell(policy_for(config, 2, in_force={"kept-error": 0.2}), "default")
        with AgentProcess(config):
            fleet.wait_until(lambda told: told.gate.policy_id == "p2")
        config.write_text('ring = "early"\n' + config.read_text(encoding="utf-8"), encoding="utf-8")
        with AgentProcess(config) as agent:
            fleet.wait_until(lambda told: told.ring == "early" and told.gate.policy_id == "p1")
            assert outcome_of(agent, "card") == ("degraded", "no_cloud")


def test_a_policy_and_last_words_pass_the_brokers_access_rules(tmp_path: Path, write_config: WriteConfig) -> None:
    (tmp_path / "password").write_text("open\n")
    with Mosquitto(tmp_path / "broker", {"d1": "open", "tandem-fleet": "sesame"}) as broker:
        config = write_config(broker_section(broker) + 'password_file = "password"\n')
        with fleet_at(broker, "sesame") as fleet:
            with AgentProcess(config) as agent:
                fleet.tell(policy_for(config, 1, least_threshold=0.99))
                assert fleet.wait_until(lambda told: told.gate.policy_id == "p1").gate.threshold == 0.99
                outcome_of(agent, "card")
                time.sleep(1.2)
            fleet.boots.clear()
            fleet.order.clear()
            with AgentProcess(config):
                fleet.wait_until(lambda told: len(fleet.boots) == 2)
            assert [told.counters.edge for told in fleet.boots.values()] == [1, 0]


def received(fleet: Fleet) -> int:
    return sum(told.counters.received for told in fleet.boots.values())


def test_after_a_kill_the_sum_over_the_boots_is_the_truth_up_to_the_last_second(
    tmp_path: Path, write_config: WriteConfig
) -> None:
    """The device reports so seldom that only what it saved itself can tell."""
    with Mosquitto(tmp_path / "broker") as broker, fleet_at(broker) as fleet:
        config = write_config(broker_section(broker, interval_ms=600_000))
        truth = 0
        for boot in range(3):
            with AgentProcess(config) as agent:
                fleet.wait_until(lambda told, boot=boot: len(fleet.boots) == boot + 1)  # type: ignore[misc]
                for _ in range(boot + 2):
                    agent.post([{"text": "card"}, {"text": "card cash"}])
                    truth += 2
                time.sleep(2.5)
        with AgentProcess(config):
            fleet.wait_until(lambda told: len(fleet.boots) == 4 and received(fleet) == truth)
        assert [fleet.boots[boot].counters.edge for boot in fleet.order] == [2, 3, 4, 0]


def test_a_fleet_that_was_away_for_several_boots_hears_of_each(tmp_path: Path, write_config: WriteConfig) -> None:
    with Mosquitto(tmp_path / "broker") as broker:
        config = write_config(broker_section(broker))
        for boot in range(3):
            with AgentProcess(config) as agent:
                for _ in range(boot + 1):
                    outcome_of(agent, "card")
                time.sleep(1.2)
        with AgentProcess(config) as agent, fleet_at(broker) as fleet:
            outcome_of(agent, "card")
            fleet.wait_until(lambda told: sorted(each.counters.edge for each in fleet.boots.values()) == [1, 1, 2, 3])
            assert agent.terminate() == 0


def test_a_damaged_state_file_is_set_aside_and_the_agent_goes_on(write_config: WriteConfig) -> None:
    config = write_config()
    folder = config.parent / "tandem-agent"
    folder.mkdir()
    (folder / "d1.sqlite").write_bytes(b"no database at all" * 1000)
    looked = run_edge_agent("doctor", "--config", str(config))
    assert "WARN  state: " in looked.stdout and looked.returncode == 0
    with AgentProcess(config) as agent:
        assert outcome_of(agent, "card") == ("edge", "confident")
        assert any("was set aside as" in line for line in agent.log)
    assert len(list(folder.glob("d1.sqlite.unusable-*"))) == 1


@pytest.mark.anyio
async def test_labels_come_back_over_http_and_reach_the_cloud_though_it_refused_at_first(
    tmp_path: Path, write_config: WriteConfig
) -> None:
    async with FakeGateway(answer_with("card")) as gateway:
        gateway.refuses_labels = grpc.StatusCode.UNAVAILABLE
        with Mosquitto(tmp_path / "broker") as broker, fleet_at(broker) as fleet:
            cloud = f'[cloud]\naddress = "{gateway.address}"\n[audit]\nshare = 1.0\n'
            with AgentProcess(write_config(broker_section(broker) + cloud)) as agent:

                def talk() -> None:
                    agent.post([{"text": "card", "request_id": f"r{number}"} for number in range(3)])
                    assert agent.post_to("/v1/labels", {"request_id": "r0", "label": "card"})[0] == 200
                    status, receipts = agent.post_to(
                        "/v1/labels", [{"request_id": "r1", "label": "cash"}, {"request_id": "r9", "label": "cash"}]
                    )
                    assert status == 200 and isinstance(receipts, list)
                    assert receipts[0]["taken"] and receipts[1]["error"]["code"] == "unknown_request"
                    told = fleet.wait_until(lambda told: bool(told.label_steps) and told.label_steps[0].judged == 2)
                    assert told.label_steps[0].wrong == 1 and told.labels["card"].wrong == 1
                    told = fleet.wait_until(lambda told: told.audits == AuditCounts(chosen=3, agreed=3))
                    assert told.counters.attempted == 0 and told.audit_steps[0].judged == 3

                await anyio.to_thread.run_sync(talk)
                assert gateway.true_labels == []
                gateway.refuses_labels = None
                with anyio.fail_after(_PATIENCE_S):
                    while len(gateway.true_labels) < 2:  # noqa: ASYNC110 - the gateway tells nobody
                        await anyio.sleep(0.05)
    assert [(label.request_id, label.label, label.kept) for label in gateway.true_labels] == [
        ("r0", "card", True),
        ("r1", "cash", True),
    ]
    assert {request.priority for request in gateway.requests} == {Priority.AUDIT}


def test_labels_wait_for_the_cloud_over_a_restart(write_config: WriteConfig) -> None:
    config = write_config('[cloud]\naddress = "127.0.0.1:9"\n')
    for label in ("card", "cash"):
        with AgentProcess(config) as agent:
            agent.post({"text": "card", "request_id": f"for {label}"})
            assert agent.post_to("/v1/labels", {"request_id": f"for {label}", "label": label})[0] == 200
    with sqlite3.connect(config.parent / "tandem-agent" / "d1.sqlite") as state:
        assert state.execute("SELECT true_label FROM answers WHERE waits = 1").fetchall() == [("card",), ("cash",)]
