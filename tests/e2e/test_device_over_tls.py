"""A device reaches the gateway over TLS with its token, and nothing else gets an answer out of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shared.bundle import Tier
from tests.support.gateway_process import ROOT, GatewayProcess, run_cloud_service, write_cloud_config
from tests.support.tiny_bundle import write_tiny_bundle


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem"), "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return tmp_path / "cert.pem"


def ask(folder: Path, port: int, cloud: str) -> dict[str, object]:
    """What `edge-agent infer` on a device whose [cloud] table ends in the lines `cloud` says to a hard question."""
    config = folder / "agent.toml"
    config.write_text(
        f'device_id = "d1"\n[[models]]\nbundle = "edge"\n[cloud]\naddress = "127.0.0.1:{port}"\n{cloud}',
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "edge_agent", "infer", "card cash", "--config", str(config)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    answer: dict[str, object] = json.loads(run.stdout)
    return answer


def test_a_device_with_the_authority_and_its_token_is_answered_and_one_without_is_not(
    tmp_path: Path, certificate: Path
) -> None:
    write_tiny_bundle(tmp_path / "full", tier=Tier.FULL)
    write_tiny_bundle(tmp_path / "edge")
    added = run_cloud_service("devices", "add", "d1", "--credentials", str(tmp_path / "devices.json"))
    (tmp_path / "token").write_text(added.stdout, encoding="utf-8")
    (tmp_path / "forged").write_text("x" * 43, encoding="utf-8")
    protected = 'credentials = "devices.json"\ntls = {certificate = "cert.pem", key = "key.pem"}'
    with GatewayProcess(write_cloud_config(tmp_path, tmp_path / "full", protected)) as gateway:
        trusted = ask(tmp_path, gateway.port, 'token_file = "token"\nca_file = "cert.pem"\n')
        forged = ask(tmp_path, gateway.port, 'token_file = "forged"\nca_file = "cert.pem"\n')
        plain = ask(tmp_path, gateway.port, 'token_file = "token"\n')
    assert (trusted["outcome"], trusted["reason"]) == ("cloud", "uncertain")
    assert (forged["outcome"], forged["reason"]) == ("degraded", "cloud_refused")
    assert plain["outcome"] == "degraded"
