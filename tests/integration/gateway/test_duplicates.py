from __future__ import annotations

import asyncio

import anyio.to_thread
import grpc
import grpc.aio
import pytest

from cloud_service.config import GatewaySettings
from cloud_service.serving.model import FullModel
from tests.support.gateway_parts import channel_to, question, refusal_of, running_gateway, stub_of
from tests.support.scripted_backend import ScriptedBackend

pytestmark = pytest.mark.anyio

SETTINGS = GatewaySettings(port=0)


async def test_a_copy_that_comes_later_gets_the_first_answer_and_is_marked(
    model: FullModel, backend: ScriptedBackend
) -> None:
    async with running_gateway(SETTINGS, model) as gateway, channel_to(gateway) as channel:
        first = await stub_of(channel).Infer(question("card", "r1"), timeout=5)
        again = await stub_of(channel).Infer(question("card", "r1"), timeout=5)
    assert (first.replayed, again.replayed) == (False, True)
    assert again.top == first.top
    assert again.timings == first.timings
    assert backend.batches == [[1]]


async def test_copies_that_come_together_are_computed_once(model: FullModel, backend: ScriptedBackend) -> None:
    async with running_gateway(SETTINGS, model) as gateway, channel_to(gateway) as channel:
        backend.hold()
        calls = [stub_of(channel).Infer(question("card", "r1"), timeout=5) for _ in range(20)]
        assert await anyio.to_thread.run_sync(backend.begun.wait, 5.0)
        await asyncio.sleep(0.1)
        backend.release()
        answers = [await call for call in calls]
    assert backend.batches == [[1]]
    assert sum(answer.replayed for answer in answers) == 19
    assert {answer.top[0].label for answer in answers} == {"cash"}


async def test_the_same_id_with_another_text_is_refused(model: FullModel, backend: ScriptedBackend) -> None:
    async with running_gateway(SETTINGS, model) as gateway, channel_to(gateway) as channel:
        await stub_of(channel).Infer(question("card", "r1"), timeout=5)
        refusal = await refusal_of(stub_of(channel).Infer(question("loan", "r1"), timeout=5))
    assert refusal.code() is grpc.StatusCode.ALREADY_EXISTS
    assert backend.batches == [[1]]


async def test_two_devices_may_use_the_same_id(model: FullModel, backend: ScriptedBackend) -> None:
    async with running_gateway(SETTINGS, model) as gateway, channel_to(gateway) as channel:
        for device in ("d1", "d2"):
            metadata = (("x-tandem-device", device),)
            answer = await stub_of(channel).Infer(question("card", "r1"), timeout=5, metadata=metadata)
            assert not answer.replayed
    assert backend.batches == [[1], [1]]


async def test_a_copy_still_waits_when_the_first_caller_hangs_up(model: FullModel, backend: ScriptedBackend) -> None:
    async with running_gateway(SETTINGS, model) as gateway, channel_to(gateway) as channel:
        backend.hold()
        busy = stub_of(channel).Infer(question("loan"), timeout=5)
        assert await anyio.to_thread.run_sync(backend.begun.wait, 5.0)
        first, copy = (stub_of(channel).Infer(question("card", "r1"), timeout=5) for _ in range(2))
        await asyncio.sleep(0.1)
        first.cancel()
        await asyncio.sleep(0.1)
        backend.release()
        assert (await copy).top[0].label == "cash"
        await busy
    assert backend.batches == [[3], [1]]


async def test_a_copy_with_more_time_outlives_the_deadline_of_the_first(
    model: FullModel, backend: ScriptedBackend
) -> None:
    async with running_gateway(SETTINGS, model) as gateway, channel_to(gateway) as channel:
        backend.hold()
        busy = stub_of(channel).Infer(question("loan"), timeout=5)
        assert await anyio.to_thread.run_sync(backend.begun.wait, 5.0)
        hasty = stub_of(channel).Infer(question("card", "r1"), timeout=0.2)
        await asyncio.sleep(0.05)
        patient = stub_of(channel).Infer(question("card", "r1"), timeout=5)
        assert (await refusal_of(hasty)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        backend.release()
        assert (await patient).top[0].label == "cash"
        await busy
    assert sum(batch.count(1) for batch in backend.batches) == 1
