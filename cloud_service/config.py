"""The cloud service's configuration: one TOML file for all its processes, environment overrides `TANDEM_CLOUD_...`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from shared.errors import ConfigurationError
from shared.listeners import is_loopback, require_protected, require_tls
from shared.settings import Section, Settings, load_settings, resolve_beside
from shared.tracing import TracingSettings


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
    """The gRPC listener, its batcher and its limits. A remembered answer (`idempotency_entries`) takes about 1 kB.

    Every `watch_bundles_ms` the models' folders are looked at: a bundle that was exchanged takes the running one's
    place under traffic. 0: only when SIGHUP asks for it.

    `record_comparisons`: devices' answers beside the full model's, and labels that come back, go to the store, where
    `comparisons_kept_days` and `comparisons_kept_rows` bound each of both; at most `comparisons_queued` wait to be
    written.
    """

    host: str = "127.0.0.1"
    port: int = Field(50051, ge=0, le=65535)
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(9464, ge=0, le=65535)
    tls: TlsSettings | None = None
    credentials: Path | None = None
    models: tuple[ServedModelSettings, ...] = ()
    watch_bundles_ms: int = Field(2000, ge=0)
    max_batch: int = Field(16, ge=1, le=1024)
    max_queued: int = Field(1024, ge=1)
    max_message_bytes: int = Field(1 << 20, ge=1024)
    max_concurrent_rpcs: int = Field(4096, ge=1)
    default_deadline_ms: int = Field(10_000, ge=1)
    idempotency_entries: int = Field(50_000, ge=1)
    idempotency_ttl_ms: int = Field(600_000, ge=1)
    drain_ms: int = Field(10_000, ge=0)
    record_comparisons: bool = True
    comparisons_queued: int = Field(10_000, ge=1)
    comparisons_kept_days: int = Field(90, ge=1)
    comparisons_kept_rows: int = Field(1_000_000, ge=1)


class BrokerSettings(Section):
    """The MQTT broker and this service's login there. `ca_file` set means TLS."""

    host: str = "127.0.0.1"
    port: int = Field(1883, ge=1, le=65535)
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None


class FleetSettings(Section):
    """Telemetry ingest. What arrives within `commit_interval_ms` is written in one transaction.

    Counts of 10 s are kept `fine_kept_minutes`, of one and ten minutes `retention_minutes`, of hours `hours_kept_days`
    and of days `days_kept_days`. `edge_bundles`: what devices run; the gates of these bundles are watched.
    """

    client_id: str = "tandem-fleet"
    commit_interval_ms: int = Field(1000, ge=50)
    fine_kept_minutes: int = Field(60, ge=1)
    retention_minutes: int = Field(48 * 60, ge=1)
    hours_kept_days: int = Field(30, ge=1)
    days_kept_days: int = Field(730, ge=1)
    edge_bundles: tuple[Path, ...] = ()
    offline_after_ms: int = Field(60_000, ge=1000)
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(9465, ge=0, le=65535)


class WatchSettings(Section):
    """How gates are watched. `delta`: how likely at most a false alarm is in any `period` judged answers of a risk that
    is exactly its alpha; `drift_delta`: how likely at most a false warning that scores drift ever is.
    """

    delta: float = Field(0.1, gt=0.0, lt=0.5)
    period: int = Field(2000, ge=100, le=100_000)
    drift_delta: float = Field(0.01, gt=0.0, lt=0.5)


class WebSettings(Section):
    """The operator's page. It answers under loopback names and `host`; `allowed_hosts` names others, a proxy's say.

    `login`: "auto" asks for one as soon as there is a user, "required" always. A session ends after `session_idle_ms`
    without a request and after `session_longest_ms` in all. `login_attempts` of one name may fail at once, and one more
    each `login_attempt_every_ms`; of one address, four times as many. `behind_proxy`: a proxy on this machine stands
    before the page, and its X-Forwarded-For and -Proto are believed.
    """

    host: str = "127.0.0.1"
    port: int = Field(8090, ge=0, le=65535)
    tls: TlsSettings | None = None
    refresh_ms: int = Field(1000, ge=100)
    allowed_hosts: tuple[str, ...] = ()
    behind_proxy: bool = False
    login: Literal["auto", "required"] = "auto"
    session_idle_ms: int = Field(30 * 60_000, ge=1000)
    session_longest_ms: int = Field(12 * 3_600_000, ge=1000)
    login_attempts: int = Field(5, ge=1, le=1000)
    login_attempt_every_ms: int = Field(12_000, ge=1)


class DeliverySettings(Section):
    """Gives devices the files in the folder `repository`, by default the registry's folder or bucket: in blocks over
    MQTT, and by HTTP on `host`:`port`. The section's being there turns both on.

    `publisher`: this one's id; with `password_file` it is its login at the broker too, so that each has its own. The
    rates are of blocks over MQTT, `total_bytes_s` for all devices and `device_bytes_s` for each; at most
    `waiting_ranges` wait, `device_waiting_ranges` of one device. HTTP answers to the tokens in `credentials`.
    """

    repository: Path | None = None
    publisher: str = Field("tandem-publisher", pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
    password_file: Path | None = None
    total_bytes_s: int = Field(32 * 1024 * 1024, ge=1024)
    device_bytes_s: int = Field(8 * 1024 * 1024, ge=1024)
    block_bytes: int = Field(256 * 1024, ge=1024, le=256 * 1024)
    waiting_ranges: int = Field(100_000, ge=1)
    device_waiting_ranges: int = Field(1024, ge=1)
    host: str = "127.0.0.1"
    port: int = Field(8092, ge=0, le=65535)
    tls: TlsSettings | None = None
    credentials: Path | None = None
    http_connections: int = Field(1000, ge=1)
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(9466, ge=0, le=65535)


class StorageSettings(Section):
    """Where telemetry is kept: an SQLAlchemy URL; by default an SQLite file in `data_dir`."""

    url: str | None = None


class RegistrySettings(Section):
    """Where releases lie and how long signatures hold. `url`: a bucket, s3://name/folder; by default the folder
    `repository` in `data_dir`. `keys`: the folder of key files, by default `keys` in `data_dir`.

    At most `live_releases` and `live_gates` of a model are listed at once, and `device_assignments` devices have an
    assignment of their own, so that metadata stays small. The timestamp is signed anew every `resign_every_minutes`.
    `kept_hours`: what nothing names any more is still there for so long, for devices that are about to fetch it.
    """

    url: str | None = None
    keys: Path | None = None
    live_releases: int = Field(6, ge=2, le=100)
    live_gates: int = Field(8, ge=2, le=100)
    device_assignments: int = Field(64, ge=0, le=10_000)
    timestamp_hours: float = Field(24.0, gt=0)
    resign_every_minutes: float = Field(240.0, gt=0)
    snapshot_days: float = Field(7.0, gt=0)
    director_days: float = Field(30.0, gt=0)
    offline_days: float = Field(365.0, gt=0)
    kept_hours: float = Field(24.0, ge=0)


class RolloutSettings(Section):
    """Takes new releases through the fleet; the section's being there turns it on. It needs the registry's online keys.

    `client_id` is its name at the broker; with `password_file` it is its login there too. Devices' reports are written
    and rollouts taken on every `interval_ms`. A rollout is forgotten `kept_days` after its end, but none by which a
    ring still runs.
    """

    client_id: str = Field("tandem-rollout", pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
    password_file: Path | None = None
    interval_ms: int = Field(1000, ge=50, le=60_000)
    kept_days: int = Field(365, ge=1)
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(9467, ge=0, le=65535)


class PrivacySettings(Section):
    """`keep_text`: the texts of compared requests are kept beside the answers; else nothing is stored of them."""

    keep_text: bool = False


class CloudSettings(Settings):
    """The whole file. Relative paths are meant from the file's folder."""

    model_config = SettingsConfigDict(env_prefix="TANDEM_CLOUD_")

    data_dir: Path = Path("tandem-cloud")
    gateway: GatewaySettings = GatewaySettings()
    broker: BrokerSettings = BrokerSettings()
    fleet: FleetSettings = FleetSettings()
    watch: WatchSettings = WatchSettings()
    web: WebSettings = WebSettings()
    delivery: DeliverySettings | None = None
    storage: StorageSettings = StorageSettings()
    privacy: PrivacySettings = PrivacySettings()
    registry: RegistrySettings = RegistrySettings()
    rollout: RolloutSettings | None = None
    tracing: TracingSettings | None = None

    @model_validator(mode="after")
    def _listeners_are_protected(self) -> CloudSettings:
        gateway = self.gateway
        try:
            require_protected(
                "gateway.host", gateway.host, tls=gateway.tls is not None, credentials=gateway.credentials is not None
            )
            for name, section in (
                ("gateway", gateway),
                ("fleet", self.fleet),
                ("delivery", self.delivery),
                ("rollout", self.rollout),
            ):
                if section is not None:
                    require_protected(f"{name}.metrics_host", section.metrics_host, tls=False, credentials=False)
            self._require_protected_page()
            if (delivery := self.delivery) is not None:
                require_protected(
                    "delivery.host",
                    delivery.host,
                    tls=delivery.tls is not None,
                    credentials=delivery.credentials is not None,
                )
            require_tls("broker.host", self.broker.host, "broker.ca_file", tls=self.broker.ca_file is not None)
        except ConfigurationError as error:
            raise ValueError(str(error)) from error
        return self

    def _require_protected_page(self) -> None:
        web = self.web
        if not is_loopback(web.host) and (web.tls is None or web.login != "required"):
            raise ConfigurationError(
                f'web.host would listen on {web.host}: set web.tls and web.login = "required", or listen on 127.0.0.1'
            )

    def storage_url(self) -> str:
        """The SQLAlchemy URL of the store."""
        return self.storage.url or f"sqlite:///{self.data_dir / 'fleet.sqlite'}"

    def registry_place(self) -> Path | str:
        """The repository's folder, or the URL of its bucket."""
        return self.registry.url or self.data_dir / "repository"

    def served_repository(self) -> Path | str:
        """What delivery serves: a folder, or the bucket at a URL."""
        return (self.delivery and self.delivery.repository) or self.registry_place()

    def registry_keys(self) -> Path:
        """The folder of the repository's keys."""
        return self.registry.keys or self.data_dir / "keys"


_DELIVERY_PATHS = ("repository", "password_file", "credentials")


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

    def tls_beside(tls: TlsSettings | None) -> TlsSettings | None:
        return tls and tls.model_copy(update={"certificate": beside(tls.certificate), "key": beside(tls.key)})

    return settings.model_copy(
        update={
            "data_dir": resolve_beside(file, settings.data_dir),
            "gateway": gateway.model_copy(
                update={"models": models, "tls": tls_beside(gateway.tls), "credentials": beside(gateway.credentials)}
            ),
            "web": settings.web.model_copy(update={"tls": tls_beside(settings.web.tls)}),
            "rollout": settings.rollout
            and settings.rollout.model_copy(update={"password_file": beside(settings.rollout.password_file)}),
            "registry": settings.registry.model_copy(update={"keys": beside(settings.registry.keys)}),
            "delivery": settings.delivery
            and settings.delivery.model_copy(
                update={
                    "tls": tls_beside(settings.delivery.tls),
                    **{name: beside(getattr(settings.delivery, name)) for name in _DELIVERY_PATHS},
                }
            ),
            "fleet": settings.fleet.model_copy(
                update={"edge_bundles": tuple(resolve_beside(file, path) for path in settings.fleet.edge_bundles)}
            ),
            "broker": settings.broker.model_copy(
                update={
                    "password_file": beside(settings.broker.password_file),
                    "ca_file": beside(settings.broker.ca_file),
                }
            ),
        }
    )
