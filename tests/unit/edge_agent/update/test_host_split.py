"""An A/B test by request key in the pipeline: two releases answer, each its share."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from edge_agent.answers import InferenceAnswer, InferenceRequest
from edge_agent.labelling import LabelClaim, LabelDesk
from edge_agent.lanes import Lane
from edge_agent.metrics import MetricsPage
from edge_agent.state.answers import UnsavedAnswers
from edge_agent.update.decision import FEWEST_SPLIT_REQUESTS
from shared.codec import encode_policy
from shared.types import GatePolicy, Outcome, RequestedRoute
from shared.update.assignment import place_of
from shared.update.report import TrialFigures
from tests.support.edge_parts import (
    StuckEngine,
    assert_counters_add_up,
    audited,
    open_test_keeper,
)
from tests.support.fake_cloud import FakeCloud
from tests.support.swap_parts import open_test_host, release_at, until, write_release

pytestmark = pytest.mark.anyio

SURE = InferenceRequest("card", route=RequestedRoute.EDGE)


def keys_of(salt: str, share: float) -> tuple[str, str]:
    """One that the second bundle answers, and one that the active one does."""
    names = [f"customer-{number}" for number in range(100)]
    below = [place_of(salt, name) < share for name in names]
    return names[below.index(True)], names[below.index(False)]


async def test_while_requests_are_split_each_key_has_its_release_and_counts_gates_and_labels_of_its_own(
    first: Path, tmp_path: Path
) -> None:
    release = write_release(tmp_path / "strict", "2.0.0", threshold=None)
    of_new, of_old = keys_of("r1", 0.5)
    memory, cloud = UnsavedAnswers(100), FakeCloud("loan")
    with open_test_host(first, cloud=cloud, memory=memory, audit_share=1.0) as (pipeline, host):
        async with audited(pipeline) as auditor, open_test_keeper(pipeline, memory, None) as keeper:
            candidate = await host.load(tmp_path / "strict", release)
            await host.begin_split(candidate, 0.5, "r1")
            for number in range(3):
                kept = await pipeline.answer(InferenceRequest("card", key=of_old, request_id=f"old-{number}"))
                escalated = await pipeline.answer(InferenceRequest("card", key=of_new, request_id=f"new-{number}"))
                assert (kept.outcome, kept.model.version) == (Outcome.EDGE, "1.0.0")
                assert escalated.outcome is Outcome.CLOUD
            mine = await pipeline.answer(InferenceRequest("card", key=of_new, route=RequestedRoute.EDGE))
            assert mine.model.version == "2.0.0"
            await auditor.drain(5.0)
            desk = LabelDesk(pipeline.lanes, keeper, tells_cloud=False, max_waiting=10)
            await desk.take([LabelClaim("old-0", "cash")])
        words = {word.series.version: word.snapshot for word in pipeline.lanes.words()}
        old, new = words["1.0.0"], words["2.0.0"]
        assert (old.counters.edge, old.counters.wanted, old.judgements.audits.disagreed) == (3, 0, 3)
        assert (new.counters.cloud, new.counters.edge, new.counters.wanted, new.judgements.audits.chosen) == (
            3,
            1,
            4,
            0,
        )
        assert old.judgements.labels["card"].wrong == 1
        assert {each.edge_model_version for each in cloud.requests if not each.kept} == {"2.0.0"}
        figures = host.trial_figures("tiny")
        assert (figures.requests, figures.failed, figures.offload, figures.old_latency_ms) == (4, 0, 1.0, 0.0)
        assert host.active("tiny").version == "1.0.0"
        await candidate.close()


async def test_without_a_key_the_request_id_decides_and_the_share_is_kept(first: Path, second: Path) -> None:
    with open_test_host(first) as (pipeline, host):
        candidate = await host.load(second, release_at(second))
        await host.begin_split(candidate, 0.3, "r1")
        versions = [
            (await pipeline.answer(InferenceRequest("card", request_id=f"r-{number}"))).model.version
            for number in range(200)
        ]
        of_new = [place_of("r1", f"r-{number}") < 0.3 for number in range(200)]
        assert [version == "2.0.0" for version in versions] == of_new
        made_up = [(await pipeline.answer(SURE)).model.version for _ in range(100)]
        assert set(made_up) == {"1.0.0", "2.0.0"}
        await candidate.close()


async def test_both_sides_of_a_split_are_held_against_each_other_once_both_say_enough(
    first: Path, tmp_path: Path
) -> None:
    release = write_release(tmp_path / "strict", "2.0.0", threshold=None)
    of_new, of_old = keys_of("r1", 0.5)
    with open_test_host(first, cloud=FakeCloud("card")) as (pipeline, host):
        await pipeline.answer(InferenceRequest("what"))
        await host.begin_split(await host.load(tmp_path / "strict", release), 0.5, "r1")
        for number in range(FEWEST_SPLIT_REQUESTS):
            text = "card" if number % 10 else "what"
            for key in (of_new, of_old):
                await pipeline.answer(InferenceRequest(text, key=key))
        figures = host.trial_figures("tiny")
    assert (figures.requests, figures.offload, figures.old_offload) == (FEWEST_SPLIT_REQUESTS, 1.0, 0.1)
    assert (figures.failed, figures.old_failed) == (0, 0.0)
    assert figures.latency_ms > 0 and figures.old_latency_ms > 0


async def test_a_release_that_answered_its_share_is_promoted_as_it_is_loaded_and_goes_on_counting(
    first: Path, second: Path
) -> None:
    of_new, of_old = keys_of("r1", 0.5)
    with open_test_host(first) as (pipeline, host):
        candidate = await host.load(second, release_at(second))
        await host.begin_split(candidate, 0.5, "r1")
        await pipeline.answer(InferenceRequest("card", key=of_new, route=RequestedRoute.EDGE))
        await host.switch(candidate)
        host.begin_trial("tiny")
        await candidate.close()
        for key in (of_new, of_old):
            assert (await pipeline.answer(InferenceRequest("card", key=key))).model.version == "2.0.0"
        assert host.active("tiny").version == "2.0.0" and host.trial_figures("tiny").requests == 2
        counts = {word.series.version: word.snapshot.counters.edge for word in pipeline.lanes.words()}
        assert counts == {"1.0.0": 0, "2.0.0": 3}


async def test_a_release_that_is_dropped_is_freed_after_its_last_request_and_none_fails(
    first: Path, second: Path
) -> None:
    of_new, _ = keys_of("r1", 0.5)
    with open_test_host(first) as (pipeline, host):
        candidate = await host.load(second, release_at(second))
        engine = StuckEngine()
        await host.begin_split(candidate, 0.5, "r1")
        candidate.model.reload(engine)
        answers: list[InferenceAnswer] = []

        async def ask() -> None:
            request = InferenceRequest("cash", key=of_new, route=RequestedRoute.EDGE, deadline_ms=60_000)
            answers.append(await pipeline.answer(request))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await until(lambda: engine.calls > 0)
            tasks.start_soon(candidate.close)
            await until(lambda: pipeline.lanes.answering() == [pipeline.lanes["tiny"]])
            assert not candidate.model.is_unloaded
            engine.let_go.set()
        assert [answer.model.version for answer in answers] == ["2.0.0"] and candidate.model.is_unloaded
        assert (await pipeline.answer(InferenceRequest("card", key=of_new))).model.version == "1.0.0"
        total = pipeline.lanes.totals()["tiny"].counters
        assert_counters_add_up(total)
        assert (total.edge, total.failed, host.trial_figures("tiny")) == (2, 0, TrialFigures())


async def test_a_release_that_answers_its_share_obeys_policies_for_its_own_gate(first: Path, tmp_path: Path) -> None:
    release = write_release(tmp_path / "other", "2.0.0", threshold=0.8)
    policy = encode_policy(GatePolicy("p-2", 1, "tiny", release.gate_digest, {"kept-error": 0.2}))
    followed: list[str] = []

    async def follow(lane: Lane) -> None:
        followed.append(lane.series.version)

    with open_test_host(first, policies=lambda model: [policy], follow=follow) as (pipeline, host):
        candidate = await host.load(tmp_path / "other", release)
        await host.begin_split(candidate, 0.5, "r1")
        old, new = pipeline.lanes.answering("tiny")
        assert (old.control.report().policy_id, new.control.report().policy_id) == ("", "p-2")
        assert followed == ["2.0.0"]
        page = MetricsPage(pipeline.lanes, lambda: None, lambda: None).render().decode()
        assert 'version="2.0.0"' in page and 'version="1.0.0"' in page
        await candidate.close()


async def test_a_shadow_ends_where_the_release_begins_to_answer_its_share(first: Path, second: Path) -> None:
    of_new, _ = keys_of("r1", 0.5)
    with open_test_host(first) as (pipeline, host):
        candidate = await host.load(second, release_at(second))
        host.begin_shadow(candidate, 1.0)
        await host.begin_split(candidate, 0.5, "r1")
        assert pipeline.shadows == {}
        assert (await pipeline.answer(InferenceRequest("card", key=of_new))).model.version == "2.0.0"
        host.begin_shadow(candidate, 1.0)
        assert (await pipeline.answer(InferenceRequest("card", key=of_new))).model.version == "1.0.0"
        await candidate.close()
