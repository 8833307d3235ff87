from __future__ import annotations

import asyncio
import time

import anyio.to_thread
import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cloud_service.config import GatewaySettings
from cloud_service.serving.model import FullModel
from shared.errors import EngineError
from shared.pb import inference_pb2
from tests.support.gateway_parts import (
    INFER,
    channel_to,
    question,
    refusal_of,
    running_gateway,
    stub_of,
)
from tests.support.scripted_backend import ScriptedBackend

pytestmark = pytest.mark.anyio

SETTINGS = GatewaySettings(port=0)
SERVED = "tandem.v1.Inference"


async def test_a_question_is_answered_with_label_model_and_timings(model: FullModel) -> None:
    async with running_gateway(SETTINGS, model) as gateway, channel_to(gateway) as channel:
        answer = await stub_of(channel).Infer(question("card", "r1", top_k=2), timeout=5)
    assert (answer.request_id, answer.model.name, answer.model.digest) == ("r1", "tiny", model.identity.digest)
    assert [item.label for item in answer.top] == ["cash", "card"]
    assert (answer.timings.batch_size, answer.replayed) == (1, False)


async def test_the_service_says_which_models_it_serves(model: FullModel) -> None:
    async with running_gateway(SETTINGS, model) as gateway, channel_to(gateway) as channel:
        listed = await stub_of(channel).ListModels(inference_pb2.ListModelsRequest(), timeout=5)
    assert [(served.identity.name, served.provider) for served in listed.models] == [("tiny", "Scripted")]
    assert tuple(listed.models[0].labels) == model.labels


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (question(model="other"), grpc.StatusCode.NOT_FOUND),
        (question(model="not a name"), grpc.StatusCode.INVALID_ARGUMENT),
        (question(model="x" * 20_000), grpc.StatusCode.INVALID_ARGUMENT),
        (question(text="   "), grpc.StatusCode.INVALID_ARGUMENT),
        (question(text="card " * 2000), grpc.StatusCode.INVALID_ARGUMENT),
        (question(request_id="x" * 65), grpc.StatusCode.INVALID_ARGUMENT),
        (question(top_k=1001), grpc.StatusCode.INVALID_ARGUMENT),
        (inference_pb2.InferRequest(), grpc.StatusCode.INVALID_ARGUMENT),
    ],
    ids=["other model", "no name", "endless name", "empty", "too long", "long id", "top_k", "nothing at all"],
)
async def test_a_request_that_cannot_be_served_says_why(
    model: FullModel, backend: ScriptedBackend, message: inference_pb2.InferRequest, code: grpc.StatusCode
) -> None:
    async with running_gateway(SETTINGS, model) as gateway, channel_to(gateway) as channel:
        refusal = await refusal_of(stub_of(channel).Infer(message, timeout=5))
    assert refusal.code() is code
    assert refusal.details()
    assert backend.batches == []


@pytest.mark.parametrize(
    "raw",
    [b"\xff\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x0a\x7fshort", b"\x00" * 100],
    ids=["no field", "no UTF-8", "cut off", "zeros"],
)
async def test_bytes_that_are_no_message_are_refused_and_the_next_call_is_served(model: FullModel, raw: bytes) -> None:
    async with running_gateway(SETTINGS, model) as gateway, channel_to(gateway) as channel:
        refusal = await refusal_of(channel.unary_unary(INFER)(raw, timeout=5))
        assert (await stub_of(channel).Infer(question("loan"), timeout=5)).top[0].label == "card"
    assert refusal.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT)


async def test_an_oversize_message_is_refused_before_it_is_read(model: FullModel, backend: ScriptedBackend) -> None:
    settings = SETTINGS.model_copy(update={"max_message_bytes": 4096})
    async with running_gateway(settings, model) as gateway, channel_to(gateway) as channel:
        refusal = await refusal_of(stub_of(channel).Infer(question("card " * 1000), timeout=5))
        assert await stub_of(channel).Infer(question("card"), timeout=5)
    assert refusal.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(backend.batches) == 1


async def test_a_call_past_its_deadline_ends_then_and_is_never_computed(
    model: FullModel, backend: ScriptedBackend
) -> None:
    async with running_gateway(SETTINGS, model) as gateway, channel_to(gateway) as channel:
        backend.hold()
        first = stub_of(channel).Infer(question("card"), timeout=5)
        await begun(backend)
        began_s = time.monotonic()
        refusal = await refusal_of(stub_of(channel).Infer(question("cash"), timeout=0.2))
        assert 0.15 < time.monotonic() - began_s < 1.0
        await asyncio.sleep(0.1)
        backend.release()
        await first
        await stub_of(channel).Infer(question("loan"), timeout=5)
    assert refusal.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert backend.batches == [[1], [3]]


async def test_a_call_without_deadline_gets_the_default_one(model: FullModel, backend: ScriptedBackend) -> None:
    settings = SETTINGS.model_copy(update={"default_deadline_ms": 200})
    async with running_gateway(settings, model) as gateway, channel_to(gateway) as channel:
        backend.hold()
        first = stub_of(channel).Infer(question("card"), timeout=5)
        await begun(backend)
        waiting = asyncio.ensure_future(refusal_of(stub_of(channel).Infer(question("cash"))))
        await asyncio.sleep(0.4)
        backend.release()
        await first
        assert (await asyncio.wait_for(waiting, 5)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert backend.batches == [[1]]


async def test_a_client_that_hangs_up_is_not_computed(model: FullModel, backend: ScriptedBackend) -> None:
    async with running_gateway(SETTINGS, model) as gateway, channel_to(gateway) as channel:
        backend.hold()
        first = stub_of(channel).Infer(question("card"), timeout=5)
        await begun(backend)
        gone = stub_of(channel).Infer(question("cash"), timeout=5)
        await asyncio.sleep(0.1)
        gone.cancel()
        await asyncio.sleep(0.1)
        backend.release()
        await first
        await stub_of(channel).Infer(question("loan"), timeout=5)
    assert backend.batches == [[1], [3]]


async def test_a_full_line_refuses_and_says_when_to_come_again(model: FullModel, backend: ScriptedBackend) -> None:
    settings = SETTINGS.model_copy(update={"max_queued": 3, "max_batch": 4})
    async with running_gateway(settings, model) as gateway, channel_to(gateway) as channel:
        backend.hold()
        first = stub_of(channel).Infer(question("card"), timeout=5)
        await begun(backend)
        calls = [stub_of(channel).Infer(question("cash"), timeout=5) for _ in range(8)]
        refusals = [await asyncio.wait_for(call.code(), 5) for call in calls[3:]]
        metadata = dict(await calls[-1].trailing_metadata())
        backend.release()
        assert all([await call for call in (first, *calls[:3])])
    assert set(refusals) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert 20 <= int(metadata["retry-after-ms"]) <= 30_000


async def test_a_model_that_fails_is_an_internal_error_and_a_retry_is_computed(
    model: FullModel, backend: ScriptedBackend
) -> None:
    backend.poison = {1: EngineError("the graph broke")}
    async with running_gateway(SETTINGS, model) as gateway, channel_to(gateway) as channel:
        refusal = await refusal_of(stub_of(channel).Infer(question("card", "r1"), timeout=5))
        backend.poison = {}
        again = await stub_of(channel).Infer(question("card", "r1"), timeout=5)
    assert refusal.code() is grpc.StatusCode.INTERNAL
    assert "the graph broke" in (refusal.details() or "")
    assert not again.replayed


async def test_stopping_answers_what_was_accepted_and_refuses_what_comes_later(
    model: FullModel, backend: ScriptedBackend
) -> None:
    async with running_gateway(SETTINGS, model) as gateway, channel_to(gateway) as channel:
        backend.hold()
        accepted = [stub_of(channel).Infer(question("card"), timeout=5) for _ in range(20)]
        await begun(backend)
        await asyncio.sleep(0.1)
        stopping = asyncio.ensure_future(gateway.stop())
        await asyncio.sleep(0.1)
        late = await refusal_of(stub_of(channel).Infer(question("cash"), timeout=2))
        backend.release()
        assert [(await call).top[0].label for call in accepted] == ["cash"] * 20
        await asyncio.wait_for(stopping, 5)
    assert late.code() is grpc.StatusCode.UNAVAILABLE


async def test_health_and_reflection_tell_who_serves_here(model: FullModel) -> None:
    async with running_gateway(SETTINGS, model) as gateway, channel_to(gateway) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVED):
            state = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
            assert state.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        listed = [answer async for answer in reflection.ServerReflectionInfo(asked)]
    names = {service.name for service in listed[0].list_services_response.service}
    assert {SERVED, "grpc.health.v1.Health"} <= names


async def test_a_watcher_hears_that_the_gateway_stops(model: FullModel, backend: ScriptedBackend) -> None:
    async with running_gateway(SETTINGS, model) as gateway, channel_to(gateway) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVED))
        assert (await asyncio.wait_for(watch.read(), 5)).status == health_pb2.HealthCheckResponse.SERVING
        backend.hold()
        call = stub_of(channel).Infer(question("card"), timeout=5)
        await begun(backend)
        stopping = asyncio.ensure_future(gateway.stop())
        assert (await asyncio.wait_for(watch.read(), 5)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        backend.release()
        await call
        began_s = time.monotonic()
        await asyncio.wait_for(stopping, 15)
    assert time.monotonic() - began_s < 2.0


async def begun(backend: ScriptedBackend) -> None:
    """Wait until the backend has begun to compute."""
    assert await anyio.to_thread.run_sync(backend.begun.wait, 5.0)
