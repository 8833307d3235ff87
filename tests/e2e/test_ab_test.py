"""An A/B test by real audits: two devices ask, the full model audits what they keep, and the verdict is carried out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from shared.bundle import Tier
from shared.update.assignment import place_of
from tests.e2e.test_device_update import asked_all_the_time, cloud
from tests.support.agent_process import AgentProcess
from tests.support.fleet_process import CloudRole, wait_until
from tests.support.gateway_process import GatewayProcess
from tests.support.mosquitto import Mosquitto
from tests.support.tiny_bundle import LABELS, tiny_graph, write_tiny_bundle

pytestmark = pytest.mark.long
A, B = "1.0.0", "2.0.0"
VERDICT_WITHIN_S = 240.0
"""Audits are counted from the next whole minute on."""


def misled_by_unknown_words() -> onnx.ModelProto:
    """As sure as the usual graph of the words that it knows, and sure of another label where an unknown word stands."""
    graph = tiny_graph(LABELS)
    (table,) = (tensor for tensor in graph.graph.initializer if tensor.name == "table")
    rows = numpy_helper.to_array(table).copy()
    rows[0, LABELS.index("loan")] = 20.0
    table.CopyFrom(numpy_helper.from_array(rows, "table"))
    return graph


@dataclass(frozen=True)
class Field:
    """Everything but the devices, in `folder`."""

    folder: Path
    config: Path
    broker_port: int
    gateway_port: int

    def device(self, device_id: str) -> AgentProcess:
        """One that runs A, escalates to the gateway and has all that it keeps audited."""
        file = self.folder / f"{device_id}.toml"
        file.write_text(
            f'device_id = "{device_id}"\nmodels = [{{ bundle = "a" }}]\nstate = {{ data_dir = "{device_id}" }}\n'
            f'[http]\nport = 0\n[cloud]\naddress = "127.0.0.1:{self.gateway_port}"\n[audit]\nshare = 1.0\n'
            f'[broker]\nhost = "127.0.0.1"\nport = {self.broker_port}\ntelemetry_interval_ms = 200\n'
            '[update]\nroot_file = "data/keys/root.json"\nhint_spread_ms = 0\n',
            encoding="utf-8",
        )
        return AgentProcess(file)

    def status(self, rollout_id: str) -> dict[str, object]:
        """Of the list: for one rollout alone the command fails where that one was taken back."""
        told = [json.loads(line) for line in cloud(self.config, "rollout", "status", "--json").splitlines()]
        status: dict[str, object] = next(each for each in told if each["id"] == rollout_id)
        return status

    def verdict(self, rollout_id: str) -> str:
        """What the first stage says of it."""
        stages = self.status(rollout_id)["stages"]
        assert isinstance(stages, list)
        return str(stages[0]["note"])


def release_of(device: AgentProcess) -> str:
    """Which release answers on the device itself."""
    status, body = device.post({"text": "please card", "route": "edge"})
    assert status == 200
    return str(body["model"]["version"])


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    with ExitStack() as stack:
        broker = stack.enter_context(Mosquitto(tmp_path / "broker"))
        config = tmp_path / "cloud.toml"
        config.write_text(
            f'data_dir = "data"\n[broker]\nport = {broker.port}\n[delivery]\nport = 0\nmetrics_port = 0\n'
            "[rollout]\ninterval_ms = 100\nmetrics_port = 0\n[fleet]\nmetrics_port = 0\ncommit_interval_ms = 100\n"
            '[gateway]\nport = 0\nmetrics_port = 0\n[[gateway.models]]\nbundle = "full"\n',
            encoding="utf-8",
        )
        write_tiny_bundle(tmp_path / "full", tier=Tier.FULL)
        write_tiny_bundle(tmp_path / "a", version=A)
        cloud(config, "keys", "init", "--threshold", "1", "--keys", "1")
        cloud(config, "publish", str(tmp_path / "a"))
        for role in ("fleet", "delivery", "rollout"):
            stack.enter_context(CloudRole(config, role))
        gateway = stack.enter_context(GatewayProcess(config))
        yield Field(tmp_path, config, broker.port, gateway.port)


_ENDS = pytest.mark.parametrize(
    ("graph", "state", "verdict", "left"),
    [(None, "done", "it is not worse", B), (misled_by_unknown_words(), "rolled_back", "it disagrees more", A)],
    ids=["as-good", "worse"],
)


@_ENDS
def test_the_verdict_of_an_ab_test_by_audits_is_what_all_devices_run_in_the_end(
    field: Field, graph: onnx.ModelProto | None, state: str, verdict: str, left: str
) -> None:
    write_tiny_bundle(field.folder / "b", version=B, graph=graph)
    cloud(field.config, "publish", str(field.folder / "b"))
    plan = field.folder / "plan.toml"
    plan.write_text("[trial]\nrequests = 0\nseconds = 0.0\n[gates]\nmax_disagreement = 1.0\n", encoding="utf-8")
    start = ("rollout", "start", "tiny", "--ab", A, B, "--rings", "default", "--margin", "0.05", "--decide")
    told = cloud(field.config, *start, "--soak", "1s", "--min-devices", "1", "--plan", str(plan), "--json")
    rollout_id = str(json.loads(told)["id"])
    names = [f"d{number}" for number in range(100)]
    of_b, of_a = (
        next(name for name in names if (place_of(rollout_id, name) < 0.5) is is_of_b) for is_of_b in (True, False)
    )
    with ExitStack() as stack:
        on_a, on_b = (stack.enter_context(field.device(name)) for name in (of_a, of_b))
        for device in (on_a, on_b):
            stack.enter_context(asked_all_the_time(device, "please card"))
        wait_until(lambda: (release_of(on_a), release_of(on_b)) == (A, B), "each device answers with its arm's release")
        wait_until(lambda: field.status(rollout_id)["state"] == state, "the verdict is carried out", VERDICT_WITHIN_S)
        assert verdict in field.verdict(rollout_id)
        wait_until(lambda: (release_of(on_a), release_of(on_b)) == (left, left), f"both answer with {left}")


@_ENDS
def test_one_device_answers_with_both_releases_by_request_key_and_in_the_end_with_the_one_that_the_verdict_says(
    field: Field, graph: onnx.ModelProto | None, state: str, verdict: str, left: str
) -> None:
    write_tiny_bundle(field.folder / "b", version=B, graph=graph)
    cloud(field.config, "publish", str(field.folder / "b"))
    plan = field.folder / "plan.toml"
    plan.write_text(
        "[trial]\nrequests = 20\nseconds = 0.0\nmax_disagreement = 1.0\nmax_latency_ratio = 100.0\n"
        "[gates]\nmax_disagreement = 1.0\nmax_latency_ratio = 100.0\n",
        encoding="utf-8",
    )
    start = ("rollout", "start", "tiny", "--ab", A, B, "--by", "key", "--rings", "default", "--margin", "0.05")
    told = cloud(field.config, *start, "--decide", "--soak", "10s", "--plan", str(plan), "--json")
    rollout_id = str(json.loads(told)["id"])
    names = [f"customer-{number}" for number in range(100)]
    below = [place_of(rollout_id, name) < 0.5 for name in names]
    of_b, of_a = names[below.index(True)], names[below.index(False)]
    with field.device("d1") as device, asked_all_the_time(device, "please card") as answers:
        wait_until(lambda: min(answers[A], answers[B]) >= 50, "one device answers with both releases")
        for key, version_of_key in ((of_a, A), (of_b, B)) * 5:
            status, body = device.post({"text": "please card", "key": key})
            assert (status, body["model"]["version"]) == (200, version_of_key)
        assert "A/B test by request key" in cloud(field.config, "rollout", "status", rollout_id)
        wait_until(lambda: field.status(rollout_id)["state"] == state, "the verdict is carried out", VERDICT_WITHIN_S)
        assert verdict in field.verdict(rollout_id)
        wait_until(lambda: {release_of(device) for _ in range(20)} == {left}, f"it answers all with {left}")
    assert set(answers) == {A, B}
