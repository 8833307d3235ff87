from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import anyio
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.answers import InferenceRequest
from edge_agent.loading import load_model
from edge_agent.model import EdgeModel
from shared.errors import (
    CloudOverloaded,
    CloudRefused,
    CloudTimedOut,
    CloudUnavailable,
    DeadlineExpired,
    EngineError,
    EscalationError,
    InputError,
    NotReady,
    Overloaded,
    UnknownModel,
)
from shared.types import Outcome, Reason, RequestedRoute
from tests.support.edge_parts import (
    ScriptedEngine,
    StuckEngine,
    assert_counters_add_up,
    audited,
    model_with_engine,
    open_test_pipeline,
)
from tests.support.fake_clock import FakeClock
from tests.support.fake_cloud import FakeCloud
from tests.support.tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.anyio

SURE = InferenceRequest("card")
UNSURE = InferenceRequest("card cash")


async def test_a_sure_answer_stays_on_the_device(tiny_model: EdgeModel) -> None:
    cloud = FakeCloud()
    with open_test_pipeline([tiny_model], cloud=cloud) as pipeline:
        answer = await pipeline.answer(SURE)
    assert (answer.outcome, answer.reason, answer.top[0].label) == (Outcome.EDGE, Reason.CONFIDENT, "card")
    assert answer.gate.threshold is not None and answer.gate.score >= answer.gate.threshold
    assert cloud.requests == []


async def test_an_unsure_answer_comes_from_the_cloud_with_the_clouds_model(tiny_model: EdgeModel) -> None:
    cloud = FakeCloud("loan")
    with open_test_pipeline([tiny_model], cloud=cloud) as pipeline:
        answer = await pipeline.answer(UNSURE)
        counters = pipeline.lanes["tiny"].ledger.snapshot().counters
    assert (answer.outcome, answer.reason, answer.top[0].label) == (Outcome.CLOUD, Reason.UNCERTAIN, "loan")
    assert answer.model.version == "9.0.0"
    assert (answer.timings.cloud_queue, answer.timings.cloud_compute) == (0.5, 1.5)
    asked = cloud.requests[0]
    assert (asked.request_id, asked.text, asked.edge_label) == (answer.request_id, "card cash", "card")
    assert (counters.wanted, counters.attempted, counters.served) == (1, 1, 1)


async def test_a_device_without_cloud_answers_degraded(tiny_model: EdgeModel) -> None:
    with open_test_pipeline([tiny_model]) as pipeline:
        answer = await pipeline.answer(UNSURE)
        counters = pipeline.lanes["tiny"].ledger.snapshot().counters
    assert (answer.outcome, answer.reason) == (Outcome.DEGRADED, Reason.NO_CLOUD)
    assert (counters.wanted, counters.attempted) == (1, 0)


async def test_a_caller_that_asks_for_the_edge_gets_it_and_the_gates_wish_is_counted(tiny_model: EdgeModel) -> None:
    cloud = FakeCloud()
    with open_test_pipeline([tiny_model], cloud=cloud) as pipeline:
        answer = await pipeline.answer(InferenceRequest("card cash", route=RequestedRoute.EDGE))
        counters = pipeline.lanes["tiny"].ledger.snapshot().counters
    assert (answer.outcome, answer.reason) == (Outcome.EDGE, Reason.REQUESTED)
    assert (counters.wanted, counters.attempted) == (1, 0)


async def test_a_caller_that_asks_for_the_cloud_gets_it_though_the_gate_would_keep(tiny_model: EdgeModel) -> None:
    with open_test_pipeline([tiny_model], cloud=FakeCloud()) as pipeline:
        answer = await pipeline.answer(InferenceRequest("card", route=RequestedRoute.CLOUD))
        counters = pipeline.lanes["tiny"].ledger.snapshot().counters
    assert (answer.outcome, answer.reason) == (Outcome.CLOUD, Reason.REQUESTED)
    assert (counters.wanted, counters.served) == (0, 1)


@pytest.mark.parametrize(
    ("error", "reason", "failed", "timed_out"),
    [
        (CloudUnavailable("away"), Reason.CLOUD_UNAVAILABLE, 1, 0),
        (CloudTimedOut("slow"), Reason.CLOUD_TIMED_OUT, 0, 1),
        (CloudRefused("who are you"), Reason.CLOUD_REFUSED, 1, 0),
        (CloudOverloaded("full", 1.0), Reason.CLOUD_OVERLOADED, 1, 0),
    ],
)
async def test_a_cloud_that_is_not_had_makes_the_devices_answer_degraded(
    tiny_model: EdgeModel, error: EscalationError, reason: Reason, failed: int, timed_out: int
) -> None:
    cloud = FakeCloud()
    cloud.error = error
    with open_test_pipeline([tiny_model], cloud=cloud) as pipeline:
        answer = await pipeline.answer(UNSURE)
        counters = pipeline.lanes["tiny"].ledger.snapshot().counters
    assert (answer.outcome, answer.reason, answer.top[0].label) == (Outcome.DEGRADED, reason, "card")
    assert (counters.attempted, counters.call_failed, counters.timed_out) == (1, failed, timed_out)


async def test_an_open_breaker_asks_nobody_and_still_wants(tiny_model: EdgeModel) -> None:
    cloud, clock = FakeCloud(), FakeClock()
    cloud.error = CloudUnavailable("away")
    with open_test_pipeline([tiny_model], cloud=cloud, clock=clock, failures_to_open=2) as pipeline:
        reasons = [(await pipeline.answer(UNSURE)).reason for _ in range(4)]
        counters = pipeline.lanes["tiny"].ledger.snapshot().counters
        assert reasons == [Reason.CLOUD_UNAVAILABLE] * 2 + [Reason.CIRCUIT_OPEN] * 2
        assert (counters.wanted, counters.attempted) == (4, 2)
        cloud.error = None
        clock.advance(10.0)
        assert (await pipeline.answer(UNSURE)).outcome is Outcome.CLOUD


async def test_callers_in_a_hurry_do_not_open_the_breaker_for_the_patient(tiny_model: EdgeModel) -> None:
    cloud = FakeCloud()
    cloud.error = CloudTimedOut("too late")
    hasty = InferenceRequest("card cash", deadline_ms=150)
    with open_test_pipeline([tiny_model], cloud=cloud, clock=FakeClock(), failures_to_open=2) as pipeline:
        reasons = [(await pipeline.answer(hasty)).reason for _ in range(4)]
        assert reasons == [Reason.CLOUD_TIMED_OUT] * 4
        patient = [(await pipeline.answer(UNSURE)).reason for _ in range(3)]
        assert patient == [Reason.CLOUD_TIMED_OUT] * 2 + [Reason.CIRCUIT_OPEN]


async def test_the_wall_clock_jumping_changes_nothing(tiny_model: EdgeModel) -> None:
    cloud, clock = FakeCloud(), FakeClock()
    cloud.error = CloudUnavailable("away")
    with open_test_pipeline([tiny_model], cloud=cloud, clock=clock, failures_to_open=1) as pipeline:
        await pipeline.answer(UNSURE)
        clock.jump(-86_400.0)
        assert (await pipeline.answer(UNSURE)).reason is Reason.CIRCUIT_OPEN
        clock.jump(2 * 86_400.0)
        assert (await pipeline.answer(UNSURE)).reason is Reason.CIRCUIT_OPEN
        assert (await pipeline.answer(SURE)).timings.total == 0.0


async def test_a_full_cloud_is_not_asked_before_the_time_it_names(tiny_model: EdgeModel) -> None:
    cloud, clock = FakeCloud(), FakeClock()
    cloud.error = CloudOverloaded("full", 0.5)
    with open_test_pipeline([tiny_model], cloud=cloud, clock=clock) as pipeline:
        await pipeline.answer(UNSURE)
        cloud.error = None
        clock.advance(0.4)
        assert (await pipeline.answer(UNSURE)).reason is Reason.CLOUD_OVERLOADED
        assert len(cloud.requests) == 1
        clock.advance(0.2)
        assert (await pipeline.answer(UNSURE)).outcome is Outcome.CLOUD


async def test_the_cloud_gets_the_time_left_less_what_the_device_keeps(tiny_model: EdgeModel) -> None:
    cloud = FakeCloud()
    with open_test_pipeline([tiny_model], cloud=cloud, clock=FakeClock(), reserve_ms=50) as pipeline:
        await pipeline.answer(InferenceRequest("card cash", deadline_ms=300))
        await pipeline.answer(InferenceRequest("card cash", deadline_ms=60_000))
    assert cloud.timeouts_s == [pytest.approx(0.25), 1.0]


async def test_a_deadline_too_near_for_the_cloud_is_met_by_the_device(tiny_model: EdgeModel) -> None:
    cloud = FakeCloud()
    with open_test_pipeline([tiny_model], cloud=cloud, clock=FakeClock(), reserve_ms=50) as pipeline:
        answer = await pipeline.answer(InferenceRequest("card cash", deadline_ms=40))
    assert (answer.outcome, answer.reason, cloud.requests) == (Outcome.DEGRADED, Reason.DEADLINE, [])


async def test_what_has_expired_in_the_queue_is_never_computed(tiny_folder: Path) -> None:
    engine = StuckEngine()
    with open_test_pipeline([model_with_engine(tiny_folder, engine)]) as pipeline:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pipeline.answer, SURE)
            await anyio.sleep(0.02)
            with pytest.raises(DeadlineExpired):
                await pipeline.answer(InferenceRequest("cash", deadline_ms=30))
            engine.let_go.set()
        counters = pipeline.lanes["tiny"].ledger.snapshot()
    assert engine.calls == 1
    assert (counters.counters.edge, counters.counters.failed, counters.reasons["deadline"]) == (1, 1, 1)


async def test_time_that_passes_in_the_queue_counts_against_the_deadline(tiny_folder: Path) -> None:
    clock, engine = FakeClock(), StuckEngine()
    with open_test_pipeline([model_with_engine(tiny_folder, engine)], clock=clock) as pipeline:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pipeline.answer, InferenceRequest("card", deadline_ms=600_000))
            await anyio.sleep(0.02)
            clock.advance(1.0)

            async def late() -> None:
                with pytest.raises(DeadlineExpired):
                    await pipeline.answer(InferenceRequest("cash", deadline_ms=5_000))

            tasks.start_soon(late)
            await anyio.sleep(0.02)
            clock.advance(5.0)
            engine.let_go.set()
    assert engine.calls == 1


async def test_each_model_of_a_device_has_its_own_counts(tiny_model: EdgeModel, tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "other", model="other")
    with open_test_pipeline([tiny_model, load_model(tmp_path / "other")]) as pipeline:
        await pipeline.answer(SURE)
        answer = await pipeline.answer(InferenceRequest("cash", model="other"))
        received = {name: lane.ledger.snapshot().counters.received for name, lane in pipeline.lanes.items()}
    assert answer.model.name == "other" and received == {"tiny": 1, "other": 1}


async def test_a_full_device_refuses_and_says_when_to_come_again(tiny_folder: Path) -> None:
    engine = StuckEngine()
    with open_test_pipeline([model_with_engine(tiny_folder, engine)], max_in_flight=2) as pipeline:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pipeline.answer, SURE)
            tasks.start_soon(pipeline.answer, SURE)
            await anyio.sleep(0.02)
            with pytest.raises(Overloaded) as refused:
                await pipeline.answer(SURE)
            engine.let_go.set()
        assert refused.value.retry_after_s > 0
        assert (await pipeline.answer(SURE)).outcome is Outcome.EDGE
        counters = pipeline.lanes["tiny"].ledger.snapshot().counters
    assert (counters.received, counters.rejected, counters.edge) == (4, 1, 3)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (InferenceRequest("   "), InputError),
        (InferenceRequest("x" * 10_000), InputError),
        (InferenceRequest("card", model="other"), UnknownModel),
    ],
)
async def test_what_cannot_be_answered_is_rejected_before_it_is_accepted(
    tiny_model: EdgeModel, request_: InferenceRequest, error: type[InputError]
) -> None:
    with open_test_pipeline([tiny_model]) as pipeline:
        with pytest.raises(error):
            await pipeline.answer(request_)
        counters = pipeline.lanes["tiny"].ledger.snapshot().counters
    assert (counters.received, counters.rejected, counters.accepted) == (1, 1, 0)


async def test_a_draining_agent_takes_nothing_new(tiny_model: EdgeModel) -> None:
    with open_test_pipeline([tiny_model]) as pipeline:
        pipeline.admission.close()
        with pytest.raises(NotReady):
            await pipeline.answer(SURE)
        assert pipeline.lanes["tiny"].ledger.snapshot().reasons == {"not_ready": 1}


async def test_an_engine_that_breaks_fails_that_request_alone(tiny_folder: Path) -> None:
    def predict(token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        if token_ids[0] == 2:
            raise EngineError("broken on purpose")
        return np.array([9.0, 0.0, 0.0], np.float32)

    with open_test_pipeline([model_with_engine(tiny_folder, ScriptedEngine(predict))]) as pipeline:
        with pytest.raises(EngineError):
            await pipeline.answer(InferenceRequest("cash"))
        assert (await pipeline.answer(SURE)).outcome is Outcome.EDGE
        assert pipeline.lanes["tiny"].ledger.snapshot().reasons == {"engine_failed": 1, "confident": 1}


async def test_a_cancelled_caller_counts_as_failed_and_frees_its_place(tiny_model: EdgeModel) -> None:
    cloud = FakeCloud()
    cloud.gate = anyio.Event()
    with open_test_pipeline([tiny_model], cloud=cloud, max_in_flight=1) as pipeline:
        with anyio.move_on_after(0.05):
            await pipeline.answer(UNSURE)
        snapshot = pipeline.lanes["tiny"].ledger.snapshot()
        assert (snapshot.counters.failed, snapshot.counters.in_flight, snapshot.reasons) == (1, 0, {"cancelled": 1})
        assert (snapshot.counters.attempted, snapshot.counters.call_failed) == (1, 1)
        assert (await pipeline.answer(SURE)).outcome is Outcome.EDGE


@pytest.mark.parametrize("seed", range(5))
async def test_nothing_is_lost_or_doubled_whatever_happens_at_once(tiny_model: EdgeModel, seed: int) -> None:
    chance = random.Random(seed)
    cloud = FakeCloud()
    faults: list[EscalationError | None] = [None, CloudUnavailable("away"), CloudTimedOut("slow")]
    received = 0
    with open_test_pipeline([tiny_model], cloud=cloud, max_in_flight=6, audit_share=0.5) as pipeline:
        ledger = pipeline.lanes["tiny"].ledger

        async def caller() -> None:
            nonlocal received
            await anyio.sleep(chance.random() * 0.03)
            cloud.error = chance.choice(faults)
            text = chance.choice(["card", "card cash", "what", " "])
            with anyio.move_on_after(chance.choice([0.0005, 0.002, 1.0])):
                received += 1
                with suppress(InputError, Overloaded, DeadlineExpired):
                    await pipeline.answer(InferenceRequest(text, deadline_ms=chance.choice([1, 50, 2000])))
            assert_counters_add_up(ledger.snapshot().counters)

        async with audited(pipeline, chance.random, max_in_flight=3), anyio.create_task_group() as tasks:
            for _ in range(60):
                tasks.start_soon(caller)
        counters, found = ledger.snapshot().counters, ledger.snapshot().judgements
    assert_counters_add_up(counters)
    audits = found.audits
    assert audits.chosen == audits.agreed + audits.disagreed + audits.failed and audits.in_flight == 0
    assert sum(each.wanted for each in found.labels.values()) == counters.wanted
    assert (counters.received, counters.in_flight, counters.calls_in_flight) == (received, 0, 0)
