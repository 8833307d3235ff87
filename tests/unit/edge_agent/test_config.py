from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.agent import state_path
from edge_agent.config import load_agent_settings
from shared.errors import ConfigurationError
from shared.gate import Risk
from shared.secret_files import read_secret

MINIMAL = 'device_id = "d1"\n[[models]]\nbundle = "tiny"\n'


def written(folder: Path, text: str) -> Path:
    file = folder / "agent.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_paths_are_meant_from_the_files_folder(tmp_path: Path) -> None:
    text = (
        MINIMAL
        + '[cloud]\naddress = "127.0.0.1:1"\ntoken_file = "token"\n[broker]\nhost = "::1"\npassword_file = "/p"\n'
    )
    settings = load_agent_settings(written(tmp_path, text))
    assert settings.models[0].bundle == tmp_path / "tiny"
    assert settings.cloud and settings.cloud.token_file == tmp_path / "token"
    assert settings.broker and settings.broker.password_file == Path("/p")


def test_a_device_keeps_its_state_beside_its_configuration_unless_told_otherwise(tmp_path: Path) -> None:
    settings = load_agent_settings(written(tmp_path, MINIMAL))
    assert state_path(settings) == tmp_path / "tandem-agent" / "d1.sqlite"
    assert (settings.ring, settings.audit.share, settings.budget.loosest) == ("default", 0.05, {})
    settings = load_agent_settings(written(tmp_path, MINIMAL + '[state]\ndata_dir = "/var/lib/tandem"\n'))
    assert state_path(settings) == Path("/var/lib/tandem/d1.sqlite")


def test_a_budget_names_risks_and_alphas(tmp_path: Path) -> None:
    text = MINIMAL + '[budget]\noffload_cap = 0.2\nloosest = { "kept-error" = 0.1, "kept-disagreement" = 0.2 }\n'
    budget = load_agent_settings(written(tmp_path, text)).budget
    assert budget.offload_cap == 0.2
    assert budget.loosest == {Risk.KEPT_ERROR: 0.1, Risk.KEPT_DISAGREEMENT: 0.2}


def test_the_loopback_address_of_ipv6_needs_no_tls(tmp_path: Path) -> None:
    settings = load_agent_settings(written(tmp_path, MINIMAL + '[cloud]\naddress = "[::1]:50051"\n'))
    assert settings.cloud and settings.cloud.address == "[::1]:50051"


def test_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_EDGE_HTTP__PORT", "9999")
    assert load_agent_settings(written(tmp_path, MINIMAL)).http.port == 9999


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MINIMAL + "[http]\nprot = 1\n", "http.prot: unknown key; did you mean port?"),
        (MINIMAL + '[http]\ndefault_deadline_ms = "2 s"\n', "http.default_deadline_ms"),
        (MINIMAL + '[http]\nhost = "0.0.0.0"\n', "without TLS and credentials"),
        (MINIMAL + '[cloud]\naddress = "cloud.example:50051"\n', "set cloud.ca_file for TLS"),
        (MINIMAL + '[broker]\nhost = "broker.example"\n', "set broker.ca_file for TLS"),
        (MINIMAL + '[cloud]\naddress = "localhost"\n', "must be host:port"),
        ('ring = "a/b"\n' + MINIMAL, "ring 'a/b' is not a name"),
        (MINIMAL + "[audit]\nshare = 1.5\n", "audit.share"),
        (MINIMAL + '[device_labels]\nsite = "no name"\n', "device label site ="),
        (MINIMAL + "[device_labels]\nline = 3\n", "device_labels.line"),
        (MINIMAL + '[budget]\nloosest = { "luck" = 0.1 }\n', "budget.loosest.luck"),
        (MINIMAL + "[state]\ndir = 1\n", "state.dir: unknown key; known are data_dir"),
        (MINIMAL + "thread = 2\n", "models.0.thread: unknown key; did you mean threads?"),
        ('device_id = "a/b"\n[[models]]\nbundle = "x"\n', "device_id"),
        ('device_id = "d1"\nmodels = []\n', "models"),
        ("device_id = ", "cannot be read as TOML"),
    ],
)
def test_a_wrong_setting_names_the_key_and_the_file(tmp_path: Path, text: str, said: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigurationError) as refused:
        load_agent_settings(file)
    assert said in str(refused.value) and str(file) in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"  \n", b"one\ntwo\n", b"\xff"])
def test_a_secret_is_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"cloud\.token_file"):
        read_secret("cloud.token_file", file)
    file.write_bytes(b"abc\n")
    assert read_secret("cloud.token_file", file) == "abc"


def test_a_device_may_have_labels(tmp_path: Path) -> None:
    settings = load_agent_settings(written(tmp_path, MINIMAL + '[device_labels]\nsite = "berlin"\nline = "3"\n'))
    assert settings.device_labels == {"site": "berlin", "line": "3"}
    most = "".join(f'k{number} = "v"\n' for number in range(17))
    with pytest.raises(ConfigurationError, match="17 device labels are more than 16"):
        load_agent_settings(written(tmp_path, MINIMAL + "[device_labels]\n" + most))
