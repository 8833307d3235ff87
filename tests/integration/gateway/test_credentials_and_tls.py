from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import grpc
import grpc.aio
import pytest

from cloud_service.config import GatewaySettings, TlsSettings
from cloud_service.gateway.credentials import add_device, revoke_device
from cloud_service.gateway.server import Gateway
from cloud_service.serving.model import FullModel
from shared.clock import SystemClock
from shared.errors import ConfigurationError
from shared.pb import inference_pb2
from tests.support.gateway_parts import channel_to, question, refusal_of, running_gateway, stub_of
from tests.support.scripted_backend import ScriptedBackend

pytestmark = pytest.mark.anyio


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    return tmp_path / "credentials.json"


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsSettings:
    folder = tmp_path_factory.mktemp("tls")
    settings = TlsSettings(certificate=folder / "cert.pem", key=folder / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-keyout", str(settings.key), "-out", str(settings.certificate), "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return settings


@pytest.mark.parametrize(
    "metadata",
    [(), bearer("guessed"), bearer(""), (("authorization", "Basic eA=="),), (("x-tandem-device", "d1"),)],
    ids=["none", "wrong", "empty", "another scheme", "a name alone"],
)
async def test_a_call_without_a_valid_token_is_refused_and_not_computed(
    model: FullModel, backend: ScriptedBackend, credentials: Path, metadata: tuple[tuple[str, str], ...]
) -> None:
    add_device(credentials, "d1")
    settings = GatewaySettings(port=0, credentials=credentials)
    async with running_gateway(settings, model) as gateway, channel_to(gateway) as channel:
        refusal = await refusal_of(stub_of(channel).Infer(question(), timeout=5, metadata=metadata))
        listing = await refusal_of(
            stub_of(channel).ListModels(inference_pb2.ListModelsRequest(), timeout=5, metadata=metadata)
        )
    assert refusal.code() is listing.code() is grpc.StatusCode.UNAUTHENTICATED
    assert backend.batches == []


async def test_devices_come_and_go_while_the_gateway_runs(model: FullModel, credentials: Path) -> None:
    first = add_device(credentials, "d1")
    settings = GatewaySettings(port=0, credentials=credentials)
    async with running_gateway(settings, model) as gateway, channel_to(gateway) as channel:
        assert await stub_of(channel).Infer(question(), timeout=5, metadata=bearer(first))
        second = add_device(credentials, "d2")
        assert revoke_device(credentials, "d1")
        await asyncio.sleep(1.1)
        assert await stub_of(channel).Infer(question(), timeout=5, metadata=bearer(second))
        refusal = await refusal_of(stub_of(channel).Infer(question(), timeout=5, metadata=bearer(first)))
    assert refusal.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_device_cannot_name_itself_another(
    model: FullModel, backend: ScriptedBackend, credentials: Path
) -> None:
    one, other = add_device(credentials, "d1"), add_device(credentials, "d2")
    settings = GatewaySettings(port=0, credentials=credentials)
    async with running_gateway(settings, model) as gateway, channel_to(gateway) as channel:
        await stub_of(channel).Infer(question("card", "r1"), timeout=5, metadata=bearer(one))
        posing = (*bearer(other), ("x-tandem-device", "d1"))
        answer = await stub_of(channel).Infer(question("card", "r1"), timeout=5, metadata=posing)
    assert not answer.replayed
    assert len(backend.batches) == 2


async def test_with_tls_on_a_client_that_trusts_the_certificate_is_answered_and_plain_text_is_not(
    model: FullModel, tls: TlsSettings
) -> None:
    async with running_gateway(GatewaySettings(port=0, tls=tls), model) as gateway:
        trusting = grpc.ssl_channel_credentials(tls.certificate.read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{gateway.port}", trusting) as channel:
            assert (await stub_of(channel).Infer(question("card"), timeout=5)).top[0].label == "cash"
        async with channel_to(gateway) as channel:
            refusal = await refusal_of(stub_of(channel).Infer(question(), timeout=2))
    assert refusal.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_that_is_none_is_an_error_at_start(model: FullModel, tmp_path: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("not PEM\n", encoding="utf-8")
    wrong = TlsSettings(certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem")
    gateway = Gateway(GatewaySettings(port=0, tls=wrong), [model], SystemClock())
    try:
        with pytest.raises(ConfigurationError):
            await gateway.start()
    finally:
        await gateway.stop()


async def test_a_port_that_is_taken_is_an_error_that_names_it(model: FullModel) -> None:
    async with running_gateway(GatewaySettings(port=0), model) as gateway:
        second = Gateway(GatewaySettings(port=gateway.port), [model], SystemClock())
        try:
            with pytest.raises(ConfigurationError, match=str(gateway.port)):
                await second.start()
        finally:
            await second.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_every_loopback_address_can_be_listened_on(model: FullModel, host: str) -> None:
    async with running_gateway(GatewaySettings(host=host, port=0), model) as gateway:
        address = f"[{host}]" if ":" in host else host
        async with grpc.aio.insecure_channel(f"{address}:{gateway.port}") as channel:
            assert await stub_of(channel).Infer(question(), timeout=5)
