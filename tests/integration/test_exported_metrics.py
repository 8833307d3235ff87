"""Every metric that the alert rules and the dashboard ask for is exported by the services as they run."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.bundle import Tier
from tests.support.agent_process import AgentProcess
from tests.support.fleet_process import CloudRole
from tests.support.gateway_process import GatewayProcess
from tests.support.metric_names import asked_for, dashboard_expressions, rule_expressions, shown
from tests.support.mosquitto import EXECUTABLE, Mosquitto
from tests.support.tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="mosquitto is not installed")


def write_configurations(folder: Path, broker_port: int) -> tuple[Path, Path]:
    write_tiny_bundle(folder / "tiny")
    write_tiny_bundle(folder / "full", tier=Tier.FULL)
    agent, cloud = folder / "agent.toml", folder / "cloud.toml"
    broker = f'[broker]\nhost = "127.0.0.1"\nport = {broker_port}\n'
    cloud.write_text(
        "[gateway]\nport = 0\nmetrics_port = 0\n"
        f'[[gateway.models]]\nbundle = "full"\nthreads = 1\n[fleet]\nmetrics_port = 0\n[web]\nport = 0\n{broker}',
        encoding="utf-8",
    )
    agent.write_text(
        f'device_id = "d1"\n[[models]]\nbundle = "tiny"\n[http]\nport = 0\n[cloud]\naddress = "127.0.0.1:1"\n{broker}',
        encoding="utf-8",
    )
    return agent, cloud


def test_rules_and_dashboard_ask_for_nothing_that_is_not_exported(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker:
        agent_file, cloud_file = write_configurations(tmp_path, broker.port)
        with AgentProcess(agent_file) as agent, GatewayProcess(cloud_file) as gateway:
            agent.post({"text": "card"})
            device, cloud = shown(agent.get("/metrics")), shown(gateway.metrics())
        with CloudRole(cloud_file, "fleet") as service:
            fleet = shown(service.get("metrics"))
    exported = device | cloud | fleet
    for name, asked in (
        ("rules", asked_for(rule_expressions())),
        ("dashboard", {each for text in dashboard_expressions() for each in asked_for(text)}),
    ):
        assert asked
        assert not asked - exported, name
