"""A wrong setting is named, with the file it stands in."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.errors import ConfigurationError
from shared.listeners import is_loopback, require_protected
from shared.settings import Section, Settings, load_settings, resolve_beside


class Http(Section):
    port: int = Field(8070, ge=1, le=65535)
    deadline_ms: int = 1000


class Example(Settings):
    model_config = SettingsConfigDict(env_prefix="TANDEM_EXAMPLE_")
    device_id: str
    http: Http = Http()


def load(tmp_path: Path, text: str) -> Example:
    file = tmp_path / "agent.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(Example, file)


def test_the_environment_overrides_one_key_of_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_EXAMPLE_HTTP__PORT", "9000")
    settings = load(tmp_path, 'device_id = "d"\n[http]\nport = 1\ndeadline_ms = 5')
    assert (settings.http.port, settings.http.deadline_ms) == (9000, 5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'device_id = "d"\n[http]\ndeadline_s = 3',
            r"agent.toml: http.deadline_s: unknown key; did you mean deadline_ms",
        ),
        ('device_id = "d"\n[htp]\nport = 3', r"agent.toml: htp: unknown key; did you mean http"),
        ('device_id = "d"\n[http]\nport = 70000', r"agent.toml: http.port: .*65535.*70000"),
        ('device_id = "d"\n[http]\ndeadline_ms = "3 s"', r"agent.toml: http.deadline_ms: .*'3 s'"),
        ("[http]\nport = 1", r"agent.toml: device_id: Field required"),
        ("device_id = ", r"agent.toml: cannot be read as TOML"),
    ],
)
def test_a_wrong_key_is_named_with_its_file(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load(tmp_path, text)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, "[http]\nport = 70000\nprot = 1")
    assert len(str(caught.value).splitlines()) == 3


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        load_settings(Example, tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "TANDEM_EXAMPLE_HTTP__PROT",
            "1",
            "TANDEM_EXAMPLE_HTTP__PROT: unknown key; did you mean TANDEM_EXAMPLE_HTTP__PORT",
        ),
        ("TANDEM_EXAMPLE_HTTP__PORT", "ten", "environment variable TANDEM_EXAMPLE_HTTP__PORT: .*'ten'"),
    ],
)
def test_a_wrong_environment_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=said):
        load(tmp_path, 'device_id = "d"')


def test_paths_are_meant_from_the_file(tmp_path: Path) -> None:
    assert resolve_beside(tmp_path / "a.toml", Path("models/x")) == tmp_path / "models/x"
    assert resolve_beside(tmp_path / "a.toml", Path("/models/x")) == Path("/models/x")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_needs_no_protection(host: str) -> None:
    assert is_loopback(host)
    require_protected("gateway", host, tls=False, credentials=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.test", ""])
def test_an_open_listener_without_tls_and_credentials_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match="without TLS and credentials"):
        require_protected("gateway", host, tls=False, credentials=False)
    with pytest.raises(ConfigurationError, match="without credentials"):
        require_protected("gateway", host, tls=True, credentials=False)
    require_protected("gateway", host, tls=True, credentials=True)
