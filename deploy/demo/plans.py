"""What the demo starts, and how to see that it serves."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx

from deploy.demo.client import Device
from deploy.demo.configuration import LOOPBACK, Layout
from deploy.demo.processes import Check, ProcessPlan

_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Plans:
    """Every process of a run. Their logs lie in `folder`/logs."""

    folder: Path
    broker: ProcessPlan
    cloud: ProcessPlan
    agents: tuple[ProcessPlan, ...]


def plan_processes(layout: Layout, http: httpx.AsyncClient) -> Plans:
    """What to start for a run whose configuration is written; `http` asks whether it serves."""
    logs = layout.folder / "logs"
    logs.mkdir(exist_ok=True)
    ports = layout.ports
    cloud_pages = [url(ports.gateway_metrics, "/readyz"), url(ports.fleet_metrics, "/metrics"), url(ports.web)]
    cloud = (sys.executable, "-m", "cloud_service", "serve", "--config", str(layout.cloud_file))
    agents = tuple(
        ProcessPlan(
            name,
            (sys.executable, "-m", "edge_agent", "run", "--config", str(file)),
            logs / f"{name}.log",
            serves(http, [f"{device.url}/readyz"]),
        )
        for (name, file), device in zip(layout.agent_files.items(), devices(layout), strict=True)
    )
    return Plans(
        layout.folder,
        ProcessPlan("broker", layout.broker.command, logs / "broker.log", accepts(ports.broker)),
        ProcessPlan("cloud", cloud, logs / "cloud.log", serves(http, cloud_pages)),
        agents,
    )


def devices(layout: Layout) -> tuple[Device, ...]:
    """Where the agents can be asked."""
    return tuple(Device(name, url(port)) for name, port in zip(layout.agent_files, layout.ports.agents, strict=True))


def url(port: int, path: str = "") -> str:
    """An address on this machine."""
    return f"http://{LOOPBACK}:{port}{path}"


def serves(http: httpx.AsyncClient, pages: Sequence[str]) -> Check:
    """A check that all these pages answer with 200."""

    async def check() -> bool:
        try:
            answers = [await http.get(page, timeout=_TIMEOUT_S, follow_redirects=True) for page in pages]
        except httpx.HTTPError:
            return False
        return all(answer.status_code == httpx.codes.OK for answer in answers)

    return check


def accepts(port: int) -> Check:
    """A check that somebody accepts connections."""

    async def check() -> bool:
        try:
            with anyio.fail_after(_TIMEOUT_S):
                await (await anyio.connect_tcp(LOOPBACK, port)).aclose()
        except (OSError, TimeoutError):
            return False
        return True

    return check
