"""The cloud service's configuration: one TOML file for all its processes, environment overrides `TANDEM_CLOUD_...`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from shared.errors import ConfigurationError
from shared.listeners import require_protected, require_tls
from shared.settings import Section, Settings, load_settings, resolve_beside


class TlsSettings(Section):
    """A listener's certificate and key, PEM files."""

    certificate: Path
    key: Path


class ServedModelSettings(Section):
    """One full model that the gateway serves.

    `threads`: intra-operator threads; 0 for one a core, less one that the gateway itself needs.
    """

    bundle: Path
    threads: int = Field(0, ge=0, le=256)


class GatewaySettings(Section):
    """The gRPC listener, its batcher and its limits. A remembered answer (`idempotency_entries`) takes about 1 kB."""

    host: str = "127.0.0.1"
    port: int = Field(50051, ge=0, le=65535)
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(9464, ge=0, le=65535)
    tls: TlsSettings | None = None
    credentials: Path | None = None
    models: tuple[ServedModelSettings, ...] = ()
    max_batch: int = Field(16, ge=1, le=1024)
    max_queued: int = Field(1024, ge=1)
    max_message_bytes: int = Field(1 << 20, ge=1024)
    max_concurrent_rpcs: int = Field(4096, ge=1)
    default_deadline_ms: int = Field(10_000, ge=1)
    idempotency_entries: int = Field(50_000, ge=1)
    idempotency_ttl_ms: int = Field(600_000, ge=1)
    drain_ms: int = Field(10_000, ge=0)


class BrokerSettings(Section):
    """The MQTT broker and this service's login there. `ca_file` set means TLS."""

    host: str = "127.0.0.1"
    port: int = Field(1883, ge=1, le=65535)
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None


class FleetSettings(Section):
    """Telemetry ingest. What arrives within `commit_interval_ms` is written in one transaction."""

    client_id: str = "tandem-fleet"
    commit_interval_ms: int = Field(1000, ge=50)
    retention_minutes: int = Field(48 * 60, ge=1)
    offline_after_ms: int = Field(60_000, ge=1000)
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(9465, ge=0, le=65535)


class WebSettings(Section):
    """The operator's page. It answers under loopback names and `host`; `allowed_hosts` names others, a proxy's say."""

    host: str = "127.0.0.1"
    port: int = Field(8090, ge=0, le=65535)
    refresh_ms: int = Field(1000, ge=100)
    allowed_hosts: tuple[str, ...] = ()


class StorageSettings(Section):
    """Where telemetry is kept: an SQLAlchemy URL; by default an SQLite file in `data_dir`."""

    url: str | None = None


class CloudSettings(Settings):
    """The whole file. Relative paths are meant from the file's folder."""

    model_config = SettingsConfigDict(env_prefix="TANDEM_CLOUD_")

    data_dir: Path = Path("tandem-cloud")
    gateway: GatewaySettings = GatewaySettings()
    broker: BrokerSettings = BrokerSettings()
    fleet: FleetSettings = FleetSettings()
    web: WebSettings = WebSettings()
    storage: StorageSettings = StorageSettings()

    @model_validator(mode="after")
    def _listeners_are_protected(self) -> CloudSettings:
        gateway = self.gateway
        try:
            require_protected(
                "gateway.host", gateway.host, tls=gateway.tls is not None, credentials=gateway.credentials is not None
            )
            for name, host in (
                ("gateway.metrics_host", gateway.metrics_host),
                ("fleet.metrics_host", self.fleet.metrics_host),
                ("web.host", self.web.host),
            ):
                require_protected(name, host, tls=False, credentials=False)
            require_tls("broker.host", self.broker.host, "broker.ca_file", tls=self.broker.ca_file is not None)
        except ConfigurationError as error:
            raise ValueError(str(error)) from error
        return self

    def storage_url(self) -> str:
        """The SQLAlchemy URL of the store."""
        return self.storage.url or f"sqlite:///{self.data_dir / 'fleet.sqlite'}"


def load_cloud_settings(file: Path | None) -> CloudSettings:
    """Read the cloud's configuration; paths come back resolved against the file's folder.

    Raises:
        ConfigurationError: see `shared.settings.load_settings`.
    """
    settings = load_settings(CloudSettings, file)
    gateway = settings.gateway

    def beside(path: Path | None) -> Path | None:
        return resolve_beside(file, path) if path else None

    models = tuple(model.model_copy(update={"bundle": resolve_beside(file, model.bundle)}) for model in gateway.models)
    tls = gateway.tls and gateway.tls.model_copy(
        update={"certificate": beside(gateway.tls.certificate), "key": beside(gateway.tls.key)}
    )
    return settings.model_copy(
        update={
            "data_dir": resolve_beside(file, settings.data_dir),
            "gateway": gateway.model_copy(
                update={"models": models, "tls": tls, "credentials": beside(gateway.credentials)}
            ),
            "broker": settings.broker.model_copy(
                update={
                    "password_file": beside(settings.broker.password_file),
                    "ca_file": beside(settings.broker.ca_file),
                }
            ),
        }
    )
