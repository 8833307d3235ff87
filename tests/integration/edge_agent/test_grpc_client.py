from __future__ import annotations

import time
from pathlib import Path

import anyio
import grpc
import pytest

from edge_agent.config import CloudSettings
from edge_agent.escalation.client import GrpcCloudClient
from shared.errors import (
    CloudOverloaded,
    CloudRefused,
    CloudTimedOut,
    CloudUnavailable,
    ConfigurationError,
    EscalationError,
)
from shared.types import EscalationRequest, Reason
from tests.support.fake_gateway import FakeGateway, abort_with, answer_with, one_after_another, sleep_for

pytestmark = pytest.mark.anyio

REQUEST = EscalationRequest(
    "r1", "tiny", "卡在哪里?", top_k=2, edge_label="card", edge_score=0.5, reason=Reason.REQUESTED
)


def client_of(gateway: FakeGateway, token_file: Path | None = None) -> GrpcCloudClient:
    return GrpcCloudClient(CloudSettings(address=gateway.address, token_file=token_file))


async def test_a_request_arrives_whole_and_with_its_deadline() -> None:
    async with FakeGateway(answer_with("loan")) as gateway, client_of(gateway) as client:
        answer = await client.infer(REQUEST, 2.0)
    assert (answer.top[0].label, answer.model.version, answer.timings.batch_size) == ("loan", "9.0.0", 2)
    arrived = gateway.requests[0]
    assert (arrived.request_id, arrived.text, arrived.top_k, arrived.reason) == ("r1", "卡在哪里?", 2, Reason.REQUESTED)
    assert gateway.deadlines_s[0] is not None and 1.5 < gateway.deadlines_s[0] <= 2.1  # gRPC rounds it up


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, CloudRefused),
        (grpc.StatusCode.INVALID_ARGUMENT, CloudRefused),
        (grpc.StatusCode.NOT_FOUND, CloudRefused),
        (grpc.StatusCode.ALREADY_EXISTS, CloudRefused),
        (grpc.StatusCode.INTERNAL, CloudUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, CloudTimedOut),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, CloudOverloaded),
    ],
)
async def test_every_other_status_is_told_at_once_and_never_retried(
    code: grpc.StatusCode, error: type[EscalationError]
) -> None:
    async with FakeGateway(abort_with(code)) as gateway, client_of(gateway) as client:
        with pytest.raises(error, match=f"{code.name}: on purpose"):
            await client.infer(REQUEST, 2.0)
    assert len(gateway.requests) == 1


async def test_unavailable_is_retried_within_the_deadline() -> None:
    behaviour = one_after_another(abort_with(grpc.StatusCode.UNAVAILABLE), answer_with("loan"))
    async with FakeGateway(behaviour) as gateway, client_of(gateway) as client:
        assert (await client.infer(REQUEST, 2.0)).top[0].label == "loan"
    assert [request.request_id for request in gateway.requests] == ["r1", "r1"]


async def test_a_full_cloud_says_when_to_come_again() -> None:
    full = abort_with(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", retry_after_ms="250")
    async with FakeGateway(full) as gateway, client_of(gateway) as client:
        with pytest.raises(CloudOverloaded) as refused:
            await client.infer(REQUEST, 2.0)
    assert refused.value.retry_after_s == 0.25


async def test_a_slow_cloud_is_given_up_at_the_deadline() -> None:
    async with FakeGateway(sleep_for(5.0, answer_with("loan"))) as gateway, client_of(gateway) as client:
        began_s = time.monotonic()
        with pytest.raises(CloudTimedOut):
            await client.infer(REQUEST, 0.1)
        assert time.monotonic() - began_s < 1.0


async def test_a_cancelled_caller_cancels_the_call_in_the_cloud() -> None:
    async with FakeGateway(sleep_for(5.0, answer_with("loan"))) as gateway, client_of(gateway) as client:
        with anyio.move_on_after(0.2):
            await client.infer(REQUEST, 5.0)
        with anyio.fail_after(2.0):
            await gateway.hung_up.wait()


async def test_the_token_is_the_devices_credential(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("secret\n")
    async with FakeGateway(token="secret") as gateway:
        async with client_of(gateway, token_file) as client:
            assert (await client.infer(REQUEST, 2.0)).top
            assert [model.identity.name for model in await client.list_models(2.0)] == ["tiny"]
        async with client_of(gateway) as client:
            with pytest.raises(CloudRefused, match="UNAUTHENTICATED"):
                await client.infer(REQUEST, 2.0)


async def test_a_missing_token_or_ca_file_is_named_at_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cloud\.token_file"):
        GrpcCloudClient(CloudSettings(address="127.0.0.1:1", token_file=tmp_path / "none"))
    with pytest.raises(ConfigurationError, match=r"cloud\.ca_file"):
        GrpcCloudClient(CloudSettings(address="127.0.0.1:1", ca_file=tmp_path / "none"))


async def test_a_killed_cloud_is_unavailable_at_once_and_found_again_when_it_is_back() -> None:
    async with FakeGateway() as gateway, client_of(gateway) as client:
        await client.infer(REQUEST, 2.0)
        await gateway.stop()
        began_s = time.monotonic()
        with pytest.raises(CloudUnavailable):
            await client.infer(REQUEST, 2.0)
        assert time.monotonic() - began_s < 1.0
        await gateway.start()
        with anyio.fail_after(8.0):
            while True:
                try:
                    await client.infer(REQUEST, 1.0)
                    break
                except (CloudUnavailable, CloudTimedOut):
                    await anyio.sleep(0.1)
