from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.answers import InferenceRequest
from edge_agent.loading import load_model
from edge_agent.model import EdgeModel
from edge_agent.pipeline import Pipeline
from edge_agent.state.answers import UnsavedAnswers
from edge_agent.state.keeper import StateKeeper
from shared.clock import SystemClock
from shared.codec import decode_telemetry, encode_policy
from shared.types import GatePolicy, RequestedRoute
from tests.support.edge_parts import lane_of, open_test_keeper, open_test_pipeline
from tests.support.tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.anyio


@pytest.fixture
def second(tmp_path: Path) -> EdgeModel:
    write_tiny_bundle(tmp_path / "second", version="2.0.0")
    return load_model(tmp_path / "second")


async def ask_both(pipeline: Pipeline) -> None:
    """Until each of two releases has answered."""
    for number in range(20):
        await pipeline.answer(InferenceRequest("card", request_id=f"r{number}", route=RequestedRoute.EDGE))


async def told(keeper: StateKeeper) -> dict[str, int]:
    """What the fleet is told of each release: the active one's count, and the last words of the others."""
    payloads = [*(await keeper.save()).values(), *(word.payload for word in keeper.last_words)]
    words = [decode_telemetry(payload) for payload in payloads]
    return {word.model.version: word.counters.edge for word in words}


async def test_what_a_release_counts_beside_the_active_one_is_told_in_a_place_of_its_own_and_stays(
    tiny_model: EdgeModel, second: EdgeModel, tmp_path: Path
) -> None:
    memory, path = UnsavedAnswers(1000), tmp_path / "d1.sqlite"
    with open_test_pipeline([tiny_model], memory=memory) as pipeline:
        async with open_test_keeper(pipeline, memory, path) as keeper:
            pipeline.lanes.split(lane_of(second, SystemClock()), 0.5, "r1")
            places = set()
            for asked in (1, 2, 3):
                await ask_both(pipeline)
                counts = await told(keeper)
                assert set(counts) == {"1.0.0", "2.0.0"} and sum(counts.values()) == 20 * asked
                (word,) = keeper.last_words
                places.add(word.slot)
            assert len(places) == 1
            pipeline.lanes.unsplit("tiny")
            await ask_both(pipeline)
            after = await told(keeper)
            assert after["2.0.0"] == counts["2.0.0"] and sum(after.values()) == 80
    with open_test_pipeline([tiny_model], memory=memory) as pipeline:
        async with open_test_keeper(pipeline, memory, path, boot_id="b2") as keeper:
            words = [decode_telemetry(word.payload) for word in keeper.last_words]
            assert {word.model.version: word.counters.edge for word in words} == after


async def test_a_release_that_counted_before_has_a_place_again_when_it_answers_a_share(
    tiny_model: EdgeModel, second: EdgeModel, tmp_path: Path
) -> None:
    memory = UnsavedAnswers(1000)
    with open_test_pipeline([tiny_model], memory=memory) as pipeline:
        async with open_test_keeper(pipeline, memory, tmp_path / "d1.sqlite") as keeper:
            lane = lane_of(second, SystemClock())
            pipeline.lanes.split(lane, 0.5, "r1")
            await ask_both(pipeline)
            await keeper.save()
            for number in range(3, 9):
                write_tiny_bundle(tmp_path / f"{number}", version=f"{number}.0.0")
                pipeline.lanes.exchange(lane_of(load_model(tmp_path / f"{number}"), SystemClock()))
                await ask_both(pipeline)
                await keeper.save()
            assert "2.0.0" not in await told(keeper)
            pipeline.lanes.split(lane, 0.5, "r1")
            await ask_both(pipeline)
            counts = await told(keeper)
            assert counts["2.0.0"] == lane.ledger.snapshot().counters.edge
            assert len(keeper.last_words) == len({word.slot for word in keeper.last_words})


async def test_the_policies_of_both_gates_are_kept(tiny_model: EdgeModel, tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "other", version="2.0.0", threshold=0.8)
    memory = UnsavedAnswers(10)
    with open_test_pipeline([tiny_model], memory=memory) as pipeline:
        async with open_test_keeper(pipeline, memory, None) as keeper:
            pipeline.lanes.split(lane_of(load_model(tmp_path / "other"), SystemClock()), 0.5, "r1")
            for number, lane in enumerate(pipeline.lanes.answering()):
                alphas = {"kept-error": 0.2}
                lane.control.hear(encode_policy(GatePolicy(f"p{number}", 1, "tiny", lane.model.gate_digest, alphas)))
            await keeper.save()
            assert len(keeper.policies("tiny")) == 2
