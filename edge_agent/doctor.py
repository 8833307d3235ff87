"""Checks what the agent needs on this device, and says what to do about what is wrong."""

from __future__ import annotations

import os
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from shared.bundle import MANIFEST_NAME
from shared.clock import Clock
from shared.errors import (
    BrokerError,
    CloudRefused,
    ConfigurationError,
    EscalationError,
    StorageError,
    TandemError,
)

if TYPE_CHECKING:
    from edge_agent.config import AgentSettings, BrokerSettings, CloudSettings, ModelSettings, UpdateSettings
    from edge_agent.model import EdgeModel

_CLOCK_TOLERANCE_S = 60.0
_ROOM_BESIDE_A_BUNDLE_BYTES = 50 * 1024 * 1024


class Status(str, Enum):
    """How a check ended. WARN: it works, but not for long or not as well."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Check:
    """One line of the report; `advice` says what to do where the status is not OK."""

    name: str
    status: Status
    finding: str
    advice: str = ""

    def to_json(self) -> dict[str, str]:
        """The line for programs."""
        return {"name": self.name, "status": self.status.value, "finding": self.finding, "advice": self.advice}


def render(checks: Sequence[Check]) -> str:
    """The report for people."""
    lines = []
    for check in checks:
        lines.append(f"{check.status.value:<4}  {check.name}: {check.finding}")
        if check.advice:
            lines.append(f"      → {check.advice}")
    return "\n".join(lines)


async def examine(config: Path, clock: Clock, *, cloud_timeout_s: float = 5.0) -> list[Check]:
    """Every check of the agent that the file `config` describes."""
    from edge_agent.config import load_agent_settings

    try:
        settings = load_agent_settings(config)
    except ConfigurationError as error:
        return [Check("configuration", Status.FAIL, str(error), "correct the file and run this again")]
    checks = [Check("configuration", Status.OK, f"{config} describes device {settings.device_id}")]
    names = []
    for one in settings.models:
        check, model = _check_model(one, clock)
        checks.append(check)
        names += [model.identity.name] if model else []
    checks.append(await _check_broker(settings.device_id, settings.broker))
    checks.append(await _check_cloud(settings.cloud, names, cloud_timeout_s))
    checks.append(_check_clock(settings, clock))
    checks.append(_check_disk(settings))
    checks.append(_check_state(settings))
    if settings.update is not None:
        checks.append(_check_updates(settings, settings.update))
    return checks


def _check_model(settings: ModelSettings, clock: Clock) -> tuple[Check, EdgeModel | None]:
    from edge_agent.loading import load_model

    name = f"model {settings.bundle.name}"
    try:
        model = load_model(settings.bundle, settings.threads, settings.variant)
        times_ms = _golden_times_ms(model, clock)
    except TandemError as error:
        return Check(name, Status.FAIL, str(error), "fetch or copy the bundle again"), None
    finding = (
        f"{model.identity.name} {model.identity.version}: {len(times_ms)} golden texts answered as promised, "
        f"{statistics.median(times_ms):.1f} ms a text"
    )
    if model.gate_threshold is None:
        return Check(
            name, Status.WARN, f"{finding}; escalates everything", "use a bundle with a calibrated gate"
        ), model
    return Check(name, Status.OK, finding), model


def _golden_times_ms(model: EdgeModel, clock: Clock) -> list[float]:
    model.check_golden_set()
    times_ms = []
    for item in model.bundle.golden.items:
        began_s = clock.monotonic_s()
        model.predict(model.encode(item.text), 1)
        times_ms.append((clock.monotonic_s() - began_s) * 1e3)
    return times_ms or [0.0]


async def _check_broker(device_id: str, settings: BrokerSettings | None) -> Check:
    from edge_agent.telemetry import broker_address
    from shared.mqtt import check_broker

    if settings is None:
        return Check("broker", Status.OK, "none configured; the device reports nothing")
    try:
        await check_broker(broker_address(device_id, settings), f"{device_id}-doctor")
    except (BrokerError, ConfigurationError) as error:
        advice = "see that it runs and is reachable, and that broker.password_file holds this device's password"
        return Check("broker", Status.FAIL, str(error), advice)
    return Check("broker", Status.OK, f"{settings.host}:{settings.port} takes this device's login")


async def _check_cloud(settings: CloudSettings | None, names: Sequence[str], timeout_s: float) -> Check:
    from edge_agent.escalation.client import GrpcCloudClient

    if settings is None:
        return Check("cloud", Status.OK, "none configured; the device answers alone")
    try:
        async with GrpcCloudClient(settings) as client:
            served = await client.list_models(timeout_s)
    except CloudRefused as error:
        return Check("cloud", Status.FAIL, str(error), "see that cloud.token_file holds this device's token")
    except (EscalationError, ConfigurationError) as error:
        advice = "see that the gateway runs and that cloud.address and cloud.ca_file are right"
        return Check("cloud", Status.FAIL, f"{settings.address}: {error}", advice)
    there = {model.identity.name for model in served}
    missing = [name for name in names if name not in there]
    if missing:
        finding = (
            f"{settings.address} does not serve {', '.join(missing)}; it serves {', '.join(sorted(there)) or 'none'}"
        )
        return Check("cloud", Status.FAIL, finding, "add the full model's bundle to the gateway's configuration")
    return Check("cloud", Status.OK, f"{settings.address} takes this device's credential and serves its models")


def _check_clock(settings: AgentSettings, clock: Clock) -> Check:
    """A clock that is earlier than what was already written on this device is wrong (an unset clock says 1970)."""
    witnesses = [Path(__file__), *(model.bundle / MANIFEST_NAME for model in settings.models)]
    newest_s = max(path.stat().st_mtime for path in witnesses if path.exists())
    now = datetime.fromtimestamp(clock.unix_s(), timezone.utc)
    if clock.unix_s() < newest_s - _CLOCK_TOLERANCE_S:
        newest = datetime.fromtimestamp(newest_s, timezone.utc)
        finding = f"{now:%Y-%m-%d %H:%M} UTC is before {newest:%Y-%m-%d %H:%M} UTC, when its files were written"
        return Check("clock", Status.FAIL, finding, "set the clock, e.g. timedatectl set-ntp true")
    return Check("clock", Status.OK, f"{now:%Y-%m-%d %H:%M} UTC")


def _check_disk(settings: AgentSettings) -> Check:
    folders = [model.bundle for model in settings.models if model.bundle.is_dir()]
    if not folders:
        return Check("disk", Status.FAIL, "there is no bundle to measure", "copy the bundle to the configured folder")
    largest = max(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) for folder in folders)
    free = shutil.disk_usage(folders[0]).free
    finding = f"{free / 1e6:.0f} MB free at {folders[0].parent}, the largest bundle has {largest / 1e6:.1f} MB"
    if free < largest + _ROOM_BESIDE_A_BUNDLE_BYTES:
        return Check("disk", Status.WARN, finding, "free some space, or the next model cannot be put beside this one")
    return Check("disk", Status.OK, finding)


def _check_state(settings: AgentSettings) -> Check:
    """Looks and changes nothing, so that an agent may be running."""
    from edge_agent.agent import state_path
    from edge_agent.state.file import describe_state

    path = state_path(settings)
    try:
        finding = describe_state(path)
    except StorageError as error:
        return Check("state", Status.WARN, str(error), "the agent sets it aside at its next start and begins anew")
    folder = next(folder for folder in path.parents if folder.exists())
    if not os.access(folder, os.W_OK):
        advice = "make it writable for the agent, or counters and labels are lost with every stop"
        return Check("state", Status.FAIL, f"{folder} cannot be written", advice)
    return Check("state", Status.OK, finding)


def _check_updates(settings: AgentSettings, update: UpdateSettings) -> Check:
    """Whether updates can be trusted and have room, and what the last ones came to. Looks and changes nothing."""
    from edge_agent.updating import describe_updates

    try:
        finding, problems = describe_updates(settings, update)
    except TandemError as error:
        return Check("updates", Status.FAIL, str(error), "put the file that is named there in its place again")
    if problems:
        advice = "nothing is lost: the bundle before answers; see why, and make room or roll a better release out"
        return Check("updates", Status.WARN, f"{finding}; {'; '.join(problems)}", advice)
    return Check("updates", Status.OK, finding)
