"""The agent's configuration: one TOML file, environment overrides `TANDEM_EDGE_...`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from shared.errors import ConfigurationError, InputError
from shared.gate import Risk
from shared.listeners import host_and_port, require_protected, require_tls
from shared.settings import Section, Settings, load_settings, resolve_beside
from shared.tracing import TracingSettings
from shared.types import DEFAULT_RING, checked_identifier
from shared.update.labels import checked_labels


class ModelSettings(Section):
    """One model that the device runs. `threads`: intra-operator threads of ONNX Runtime."""

    bundle: Path
    variant: str = ""
    threads: int = Field(1, ge=1, le=64)


class HttpSettings(Section):
    """The listener for applications on the device.

    `max_in_flight` requests are accepted at once, further ones are refused with 429. A request without a
    deadline of its own gets `default_deadline_ms`.
    """

    host: str = "127.0.0.1"
    port: int = Field(8070, ge=0, le=65535)
    max_in_flight: int = Field(64, ge=1)
    max_body_bytes: int = Field(1 << 20, ge=1024)
    max_list_items: int = Field(64, ge=1)
    default_deadline_ms: int = Field(2000, ge=1)
    drain_ms: int = Field(5000, ge=0)


class CloudSettings(Section):
    """The way to the gateway. `ca_file` set means TLS.

    `reserve_ms` of a request's deadline is kept back, so that the device can still answer by itself;
    the breaker opens after `breaker_failures` failed calls in a row and tries again after
    `breaker_open_ms` (doubling to `breaker_longest_ms`).
    """

    address: str
    token_file: Path | None = None
    ca_file: Path | None = None
    timeout_ms: int = Field(1000, ge=1)
    reserve_ms: int = Field(20, ge=0)
    max_in_flight: int = Field(256, ge=1)
    breaker_failures: int = Field(3, ge=1)
    breaker_open_ms: int = Field(500, ge=1)
    breaker_longest_ms: int = Field(5_000, ge=1)
    keepalive_ms: int = Field(60_000, ge=10_000)


class BrokerSettings(Section):
    """The MQTT broker; the user name is the device id. `ca_file` set means TLS."""

    host: str
    port: int = Field(1883, ge=1, le=65535)
    password_file: Path | None = None
    ca_file: Path | None = None
    telemetry_interval_ms: int = Field(2000, ge=100)


class AuditSettings(Section):
    """Which share of the kept answers the cloud is asked for as well, to measure the kept risk; 0 for none.

    At most `max_in_flight` audits are under way at once; the cloud has `timeout_ms` for each.
    """

    share: float = Field(0.05, ge=0.0, le=1.0)
    max_in_flight: int = Field(8, ge=1)
    timeout_ms: int = Field(10_000, ge=1)


class StateSettings(Section):
    """The folder of the device's counters, its answers and the policies that it obeys."""

    data_dir: Path = Path("tandem-agent")


class LabelSettings(Section):
    """True labels that come back: the newest `remembered_answers` can be named.

    At most `max_waiting` labels wait for the cloud; further ones are refused with 429.
    """

    remembered_answers: int = Field(100_000, ge=1)
    max_waiting: int = Field(10_000, ge=1)
    max_list_items: int = Field(1000, ge=1)


class BudgetSettings(Section):
    """Over `offload_cap`, or when the cloud has no room, the gate may loosen as far as `loosest`.

    `offload_cap` is a share of the accepted requests. `loosest` from risk to alpha, each of which the bundle's gate
    must certify; without it nothing is loosened. Under a policy of the fleet's, the policy's own budget holds.
    """

    offload_cap: float | None = Field(None, ge=0.0, le=1.0)
    loosest: dict[Risk, float] = Field(default_factory=dict)


class UpdateSettings(Section):
    """How the device takes new bundles. `root_file`: the fleet's root metadata, which the device trusts from the start.

    Files come in blocks over the broker, or from `url` over HTTP. `hardware`: the kind of device, by default what the
    machine says. The repository is looked at every `interval_ms`, give or take half, and within `hint_spread_ms` of a
    hint. An update leaves `reserved_disk_bytes` free and takes no more than `most_disk_bytes` in all.
    """

    root_file: Path
    transport: Literal["mqtt", "http"] = "mqtt"
    url: str | None = None
    ca_file: Path | None = None
    token_file: Path | None = None
    hardware: str = Field("", max_length=64)
    interval_ms: int = Field(300_000, ge=1000)
    hint_spread_ms: int = Field(1000, ge=0)
    reserved_disk_bytes: int = Field(64 << 20, ge=0)
    most_disk_bytes: int | None = Field(None, ge=1)


class AgentSettings(Settings):
    """The whole file. Without [cloud] the device answers all by itself; without [broker] it reports nothing.

    `workers` texts are computed at once. `ring` names the devices that are told the same policies; `device_labels` (as
    `site = "berlin"`) tell apart which of them a stage of a rollout is for. Relative paths are meant from the file's
    folder.
    """

    model_config = SettingsConfigDict(env_prefix="TANDEM_EDGE_")

    device_id: str
    ring: str = DEFAULT_RING
    device_labels: dict[str, str] = Field(default_factory=dict)
    models: tuple[ModelSettings, ...] = Field(min_length=1)
    workers: int = Field(1, ge=1, le=64)
    http: HttpSettings = HttpSettings()
    cloud: CloudSettings | None = None
    broker: BrokerSettings | None = None
    audit: AuditSettings = AuditSettings()
    state: StateSettings = StateSettings()
    labels: LabelSettings = LabelSettings()
    budget: BudgetSettings = BudgetSettings()
    update: UpdateSettings | None = None
    tracing: TracingSettings | None = None

    @field_validator("device_id", "ring")
    @classmethod
    def _is_an_identifier(cls, value: str, info: ValidationInfo) -> str:
        try:
            return checked_identifier(str(info.field_name), value)
        except InputError as error:
            raise ValueError(str(error)) from error

    @field_validator("device_labels")
    @classmethod
    def _are_labels(cls, value: dict[str, str]) -> dict[str, str]:
        try:
            checked_labels(value)
        except InputError as error:
            raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _links_are_protected(self) -> AgentSettings:
        try:
            require_protected("http.host", self.http.host, tls=False, credentials=False)
            if self.cloud:
                host, _ = host_and_port("cloud.address", self.cloud.address)
                require_tls("cloud.address", host, "cloud.ca_file", tls=self.cloud.ca_file is not None)
            if self.broker:
                require_tls("broker.host", self.broker.host, "broker.ca_file", tls=self.broker.ca_file is not None)
        except ConfigurationError as error:
            raise ValueError(str(error)) from error
        return self


def load_agent_settings(file: Path | None) -> AgentSettings:
    """Read the agent's configuration; paths come back resolved against the file's folder.

    Raises:
        ConfigurationError: see `shared.settings.load_settings`.
    """
    settings = load_settings(AgentSettings, file)

    def beside(path: Path | None) -> Path | None:
        return resolve_beside(file, path) if path else None

    models = tuple(model.model_copy(update={"bundle": resolve_beside(file, model.bundle)}) for model in settings.models)
    cloud = settings.cloud and settings.cloud.model_copy(
        update={"token_file": beside(settings.cloud.token_file), "ca_file": beside(settings.cloud.ca_file)}
    )
    broker = settings.broker and settings.broker.model_copy(
        update={"password_file": beside(settings.broker.password_file), "ca_file": beside(settings.broker.ca_file)}
    )
    update = settings.update and settings.update.model_copy(
        update={
            "root_file": resolve_beside(file, settings.update.root_file),
            "ca_file": beside(settings.update.ca_file),
            "token_file": beside(settings.update.token_file),
        }
    )
    state = settings.state.model_copy(update={"data_dir": resolve_beside(file, settings.state.data_dir)})
    resolved = {"models": models, "cloud": cloud, "broker": broker, "state": state, "update": update}
    return settings.model_copy(update=resolved)
