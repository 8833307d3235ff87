from __future__ import annotations

import random

import anyio
import pytest

from edge_agent.answers import InferenceRequest
from edge_agent.model import EdgeModel
from edge_agent.pipeline import Pipeline
from shared.errors import CloudOverloaded, CloudRefused, CloudTimedOut, CloudUnavailable, EscalationError
from shared.types import AuditCounts, Outcome, Priority, Reason, RequestedRoute
from tests.support.edge_parts import audited, open_test_pipeline
from tests.support.fake_clock import FakeClock
from tests.support.fake_cloud import FakeCloud

pytestmark = pytest.mark.anyio

SURE = InferenceRequest("card", request_id="r1")
UNSURE = InferenceRequest("card cash")


def audits(pipeline: Pipeline) -> AuditCounts:
    return pipeline.lanes["tiny"].ledger.snapshot().judgements.audits


async def until_settled(pipeline: Pipeline) -> AuditCounts:
    with anyio.fail_after(5.0):
        while audits(pipeline).in_flight:  # noqa: ASYNC110 - the auditor tells nobody
            await anyio.sleep(0.001)
    return audits(pipeline)


async def test_a_kept_answer_is_audited_behind_the_callers_back_with_the_lowest_claim(tiny_model: EdgeModel) -> None:
    cloud = FakeCloud("card")
    cloud.gate = anyio.Event()
    with open_test_pipeline([tiny_model], cloud=cloud, audit_share=0.5) as pipeline:
        async with audited(pipeline, lambda: 0.49):
            answer = await pipeline.answer(SURE)
            assert (answer.outcome, answer.reason) == (Outcome.EDGE, Reason.CONFIDENT)
            assert audits(pipeline) == AuditCounts(chosen=1, in_flight=1)
            cloud.gate.set()
            assert await until_settled(pipeline) == AuditCounts(chosen=1, agreed=1)
        counters = pipeline.lanes["tiny"].ledger.snapshot().counters
    asked = cloud.requests[0]
    assert (asked.request_id, asked.priority, asked.kept, asked.edge_label) == ("r1", Priority.AUDIT, True, "card")
    assert asked.gate_score == answer.gate.score and asked.gate_digest == tiny_model.gate_digest
    assert (counters.wanted, counters.attempted, counters.calls_in_flight) == (0, 0, 0)


async def test_a_full_model_that_says_otherwise_disagrees_at_each_step_and_label(tiny_model: EdgeModel) -> None:
    with open_test_pipeline([tiny_model], cloud=FakeCloud("loan"), audit_share=1.0) as pipeline:
        async with audited(pipeline):
            await pipeline.answer(SURE)
            assert await until_settled(pipeline) == AuditCounts(chosen=1, disagreed=1)
        found = pipeline.lanes["tiny"].ledger.snapshot().judgements
    assert [(step.threshold, step.judged, step.wrong) for step in found.audit_steps] == [(0.9, 1, 1), (0.4, 1, 1)]
    assert (found.labels["card"].audited, found.labels["card"].disagreed) == (1, 1)


async def test_only_answers_that_the_gate_kept_are_audited(tiny_model: EdgeModel) -> None:
    cloud = FakeCloud()
    with open_test_pipeline([tiny_model], cloud=cloud, audit_share=1.0) as pipeline:
        async with audited(pipeline):
            await pipeline.answer(UNSURE)
            await pipeline.answer(InferenceRequest("card", route=RequestedRoute.EDGE))
            await pipeline.answer(InferenceRequest("card", route=RequestedRoute.CLOUD))
    assert audits(pipeline).chosen == 0
    assert [request.kept for request in cloud.requests] == [False, False]
    assert cloud.requests[0].gate_score == pytest.approx(0.4988, abs=1e-3)
    assert cloud.requests[0].gate_digest == tiny_model.gate_digest


async def test_the_share_is_drawn_by_chance(tiny_model: EdgeModel) -> None:
    with open_test_pipeline([tiny_model], cloud=FakeCloud("card"), audit_share=0.2) as pipeline:
        async with audited(pipeline, random.Random(7).random, max_in_flight=1000):
            for _ in range(300):
                await pipeline.answer(SURE)
            found = await until_settled(pipeline)
    assert 35 <= found.chosen <= 90 and found.agreed == found.chosen


async def test_a_share_of_none_audits_nothing(tiny_model: EdgeModel) -> None:
    with open_test_pipeline([tiny_model], cloud=FakeCloud("card")) as pipeline:
        async with audited(pipeline, lambda: 0.0):
            await pipeline.answer(SURE)
    assert audits(pipeline) == AuditCounts()


async def test_without_a_cloud_an_audit_is_chosen_and_failed(tiny_model: EdgeModel) -> None:
    with open_test_pipeline([tiny_model], audit_share=1.0) as pipeline:
        async with audited(pipeline):
            await pipeline.answer(SURE)
    assert audits(pipeline) == AuditCounts(chosen=1, failed=1)


async def test_what_finds_no_room_is_failed_and_not_tried_again(tiny_model: EdgeModel) -> None:
    cloud = FakeCloud("card")
    cloud.gate = anyio.Event()
    with open_test_pipeline([tiny_model], cloud=cloud, audit_share=1.0) as pipeline:
        async with audited(pipeline, max_in_flight=2):
            for _ in range(5):
                await pipeline.answer(SURE)
            assert audits(pipeline) == AuditCounts(chosen=5, failed=3, in_flight=2)
            cloud.gate.set()
            assert await until_settled(pipeline) == AuditCounts(chosen=5, failed=3, agreed=2)
    assert len(cloud.requests) == 2


@pytest.mark.parametrize(
    "error",
    [CloudUnavailable("away"), CloudTimedOut("slow"), CloudRefused("no"), CloudOverloaded("full", 1.0)],
)
async def test_an_audit_that_the_cloud_does_not_answer_is_failed(tiny_model: EdgeModel, error: EscalationError) -> None:
    cloud = FakeCloud("card")
    cloud.error = error
    with open_test_pipeline([tiny_model], cloud=cloud, audit_share=1.0) as pipeline:
        async with audited(pipeline):
            assert (await pipeline.answer(SURE)).outcome is Outcome.EDGE
            assert await until_settled(pipeline) == AuditCounts(chosen=1, failed=1)


async def test_audits_that_are_late_or_refused_keep_nobody_else_from_the_cloud(tiny_model: EdgeModel) -> None:
    cloud, clock = FakeCloud("loan"), FakeClock()
    with open_test_pipeline([tiny_model], cloud=cloud, clock=clock, failures_to_open=1, audit_share=1.0) as pipeline:
        async with audited(pipeline):
            for error in (CloudTimedOut("late"), CloudOverloaded("full", 30.0)):
                cloud.error = error
                await pipeline.answer(SURE)
                await until_settled(pipeline)
            cloud.error = None
            asked = len(cloud.requests)
            await pipeline.answer(SURE)
            assert (await until_settled(pipeline)).failed == 3 and len(cloud.requests) == asked
            assert (await pipeline.answer(UNSURE)).outcome is Outcome.CLOUD


async def test_an_open_breaker_is_never_tried_by_an_audit(tiny_model: EdgeModel) -> None:
    cloud, clock = FakeCloud("loan"), FakeClock()
    cloud.error = CloudUnavailable("away")
    with open_test_pipeline([tiny_model], cloud=cloud, clock=clock, failures_to_open=1, audit_share=1.0) as pipeline:
        async with audited(pipeline):
            await pipeline.answer(UNSURE)
            for wait_s in (0.0, 60.0):
                clock.advance(wait_s)
                await pipeline.answer(SURE)
                await until_settled(pipeline)
            assert audits(pipeline) == AuditCounts(chosen=2, failed=2) and len(cloud.requests) == 1
            cloud.error = None
            assert (await pipeline.answer(UNSURE)).outcome is Outcome.CLOUD


async def test_a_stop_waits_a_little_for_audits_and_counts_the_rest_as_failed(tiny_model: EdgeModel) -> None:
    cloud = FakeCloud("card")
    with open_test_pipeline([tiny_model], cloud=cloud, audit_share=1.0) as pipeline:
        async with audited(pipeline, timeout_ms=60_000) as auditor:
            await pipeline.answer(SURE)
            await auditor.drain(5.0)
            assert audits(pipeline) == AuditCounts(chosen=1, agreed=1)
        cloud.gate = anyio.Event()
        async with audited(pipeline, timeout_ms=60_000) as auditor:
            await pipeline.answer(SURE)
            await auditor.drain(0.02)
            assert audits(pipeline) == AuditCounts(chosen=2, agreed=1, failed=1)
            await pipeline.answer(SURE)
            assert audits(pipeline) == AuditCounts(chosen=3, agreed=1, failed=2)


async def test_an_agent_that_leaves_at_once_leaves_no_audit_in_flight(tiny_model: EdgeModel) -> None:
    cloud = FakeCloud("card")
    cloud.gate = anyio.Event()
    with open_test_pipeline([tiny_model], cloud=cloud, audit_share=1.0) as pipeline:
        async with audited(pipeline, timeout_ms=60_000):
            await pipeline.answer(SURE)
    assert audits(pipeline) == AuditCounts(chosen=1, failed=1)
