"""Writes the configuration of everything that the demo starts: files a user could have written by hand."""

from __future__ import annotations

import json
import random
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloud_service.config import RegistrySettings
from cloud_service.gateway.credentials import add_device
from cloud_service.registry.ceremony import init_repository
from cloud_service.registry.keys import PINNED_ROOT, KeyFolder
from cloud_service.registry.publishing import publish
from cloud_service.registry.repository import Repository
from cloud_service.registry.store import FolderStore
from deploy.demo.broker import BrokerKind, BrokerPlan, plan_broker
from deploy.demo.errors import DemoError
from deploy.demo.private_files import write_private

LOOPBACK = "127.0.0.1"
FLEET_USER, ROLLOUT_USER, PUBLISHER_USER = "tandem-fleet", "tandem-rollout", "tandem-publisher"
CLOUD_USERS = {FLEET_USER: "broker.password", ROLLOUT_USER: "rollout.password", PUBLISHER_USER: "publisher.password"}
REPOSITORY, KEYS = "data/repository", "data/keys"
CREDENTIALS = "credentials.json"
_PORTS = range(20_000, 32_000)
_ATTEMPTS = 500
_CLOUD_PORTS = 6


@dataclass(frozen=True)
class Ports:
    """Where everything listens, all on loopback."""

    broker: int
    gateway: int
    gateway_metrics: int
    fleet_metrics: int
    delivery: int
    web: int
    agents: tuple[int, ...]


@dataclass(frozen=True)
class Bundles:
    """The two models: folders of the edge bundle and of the full model's."""

    edge: Path
    full: Path


@dataclass(frozen=True)
class Layout:
    """A run's folder, ready to be started from."""

    folder: Path
    ports: Ports
    broker: BrokerPlan
    cloud_file: Path
    agent_files: dict[str, Path]


def choose_ports(devices: int, web: int) -> Ports:
    """Free ports; the operator page's is `web` where that is free.

    They lie below the range from which outgoing connections get theirs, so that a process that was killed
    finds its port free again.

    Raises:
        DemoError: no free ports were found.
    """
    chosen: list[int] = []
    for port in random.sample(_PORTS, _ATTEMPTS):
        if len(chosen) < _CLOUD_PORTS + devices and is_free(port):
            chosen.append(port)
    if len(chosen) < _CLOUD_PORTS + devices:
        raise DemoError(f"found only {len(chosen)} free ports between {_PORTS.start} and {_PORTS.stop}")
    broker, gateway, gateway_metrics, fleet_metrics, delivery, other_web, *agents = chosen
    free_web = web if is_free(web) else other_web
    return Ports(broker, gateway, gateway_metrics, fleet_metrics, delivery, free_web, tuple(agents))


def is_free(port: int) -> bool:
    """Whether a listener may take this port on loopback now."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def write_configuration(
    folder: Path, device_ids: Sequence[str], ports: Ports, bundles: Bundles, broker: BrokerKind
) -> Layout:
    """Write everything below `folder`: broker, cloud and one folder a device, each secret readable by this user alone.

    Raises:
        DemoError: the broker that is wanted is not there.
    """
    passwords = {user: secrets.token_urlsafe(32) for user in (*device_ids, *CLOUD_USERS)}
    plan = plan_broker(broker, folder / "broker", ports.broker, passwords)
    cloud_file = _write_cloud(folder / "cloud", ports, bundles, passwords)
    root_file = _publish(cloud_file.parent, bundles.edge)
    tokens = {device: add_device(cloud_file.parent / CREDENTIALS, device) for device in device_ids}
    agent_files = {
        device: _write_agent(
            folder / device, device, port, ports, bundles, root_file, passwords[device], tokens[device]
        )
        for device, port in zip(device_ids, ports.agents, strict=True)
    }
    return Layout(folder, ports, plan, cloud_file, agent_files)


def _publish(cloud: Path, edge: Path) -> Path:
    """Make the fleet's keys and a repository that holds the edge bundle; returns the root that devices trust."""
    (cloud / "data").mkdir(exist_ok=True)
    keys = KeyFolder(cloud / KEYS)
    repository = Repository(FolderStore(cloud / REPOSITORY), keys, RegistrySettings())
    init_repository(repository, threshold=1, root_keys=1)
    publish(repository, edge)
    return keys.folder / PINNED_ROOT


def _write_cloud(folder: Path, ports: Ports, bundles: Bundles, passwords: Mapping[str, str]) -> Path:
    folder.mkdir()
    for user, name in CLOUD_USERS.items():
        write_private(folder / name, passwords[user] + "\n")
    file = folder / "cloud.toml"
    write_private(
        file,
        f"""data_dir = "data"

[gateway]
host = "{LOOPBACK}"
port = {ports.gateway}
metrics_host = "{LOOPBACK}"
metrics_port = {ports.gateway_metrics}
credentials = "{CREDENTIALS}"
drain_ms = 3000

[[gateway.models]]
bundle = {_quoted(bundles.full)}

[broker]
host = "{LOOPBACK}"
port = {ports.broker}
username = "{FLEET_USER}"
password_file = "{CLOUD_USERS[FLEET_USER]}"

[delivery]
repository = "{REPOSITORY}"
publisher = "{PUBLISHER_USER}"
password_file = "{CLOUD_USERS[PUBLISHER_USER]}"
host = "{LOOPBACK}"
port = {ports.delivery}
metrics_port = 0

[rollout]
client_id = "{ROLLOUT_USER}"
password_file = "{CLOUD_USERS[ROLLOUT_USER]}"
metrics_port = 0

[fleet]
metrics_host = "{LOOPBACK}"
metrics_port = {ports.fleet_metrics}
offline_after_ms = 10000
edge_bundles = [{_quoted(bundles.edge)}]

[web]
host = "{LOOPBACK}"
port = {ports.web}
""",
    )
    return file


def _write_agent(
    folder: Path,
    device: str,
    port: int,
    ports: Ports,
    bundles: Bundles,
    root_file: Path,
    password: str,
    token: str,
) -> Path:
    folder.mkdir()
    write_private(folder / "broker.password", password + "\n")
    write_private(folder / "cloud.token", token + "\n")
    file = folder / "agent.toml"
    write_private(
        file,
        f"""device_id = "{device}"

[[models]]
bundle = {_quoted(bundles.edge)}

[http]
host = "{LOOPBACK}"
port = {port}
drain_ms = 3000

[cloud]
address = "{LOOPBACK}:{ports.gateway}"
token_file = "cloud.token"
breaker_longest_ms = 3000

[broker]
host = "{LOOPBACK}"
port = {ports.broker}
password_file = "broker.password"
telemetry_interval_ms = 1000

[update]
root_file = {_quoted(root_file)}
""",
    )
    return file


def _quoted(path: Path) -> str:
    return json.dumps(str(path.resolve()), ensure_ascii=False)
