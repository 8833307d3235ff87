"""Updates as a part of the agent: which bundle is loaded at its start, and who follows what the director wants."""

from __future__ import annotations

import logging
import platform
from collections.abc import Sequence
from pathlib import Path

import anyio

import shared
from edge_agent.config import AgentSettings, UpdateSettings
from edge_agent.loading import load_model
from edge_agent.model import EdgeModel
from edge_agent.state.keeper import StateThread
from edge_agent.telemetry import Telemetry
from edge_agent.update import parts
from edge_agent.update.disk import Disk, RealDisk
from edge_agent.update.host import PipelineHost
from edge_agent.update.http_source import HttpSource
from edge_agent.update.mqtt_source import MqttSource
from edge_agent.update.ports import RepositorySource
from edge_agent.update.reports import DeviceFacts
from edge_agent.update.slots import ModelSlots, Start
from edge_agent.update.staging import DiskBudget
from edge_agent.update.trust import TufRepository
from edge_agent.update.tuf_client import root_words
from edge_agent.update.updater import Updater
from shared import topics
from shared.clock import Clock
from shared.errors import BrokerError, BundleError, ConfigurationError, EngineError
from shared.mqtt import Message
from shared.secret_files import read_secret
from shared.update.codec import encode_report
from shared.update.report import InstalledRelease, UpdateReport

_log = logging.getLogger(__name__)
_HINT_ENDING = "/desired"
_TRUST = ".trust"
"""Beside the models' folders, under a name that no model has."""


class InstalledModels:
    """What lies on the device for each configured model, and is loaded at the agent's start. Blocking."""

    def __init__(self, settings: AgentSettings, disk: Disk | None = None) -> None:
        """Raises: BundleError: a configured bundle is not there."""
        self._settings = settings
        self.disk = disk or RealDisk()
        folder = updates_folder(settings)
        self.slots = tuple(ModelSlots(folder, one.bundle, self.disk, one.variant) for one in settings.models)
        self.releases: dict[str, InstalledRelease] = {}
        self._begun: list[ModelSlots] = []
        self.threads = {slots.model: one.threads for slots, one in zip(self.slots, settings.models, strict=True)}

    def load(self) -> tuple[EdgeModel, ...]:
        """Load each model's running slot; where that cannot be, what lay there before.

        Raises:
            BundleError, EngineError: a model has nothing left that can be loaded.
            ConfigurationError: two bundles hold a model of the same name.
        """
        if len(self.threads) < len(self.slots):
            raise ConfigurationError("models: two bundles hold a model of the same name; a device runs each name once")
        return tuple(self._load(slots) for slots in self.slots)

    def ready(self) -> None:
        """The agent answers with what was loaded."""
        for slots in self.slots:
            slots.ready()

    def stop(self) -> None:
        """The agent ends in good order, or cannot start for a reason that lies in no model."""
        for slots in self._begun:
            slots.stop()

    def _load(self, slots: ModelSlots) -> EdgeModel:
        start = slots.start()
        self._begun.append(slots)
        while True:
            try:
                model = load_model(start.folder, self.threads[slots.model], start.release.variant)
                _check_is(model, start)
            except (BundleError, EngineError) as error:
                start = slots.start_again(error)
            else:
                self.releases[slots.model] = start.release
                return model


def _check_is(model: EdgeModel, start: Start) -> None:
    """Raises: BundleError: the slot holds another bundle than is known of it, as after a disk that lost a write."""
    found = model.identity.version, model.identity.digest, model.gate_digest
    known = start.release.version, start.release.model_digest, start.release.gate_digest
    if found != known:
        raise BundleError(
            start.folder, f"holds {found[0]} with its gate, which is not the {known[0]} of slot {start.slot}"
        )


def updates_folder(settings: AgentSettings) -> Path:
    """Where a device's slots and metadata lie: a folder for each device, so that several may share a disk."""
    return settings.state.data_dir / "updates" / settings.device_id


class DeviceUpdates:
    """Follows the director while `run` runs, as a guest on the device's link to the broker.

    Where files come over HTTP and there is no broker, the repository is looked at now and then, and nobody is told.
    """

    def __init__(
        self,
        settings: AgentSettings,
        installed: InstalledModels,
        host: PipelineHost,
        boot_id: str,
        telemetry: Telemetry | None,
        clock: Clock,
    ) -> None:
        """Raises: ConfigurationError: there is no [update], or what it names is missing or cannot be read."""
        if settings.update is None:
            raise ConfigurationError("name the fleet's root metadata in [update]")
        self._update = settings.update
        self._installed, self._host, self._telemetry, self._clock = installed, host, telemetry, clock
        hardware = settings.update.hardware or platform.machine()
        self._facts = DeviceFacts(
            settings.device_id, boot_id, settings.ring, hardware, shared.__version__, settings.device_labels
        )
        self._blocks: MqttSource | None = None
        self._thread = StateThread()
        self._source = self._open_source()
        self._updater = self._make_updater(updates_folder(settings))
        self._untold: dict[str, UpdateReport] = {}
        self._has_news = anyio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with anyio.create_task_group() as tasks:
                if self._telemetry is not None:
                    await self._telemetry.invite(self, self._topic_filters())
                    tasks.start_soon(self._tell, self._telemetry)
                tasks.start_soon(self._updater.run)
        finally:
            self._host.close()
            if isinstance(self._source, HttpSource):
                self._source.close()
            self._thread.close()

    async def reconnected(self) -> None:
        """See `LinkGuest`: the broker may have forgotten what was asked, and what was told."""
        if self._blocks is not None:
            await self._blocks.reconnected()
        for report in self._updater.latest_reports:
            self._report(report)

    async def hear(self, message: Message) -> None:
        """See `LinkGuest`: a hint, or blocks."""
        if message.topic.endswith(_HINT_ENDING):
            self._updater.hint(message.topic.split("/")[-2])
        elif self._blocks is not None:
            await self._blocks.hear(message)

    def _make_updater(self, folder: Path) -> Updater:
        facts, update = self._facts, self._update
        repository = TufRepository(
            self._source,
            folder / _TRUST,
            _pinned_root(update.root_file),
            self._clock,
            device_id=facts.device_id,
            hardware=facts.hardware,
        )
        return Updater(
            facts,
            self._installed.slots,
            repository,
            self._source,
            self._host,
            report=self._report,
            run_blocking=self._thread.run,
            clock=self._clock,
            unix_s=repository.now_unix_s,
            settings=_updater_settings(update),
            disk=self._installed.disk,
        )

    def _open_source(self) -> RepositorySource:
        update = self._update
        if update.transport == "mqtt":
            if self._telemetry is None:
                raise ConfigurationError("update.transport is mqtt: name the broker in [broker], or take http")
            self._blocks = MqttSource(self._facts.device_id, self._telemetry.publish, self._clock)
            return self._blocks
        if update.url is None:
            raise ConfigurationError("update.transport is http: name the repository in update.url")
        token = read_secret("update.token_file", update.token_file) if update.token_file else None
        ca_file = str(update.ca_file) if update.ca_file else None
        return HttpSource(update.url, self._clock, ca_file=ca_file, token=token)

    def _topic_filters(self) -> Sequence[str]:
        models, blocks = self._installed.threads, self._blocks
        return (
            *(topics.ring_desired(self._facts.ring, model) for model in models),
            *(topics.desired(self._facts.device_id, model) for model in models),
            *(blocks.subscriptions if blocks else ()),
        )

    def _report(self, report: UpdateReport) -> None:
        """Only a model's newest report counts; one that cannot be sent now is sent at the next connection."""
        self._untold[report.model] = report
        self._has_news.set()

    async def _tell(self, telemetry: Telemetry) -> None:
        while True:
            await self._has_news.wait()
            self._has_news = anyio.Event()
            while self._untold and telemetry.is_connected:
                _, report = self._untold.popitem()
                topic = topics.reported(report.device_id, report.model)
                try:
                    await telemetry.publish(topic, encode_report(report), retain=True)
                except BrokerError as error:
                    _log.warning("a report on updates was not sent: %s", error)
                    self._untold.setdefault(report.model, report)
                    break


def describe_updates(settings: AgentSettings, update: UpdateSettings) -> tuple[str, list[str]]:
    """What the device trusts and runs, in words, and what is wrong with it; only looks.

    Raises:
        ConfigurationError: the root metadata cannot be read, or are none.
        BundleError: a configured bundle is not there.
    """
    installed = InstalledModels(settings)
    words = [f"trusts {update.root_file}, {root_words(_pinned_root(update.root_file))}"]
    problems = []
    for slots in installed.slots:
        state, place = slots.state, slots.places.get(slots.state.active)
        runs = place.release.version if place else "nothing known"
        words.append(f"{slots.model} has {runs} in slot {state.active}, {state.phase.value}")
        problems += [f"{slots.model}: {state.error}"] if state.error else []
    there = next(folder for folder in (*updates_folder(settings).parents, Path()) if folder.exists())
    free_bytes = installed.disk.free_bytes(there)
    if free_bytes <= update.reserved_disk_bytes:
        kept = update.reserved_disk_bytes
        problems.append(
            f"{free_bytes / 1e6:.0f} MB are free at {there}, of which {kept / 1e6:.0f} MB are kept for others"
        )
    return "; ".join(words), problems


def _pinned_root(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"update.root_file {file} cannot be read: {error}") from error


def _updater_settings(update: UpdateSettings) -> parts.UpdateSettings:
    return parts.UpdateSettings(
        interval_s=update.interval_ms / 1e3,
        hint_spread_s=update.hint_spread_ms / 1e3,
        budget=DiskBudget(reserve_bytes=update.reserved_disk_bytes, most_bytes=update.most_disk_bytes),
    )
