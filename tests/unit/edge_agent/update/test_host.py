from __future__ import annotations

import gc
import weakref
from contextlib import nullcontext
from pathlib import Path

import anyio
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edge_agent.answers import InferenceAnswer, InferenceRequest
from edge_agent.labelling import LabelClaim, LabelDesk
from edge_agent.metrics import MetricsPage
from edge_agent.pipeline import Pipeline
from edge_agent.state.answers import UnsavedAnswers
from edge_agent.update.host import PipelineHost
from edge_agent.update.proving import ProvingBounds
from shared.bundle import read_bundle
from shared.clock import SystemClock
from shared.codec import encode_policy
from shared.errors import DeadlineExpired, EngineError, NoRoom, ProvingFailed
from shared.types import GatePolicy, Outcome, RequestedRoute
from shared.update.report import InstalledRelease, TrialFigures
from tests.support.edge_parts import (
    StuckEngine,
    assert_counters_add_up,
    audited,
    model_with_engine,
    open_test_keeper,
)
from tests.support.fake_cloud import FakeCloud
from tests.support.slow_graph import slow_graph
from tests.support.swap_parts import PATIENT, open_test_host, release_at, until, write_release
from tests.support.tiny_bundle import LABELS, tiny_graph, write_tiny_bundle

pytestmark = pytest.mark.anyio

SURE = InferenceRequest("card", route=RequestedRoute.EDGE)


async def swap(host: PipelineHost, folder: Path, *, one_at_a_time: bool = False) -> InstalledRelease:
    release = release_at(folder)
    candidate = await host.load(folder, release, one_at_a_time=one_at_a_time)
    await host.prove(candidate)
    await host.switch(candidate)
    return release


async def test_from_the_switch_on_the_new_model_answers_and_each_version_counts_its_own(
    first: Path, second: Path
) -> None:
    with open_test_host(first) as (pipeline, host):
        assert host.active("tiny").version == "1.0.0" and host.names() == ("tiny",)
        await pipeline.answer(SURE)
        candidate = await host.load(second, release_at(second))
        await host.prove(candidate)
        assert (await pipeline.answer(SURE)).model.version == "1.0.0"
        await host.switch(candidate)
        await candidate.close()
        assert (await pipeline.answer(SURE)).model.version == "2.0.0"
        assert host.active("tiny") == release_at(second)
        counts = {word.series.version: word.snapshot.counters.edge for word in pipeline.lanes.words()}
        assert counts == {"1.0.0": 2, "2.0.0": 1}
        await swap(host, first)
        await pipeline.answer(SURE)
        counts = {word.series.version: word.snapshot.counters.edge for word in pipeline.lanes.words()}
        assert counts == {"1.0.0": 3, "2.0.0": 1}


async def test_under_load_no_request_fails_and_every_answer_is_of_a_model_that_was_active_meanwhile(
    first: Path, second: Path
) -> None:
    answers: list[tuple[InferenceAnswer, set[str]]] = []
    with open_test_host(first) as (pipeline, host):
        lanes, order = pipeline.lanes, ["1.0.0", "2.0.0"] * 4

        async def client() -> None:
            while lanes.exchanges < 6:
                began = lanes.exchanges
                answer = await pipeline.answer(InferenceRequest("card", route=RequestedRoute.EDGE, deadline_ms=60_000))
                answers.append((answer, set(order[began : lanes.exchanges + 1])))

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(client)
            for number in range(6):
                folder = (second, first)[number % 2]
                await swap(host, folder)
        total = pipeline.lanes.totals()["tiny"].counters
        assert_counters_add_up(total)
        assert (total.edge, total.failed, total.rejected, total.in_flight) == (len(answers), 0, 0, 0)
    assert all(answer.model.version in active for answer, active in answers)
    assert all(answer.top[0].label == "card" for answer, _ in answers)
    assert {answer.model.version for answer, _ in answers} == {"1.0.0", "2.0.0"}


async def test_a_request_under_way_ends_on_the_model_that_it_began_with(tmp_path: Path, second: Path) -> None:
    write_tiny_bundle(tmp_path / "stuck")
    engine = StuckEngine()
    with open_test_host(tmp_path / "stuck") as (pipeline, host):
        pipeline.lanes["tiny"].model.reload(engine)
        ended: list[InferenceAnswer] = []

        async def ask() -> None:
            ended.append(await pipeline.answer(InferenceRequest("cash", route=RequestedRoute.EDGE, deadline_ms=60_000)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await until(lambda: engine.calls > 0)
            await host.switch(await host.load(second, release_at(second)))
            words = {word.series.version: word.snapshot.counters for word in pipeline.lanes.words()}
            assert (words["1.0.0"].in_flight, words["2.0.0"].accepted) == (1, 0)
            engine.let_go.set()
        assert [(answer.model.version, answer.top[0].label) for answer in ended] == [("1.0.0", "card")]
        words = {word.series.version: word.snapshot.counters for word in pipeline.lanes.words()}
        assert (words["1.0.0"].edge, words["1.0.0"].in_flight, words["2.0.0"].accepted) == (1, 0, 0)


async def test_the_model_that_was_replaced_is_freed_without_waiting_for_the_garbage_collector(
    first: Path, second: Path
) -> None:
    with open_test_host(first) as (pipeline, host):
        gc.disable()
        try:
            await swap(host, second)
            model = weakref.ref(pipeline.lanes["tiny"].model)
            await pipeline.answer(SURE)
            await swap(host, first)
            await pipeline.answer(SURE)
            dropped = await host.load(first, release_at(first))
            candidate = weakref.ref(dropped.model)
            await dropped.close()
            del dropped
            assert model() is None and candidate() is None
        finally:
            gc.enable()


async def test_a_bundle_that_cannot_be_used_leaves_the_running_one_as_it_is(first: Path, second: Path) -> None:
    write_tiny_bundle(second.parent / "other", model="other")
    with open_test_host(first) as (pipeline, host):
        with pytest.raises(EngineError, match="other is not one that this device runs"):
            await host.load(second.parent / "other", release_at(second.parent / "other"))
        with pytest.raises(EngineError, match=r"holds 2\.0\.0, not the 1.0.0 that"):
            await host.load(second, release_at(first))
        assert (await pipeline.answer(SURE)).model.version == "1.0.0"


def confused_graph() -> onnx.ModelProto:
    """Says cash for card."""
    graph = tiny_graph(LABELS)
    table = next(each for each in graph.graph.initializer if each.name == "table")
    values = numpy_helper.to_array(table)[[0, 2, 1, 3]]
    table.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), "table"))
    return graph


async def test_a_bundle_that_answers_wrongly_does_not_pass(first: Path, tmp_path: Path) -> None:
    release = write_release(tmp_path / "wrong", "3.0.0", graph=confused_graph())
    with open_test_host(first) as (pipeline, host):
        candidate = await host.load(tmp_path / "wrong", release)
        with pytest.raises(ProvingFailed, match=r"golden text 'card' gave cash .*, the bundle promises card"):
            await host.prove(candidate)
        await candidate.close()
        assert (await pipeline.answer(SURE)).model.version == "1.0.0"


async def test_a_bundle_that_is_far_slower_than_the_running_one_does_not_pass(first: Path, tmp_path: Path) -> None:
    release = write_release(tmp_path / "slow", "3.0.0", graph=slow_graph(LABELS))
    with open_test_host(first, bounds=ProvingBounds(latency_ratio=1.5, memory_ratio=100.0)) as (_, host):
        candidate = await host.load(tmp_path / "slow", release)
        with pytest.raises(ProvingFailed, match=r"a golden text takes .* ms, the running model takes"):
            await host.prove(candidate)
        await candidate.close()


class BusyDevice(SystemClock):
    """Two models are timed in turns: each timing takes 1 ms, but the first model's 1 s the first `busy_for` times."""

    def __init__(self, busy_for: int) -> None:
        self._busy_for = busy_for
        self._asked = 0
        self._now_s = 0.0

    def monotonic_s(self) -> float:
        self._asked += 1
        timing = (self._asked - 1) // 2
        if self._asked % 2 == 0:
            self._now_s += 1.0 if timing % 2 == 0 and timing // 2 < self._busy_for else 1e-3
        return self._now_s


async def test_a_bundle_that_seems_slow_is_timed_again_before_it_is_refused(first: Path, second: Path) -> None:
    texts = 3 * len(read_bundle(second).golden.items)
    for looks, passes in ((0, True), (2, True), (3, False)):
        bounds = ProvingBounds(latency_ratio=1.5, memory_ratio=100.0)
        with open_test_host(first, bounds=bounds, clock=BusyDevice(looks * texts)) as (_, host):
            candidate = await host.load(second, release_at(second))
            with nullcontext() if passes else pytest.raises(ProvingFailed, match=r"takes 1000.0 ms"):
                await host.prove(candidate)
            await candidate.close()


async def test_too_little_memory_for_two_is_said_before_anything_is_loaded(first: Path, second: Path) -> None:
    with open_test_host(first, free_bytes=lambda: 1_000_000) as (pipeline, host):
        with pytest.raises(NoRoom, match="of memory beside the running model, 1 MB are free"):
            await host.load(second, release_at(second))
        assert (await pipeline.answer(SURE)).model.version == "1.0.0"


class FreeMemory:
    """Room for one model: none until the running one is unloaded."""

    def __init__(self) -> None:
        self.lanes_of: Pipeline | None = None

    def __call__(self) -> int:
        is_free = self.lanes_of is not None and self.lanes_of.lanes["tiny"].model.is_unloaded
        return 1 << 40 if is_free else 0


async def test_with_room_for_one_requests_wait_in_the_pause_and_are_answered_by_the_new_model(
    first: Path, second: Path
) -> None:
    memory = FreeMemory()
    with open_test_host(first, free_bytes=memory) as (pipeline, host):
        memory.lanes_of = pipeline
        await pipeline.answer(SURE)
        candidate = await host.load(second, release_at(second), one_at_a_time=True)
        answers: list[InferenceAnswer] = []

        async def ask() -> None:
            answers.append(await pipeline.answer(InferenceRequest("card", deadline_ms=60_000)))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask)
            with pytest.raises(DeadlineExpired):
                await pipeline.answer(InferenceRequest("card", deadline_ms=1))
            await host.prove(candidate)
            assert not answers
            await host.switch(candidate)
        assert [answer.model.version for answer in answers] == ["2.0.0"] * 3
        total = pipeline.lanes.totals()["tiny"].counters
        assert_counters_add_up(total)
        assert (total.accepted, total.failed, total.in_flight) == (5, 1, 0)


async def test_what_fails_in_the_pause_puts_the_running_model_back(first: Path, tmp_path: Path) -> None:
    memory = FreeMemory()
    release = write_release(tmp_path / "wrong", "3.0.0", graph=confused_graph())
    with open_test_host(first, free_bytes=memory) as (pipeline, host):
        memory.lanes_of = pipeline
        candidate = await host.load(tmp_path / "wrong", release, one_at_a_time=True)
        with pytest.raises(ProvingFailed):
            await host.prove(candidate)
        await candidate.close()
        assert (await pipeline.answer(SURE)).model.version == "1.0.0"
        memory.lanes_of = None
        with pytest.raises(NoRoom, match=r"3\.0\.0 needs"):
            await host.load(tmp_path / "wrong", release, one_at_a_time=True)
        assert (await pipeline.answer(SURE)).outcome is Outcome.EDGE


async def test_a_candidate_that_is_closed_in_a_hurry_puts_the_running_model_back_all_the_same(
    first: Path, second: Path
) -> None:
    memory = FreeMemory()
    with open_test_host(first, free_bytes=memory) as (pipeline, host):
        memory.lanes_of = pipeline
        candidate = await host.load(second, release_at(second), one_at_a_time=True)
        with anyio.CancelScope() as hurry:
            hurry.cancel()
            await candidate.close()
        assert (await pipeline.answer(SURE)).model.version == "1.0.0"


@pytest.mark.parametrize("free_bytes", [(1 << 40,), (0, 1 << 40)])
async def test_a_running_model_that_cannot_answer_stands_in_no_new_ones_way(
    first: Path, second: Path, free_bytes: tuple[int, ...]
) -> None:
    free = iter(free_bytes)
    with open_test_host(first, free_bytes=lambda: next(free)) as (pipeline, host):
        pipeline.lanes["tiny"].model.unload()
        await swap(host, second, one_at_a_time=True)
        assert (await pipeline.answer(SURE)).model.version == "2.0.0"


async def test_two_models_are_not_loaded_at_once_into_memory_for_one(first: Path, second: Path) -> None:
    at_work: list[str] = []

    def free_bytes() -> int:
        at_work.append("asked")
        return 1 << 40

    with open_test_host(first, free_bytes=free_bytes) as (_, host):
        async with anyio.create_task_group() as tasks:

            async def load(folder: Path) -> None:
                candidate = await host.load(folder, release_at(folder))
                at_work.append("loaded")
                await candidate.close()

            tasks.start_soon(load, first)
            tasks.start_soon(load, second)
    assert at_work == ["asked", "loaded"] * 2


async def test_a_trial_counts_from_its_begin_and_is_held_against_the_old_bundle(first: Path, tmp_path: Path) -> None:
    release = write_release(tmp_path / "strict", "2.0.0", threshold=None)
    with open_test_host(first, cloud=FakeCloud("card"), audit_share=1.0) as (pipeline, host):
        async with audited(pipeline):
            for _ in range(4):
                await pipeline.answer(InferenceRequest("card"))
            await pipeline.answer(InferenceRequest("what"))
            await host.switch(await host.load(tmp_path / "strict", release))
            await pipeline.answer(InferenceRequest("card"))
            host.begin_trial("tiny")
            for _ in range(3):
                await pipeline.answer(InferenceRequest("cash"))
        figures = host.trial_figures("tiny")
    assert (figures.requests, figures.failed, figures.compared) == (3, 0, 0)
    assert (figures.offload, figures.old_offload) == (1.0, 0.2)
    assert figures.latency_ms > 0 and figures.old_latency_ms > 0


async def test_audits_of_the_new_bundles_answers_are_counted_in_its_trial(first: Path, second: Path) -> None:
    with open_test_host(first, cloud=FakeCloud("card"), audit_share=1.0) as (pipeline, host):
        async with audited(pipeline) as auditor:
            await pipeline.answer(InferenceRequest("card"))
            await host.switch(await host.load(second, release_at(second)))
            host.begin_trial("tiny")
            for text in ("card", "cash", "card"):
                await pipeline.answer(InferenceRequest(text))
            await auditor.drain(5.0)
        figures = host.trial_figures("tiny")
        assert (figures.compared, figures.agreed) == (3, 2)
        assert pipeline.lanes.totals()["tiny"].judgements.audits.agreed == 3


async def test_a_trial_after_a_restart_knows_nothing_of_the_old_bundle_and_holds_nothing_against_the_new(
    first: Path,
) -> None:
    with open_test_host(first, cloud=FakeCloud("card")) as (pipeline, host):
        assert host.trial_figures("tiny") == TrialFigures()
        host.begin_trial("tiny")
        await pipeline.answer(InferenceRequest("what"))
        figures = host.trial_figures("tiny")
    assert (figures.offload, figures.old_offload, figures.old_latency_ms) == (1.0, 1.0, 0.0)


async def test_a_shadow_answers_its_share_for_nobody_to_see_and_its_agreement_is_counted(
    first: Path, tmp_path: Path
) -> None:
    release = write_release(tmp_path / "wrong", "3.0.0", graph=confused_graph())
    draws = iter([0.1, 0.9] * 100)
    with open_test_host(first, uniform=lambda: next(draws)) as (pipeline, host):
        candidate = await host.load(tmp_path / "wrong", release)
        host.begin_shadow(candidate, 0.5)
        for text in ("card", "card", "loan", "loan"):
            assert (await pipeline.answer(InferenceRequest(text))).model.version == "1.0.0"
            await anyio.sleep(0.02)
        await until(lambda: host.trial_figures("tiny").requests == 2)
        figures = host.trial_figures("tiny")
        assert (figures.requests, figures.compared, figures.agreed, figures.failed) == (2, 2, 1, 0)
        assert figures.latency_ms > 0 and figures.old_latency_ms > 0
        assert pipeline.lanes.totals()["tiny"].counters.accepted == 4
        await candidate.close()
        await pipeline.answer(SURE)
        assert host.trial_figures("tiny") == TrialFigures()


async def test_a_shadow_that_is_busy_delays_nobody_and_leaves_requests_out(first: Path, second: Path) -> None:
    with open_test_host(first) as (pipeline, host):
        candidate = await host.load(second, release_at(second))
        engine = StuckEngine()
        candidate.model.reload(engine)
        host.begin_shadow(candidate, 1.0)
        for _ in range(20):
            assert (await pipeline.answer(SURE)).model.version == "1.0.0"
        assert host.trial_figures("tiny").requests == 0
        engine.let_go.set()
        await until(lambda: host.trial_figures("tiny").requests == 4)
        assert engine.calls <= 5
        await candidate.close()


async def test_a_policy_that_is_known_for_the_new_gate_is_obeyed_at_once(first: Path, second: Path) -> None:
    words = {
        folder: encode_policy(
            GatePolicy("p-" + folder.name, 1, "tiny", release_at(folder).gate_digest, {"kept-error": 0.2})
        )
        for folder in (first, second)
    }
    with open_test_host(first, policies=lambda model: list(words.values())) as (pipeline, host):
        await swap(host, second)
        assert pipeline.lanes["tiny"].control.report().policy_id == "p-2"
        await swap(host, first)
        assert pipeline.lanes["tiny"].control.report().policy_id == "p-1"


async def test_a_label_that_comes_back_after_the_swap_counts_for_the_version_that_answered(
    first: Path, second: Path
) -> None:
    memory = UnsavedAnswers(100)
    with open_test_host(first, memory=memory) as (pipeline, host):
        async with open_test_keeper(pipeline, memory, None) as keeper:
            desk = LabelDesk(pipeline.lanes, keeper, tells_cloud=False, max_waiting=10)
            await pipeline.answer(InferenceRequest("card", request_id="r1"))
            await swap(host, second)
            await pipeline.answer(InferenceRequest("card", request_id="r2"))
            await desk.take([LabelClaim("r1", "cash"), LabelClaim("r2", "card")])
        labels = {word.series.version: word.snapshot.judgements.labels["card"] for word in pipeline.lanes.words()}
    assert (labels["1.0.0"].labelled, labels["1.0.0"].wrong) == (1, 1)
    assert (labels["2.0.0"].labelled, labels["2.0.0"].wrong) == (1, 0)


async def test_a_new_gate_alone_goes_on_with_the_versions_counts_and_begins_its_own_steps(
    first: Path, tmp_path: Path
) -> None:
    write_release(tmp_path / "gate", "1.0.0", threshold=0.8)
    with open_test_host(first, cloud=FakeCloud("cash"), audit_share=1.0) as (pipeline, host):
        async with audited(pipeline) as auditor:
            await pipeline.answer(InferenceRequest("card"))
            await swap(host, tmp_path / "gate")
            await pipeline.answer(InferenceRequest("card"))
            await auditor.drain(5.0)
        (word,) = pipeline.lanes.words()
    assert word.snapshot.counters.edge == 2 and word.gate.digest == release_at(tmp_path / "gate").gate_digest
    assert word.snapshot.judgements.audits.disagreed == 2
    assert [(step.threshold, step.judged) for step in word.snapshot.judgements.audit_steps] == [(0.8, 1), (0.4, 1)]
    assert word.snapshot.judgements.labels["card"].accepted == 2


async def test_the_metrics_page_never_counts_backwards(first: Path, second: Path) -> None:
    with open_test_host(first) as (pipeline, host):
        page = MetricsPage(pipeline.lanes, lambda: None, lambda: None)
        for folder in (second, first, second):
            await pipeline.answer(SURE)
            await swap(host, folder)
        text = page.render().decode()
    assert 'tandem_requests_accepted_total{model="tiny"} 3.0' in text
    assert "tandem_model_swaps_total 3.0" in text
    assert 'version="2.0.0"' in text and 'version="1.0.0"' not in text


def test_a_models_engine_can_be_taken_out_and_put_back(first: Path) -> None:
    engine = StuckEngine()
    engine.let_go.set()
    model = model_with_engine(first, engine)
    model.unload()
    with pytest.raises(EngineError, match="unloaded"):
        model.predict(model.encode("card"), 1)
    model.reload(engine)
    assert model.predict(model.encode("card"), 1).label == "card"


def test_bounds_are_strict_by_default() -> None:
    assert ProvingBounds() == ProvingBounds(latency_ratio=1.5, memory_ratio=1.5) != PATIENT
