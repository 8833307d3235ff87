from __future__ import annotations

from pathlib import Path

import pytest

from cloud_service.config import CloudSettings, load_cloud_settings
from shared.errors import ConfigurationError


def load(folder: Path, text: str) -> CloudSettings:
    file = folder / "cloud.toml"
    file.write_text(text, encoding="utf-8")
    return load_cloud_settings(file)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[gateway]\nmax_bach = 4", "gateway.max_bach: unknown key; did you mean max_batch"),
        ("[gatway]\nport = 1", "gatway: unknown key"),
        ("[[gateway.models]]\nbundel = 'x'", "gateway.models.0.bund"),
        ('[gateway]\ndrain_ms = "ten seconds"', "gateway.drain_ms"),
        ("[gateway]\nport = 70000", "gateway.port"),
        ("[gateway]\nmax_queued = 0", "gateway.max_queued"),
        ("[gateway", "cannot be read as TOML"),
    ],
)
def test_what_is_wrong_is_named_with_key_and_file(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, text)
    assert named in str(error.value)
    assert str(tmp_path / "cloud.toml") in str(error.value)


@pytest.mark.parametrize("more", ["", 'credentials = "c"', 'tls = { certificate = "c", key = "k" }'])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gateway.example"])
def test_a_gateway_that_others_reach_needs_tls_and_credentials(tmp_path: Path, host: str, more: str) -> None:
    with pytest.raises(ConfigurationError, match=f"gateway.host would listen on {host} without"):
        load(tmp_path, f'[gateway]\nhost = "{host}"\n{more}\n')


def test_with_tls_and_credentials_a_gateway_may_be_reached_by_others(tmp_path: Path) -> None:
    protected = 'credentials = "c.json"\ntls = { certificate = "c.pem", key = "k.pem" }'
    gateway = load(tmp_path, f'[gateway]\nhost = "0.0.0.0"\n{protected}\n').gateway
    assert gateway.tls is not None
    assert (gateway.credentials, gateway.tls.key) == (tmp_path / "c.json", tmp_path / "k.pem")


@pytest.mark.parametrize("key", ["gateway.metrics_host", "fleet.metrics_host", "web.host"])
def test_pages_without_tls_stay_on_loopback(tmp_path: Path, key: str) -> None:
    table, name = key.split(".")
    with pytest.raises(ConfigurationError, match=f"{key} would listen on 0.0.0.0"):
        load(tmp_path, f'[{table}]\n{name} = "0.0.0.0"\n')


@pytest.mark.parametrize(
    "more",
    ['login = "required"', 'tls = { certificate = "c.pem", key = "k.pem" }', 'login = "auto"\nbehind_proxy = true'],
)
def test_a_page_that_others_reach_needs_tls_and_a_login(tmp_path: Path, more: str) -> None:
    with pytest.raises(ConfigurationError, match=r'set web\.tls and web\.login = "required"'):
        load(tmp_path, f'[web]\nhost = "0.0.0.0"\n{more}\n')


def test_with_tls_and_a_login_the_page_may_be_reached_by_others(tmp_path: Path) -> None:
    protected = 'login = "required"\ntls = { certificate = "c.pem", key = "/etc/k.pem" }'
    web = load(tmp_path, f'[web]\nhost = "0.0.0.0"\n{protected}\n').web
    assert web.tls is not None
    assert (web.tls.certificate, web.tls.key) == (tmp_path / "c.pem", Path("/etc/k.pem"))


def test_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_CLOUD_GATEWAY__MAX_BATCH", "8")
    assert load(tmp_path, "[gateway]\nmax_batch = 4\n").gateway.max_batch == 8


def test_relative_paths_are_meant_from_the_files_folder(tmp_path: Path) -> None:
    settings = load(tmp_path, '[[gateway.models]]\nbundle = "bundles/full"\n')
    assert settings.gateway.models[0].bundle == tmp_path / "bundles" / "full"


def test_a_broker_beyond_this_machine_is_refused_without_tls(tmp_path: Path) -> None:
    file = tmp_path / "cloud.toml"
    file.write_text('[broker]\nhost = "broker.example"\n', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"broker\.ca_file for TLS"):
        load_cloud_settings(file)


def test_delivery_serves_the_registrys_folder_unless_another_is_named(tmp_path: Path) -> None:
    assert load(tmp_path, "").delivery is None
    assert load(tmp_path, '[delivery]\n[registry]\nkeys = "k"').served_repository() == (
        tmp_path / "tandem-cloud" / "repository"
    )
    assert load(tmp_path, '[delivery]\nrepository = "mirror"').served_repository() == tmp_path / "mirror"
    mirrored = '[delivery]\nrepository = "mirror"\n[registry]\nurl = "s3://bucket/fleet"'
    assert load(tmp_path, mirrored).served_repository() == tmp_path / "mirror"


def test_delivery_serves_the_registrys_bucket(tmp_path: Path) -> None:
    settings = load(tmp_path, '[delivery]\n[registry]\nurl = "s3://bucket/fleet"')
    assert settings.served_repository() == "s3://bucket/fleet"


@pytest.mark.parametrize("role", ["delivery", "rollout"])
def test_metrics_of_updates_stay_on_loopback(tmp_path: Path, role: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{role}.metrics_host would listen on 0.0.0.0"):
        load(tmp_path, f'[{role}]\nmetrics_host = "0.0.0.0"')
