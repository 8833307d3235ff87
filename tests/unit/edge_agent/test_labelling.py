from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.answers import InferenceRequest
from edge_agent.labelling import LabelClaim, LabelDesk, LabelForwarder, LabelReceipt
from edge_agent.loading import load_model
from edge_agent.model import EdgeModel
from edge_agent.pipeline import Pipeline
from edge_agent.state.answers import UnsavedAnswers
from edge_agent.state.keeper import StateKeeper
from shared.backoff import Backoff
from shared.clock import SystemClock
from shared.codec import decode_telemetry
from shared.errors import (
    CloudUnavailable,
    InputError,
    LabelContradicted,
    Overloaded,
    TandemError,
    UnknownRequest,
)
from shared.types import LabelCounts, RequestedRoute, StepCounts
from tests.support.edge_parts import open_test_keeper, open_test_pipeline
from tests.support.fake_cloud import FakeCloud
from tests.support.tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def open_desk(
    model: EdgeModel, path: Path | None = None, *, boot_id: str = "b1", max_waiting: int = 100
) -> AsyncIterator[tuple[Pipeline, StateKeeper, LabelDesk]]:
    memory = UnsavedAnswers(1000)
    with open_test_pipeline([model], cloud=FakeCloud(), memory=memory) as pipeline:
        async with open_test_keeper(pipeline, memory, path, boot_id=boot_id) as keeper:
            yield pipeline, keeper, LabelDesk(pipeline.lanes, keeper, tells_cloud=True, max_waiting=max_waiting)


async def ask(pipeline: Pipeline, request_id: str, text: str = "card") -> None:
    await pipeline.answer(InferenceRequest(text, request_id=request_id))


async def told(desk: LabelDesk, request_id: str, label: str) -> LabelReceipt | TandemError:
    return (await desk.take([LabelClaim(request_id, label)]))[0]


def labels(pipeline: Pipeline) -> dict[str, LabelCounts]:
    return pipeline.lanes["tiny"].ledger.snapshot().judgements.labels


async def test_a_kept_answers_true_label_is_counted_at_its_steps_and_told_to_the_cloud(tiny_model: EdgeModel) -> None:
    async with open_desk(tiny_model) as (pipeline, keeper, desk):
        await ask(pipeline, "r1")
        await ask(pipeline, "r2")
        right, wrong = await desk.take([LabelClaim("r1", "card"), LabelClaim("r2", "fraud", "tiny")])
        assert isinstance(right, LabelReceipt) and right.is_new and right.to_json()["agrees"] is True
        assert isinstance(wrong, LabelReceipt) and wrong.to_json()["agrees"] is False
        steps = pipeline.lanes["tiny"].ledger.snapshot().judgements.label_steps
        assert steps == (StepCounts(0.9, 2, 1), StepCounts(0.4, 2, 1))
        assert (labels(pipeline)["card"].labelled, labels(pipeline)["card"].wrong) == (2, 1)
        waiting = await keeper.next_labels(10)
    said = waiting[1].answer.with_true_label(waiting[1].true_label or "")
    assert (said.request_id, said.label, said.edge_label, said.kept) == ("r2", "fraud", "card", True)
    assert (said.edge_model_version, said.gate_digest) == ("1.0.0", tiny_model.gate_digest)
    assert said.gate_score == said.edge_score == pytest.approx(0.995, abs=1e-3)


async def test_a_label_said_twice_counts_once_and_another_one_changes_nothing(tiny_model: EdgeModel) -> None:
    async with open_desk(tiny_model) as (pipeline, keeper, desk):
        await ask(pipeline, "r1")
        await told(desk, "r1", "cash")
        again, other = await told(desk, "r1", "cash"), await told(desk, "r1", "card")
        assert isinstance(again, LabelReceipt) and not again.is_new
        assert isinstance(other, LabelContradicted) and "'cash'" in str(other)
        in_one = await desk.take([LabelClaim("r1", "cash"), LabelClaim("r1", "loan")])
        assert isinstance(in_one[0], LabelReceipt) and isinstance(in_one[1], LabelContradicted)
        assert (labels(pipeline)["card"].labelled, labels(pipeline)["card"].wrong, keeper.waiting_labels) == (1, 1, 1)


async def test_a_label_for_a_request_that_nobody_remembers_is_told_so(tiny_model: EdgeModel) -> None:
    async with open_desk(tiny_model) as (_, _, desk):
        assert isinstance(await told(desk, "never asked", "card"), UnknownRequest)


async def test_answers_that_the_gate_did_not_keep_are_for_the_cloud_alone(tiny_model: EdgeModel) -> None:
    async with open_desk(tiny_model) as (pipeline, keeper, desk):
        await ask(pipeline, "r1", "card cash")
        await pipeline.answer(InferenceRequest("card", request_id="r2", route=RequestedRoute.EDGE))
        for request_id in ("r1", "r2"):
            receipt = await told(desk, request_id, "card")
            assert isinstance(receipt, LabelReceipt) and not receipt.answer.kept
        assert labels(pipeline)["card"].labelled == 0 and keeper.waiting_labels == 2


async def test_a_late_label_finds_its_answer_after_a_restart_and_is_not_counted_twice(
    tiny_model: EdgeModel, tmp_path: Path
) -> None:
    async with open_desk(tiny_model, tmp_path / "d1.sqlite") as (pipeline, _, _):
        await ask(pipeline, "r1")
    async with open_desk(tiny_model, tmp_path / "d1.sqlite", boot_id="b2") as (pipeline, _, desk):
        assert isinstance(await told(desk, "r1", "card"), LabelReceipt)
        assert labels(pipeline)["card"].labelled == 1
    async with open_desk(tiny_model, tmp_path / "d1.sqlite", boot_id="b3") as (pipeline, keeper, desk):
        assert isinstance(await told(desk, "r1", "loan"), LabelContradicted)
        assert labels(pipeline) == {} and keeper.waiting_labels == 1
        word = decode_telemetry(keeper.last_words[-1].payload)
        assert (word.boot_id, word.labels["card"].labelled) == ("b2", 1)


async def test_a_label_for_an_answer_of_another_model_version_says_nothing_of_the_present_gate(
    tiny_model: EdgeModel, tmp_path: Path
) -> None:
    async with open_desk(tiny_model, tmp_path / "d1.sqlite") as (pipeline, _, _):
        await ask(pipeline, "r1")
    write_tiny_bundle(tmp_path / "newer", version="2.0.0")
    async with open_desk(load_model(tmp_path / "newer"), tmp_path / "d1.sqlite", boot_id="b2") as opened:
        pipeline, keeper, desk = opened
        assert isinstance(await told(desk, "r1", "card"), LabelReceipt)
        assert labels(pipeline) == {} and keeper.waiting_labels == 1


async def test_a_request_that_two_models_answered_needs_the_models_name(tiny_model: EdgeModel, tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "other", model="other")
    memory = UnsavedAnswers(1000)
    with open_test_pipeline([tiny_model, load_model(tmp_path / "other")], memory=memory) as pipeline:
        async with open_test_keeper(pipeline, memory, None) as keeper:
            desk = LabelDesk(pipeline.lanes, keeper, tells_cloud=False, max_waiting=10)
            for model in ("tiny", "other"):
                await pipeline.answer(InferenceRequest("card", model=model, request_id="r1"))
            unclear = await told(desk, "r1", "card")
            assert isinstance(unclear, InputError) and "other, tiny: name the model" in str(unclear)
            receipts = await desk.take([LabelClaim("r1", "card", "other")])
            assert isinstance(receipts[0], LabelReceipt) and receipts[0].answer.model == "other"
            assert keeper.waiting_labels == 0


async def test_labels_that_the_cloud_does_not_take_are_refused_when_there_is_no_more_room(
    tiny_model: EdgeModel,
) -> None:
    async with open_desk(tiny_model, max_waiting=1) as (pipeline, _, desk):
        await ask(pipeline, "r1")
        await ask(pipeline, "r2")
        first, second = await desk.take([LabelClaim("r1", "card"), LabelClaim("r2", "card")])
        assert isinstance(first, LabelReceipt) and isinstance(second, Overloaded)
        assert labels(pipeline)["card"].labelled == 1


async def test_labels_are_forwarded_until_the_cloud_takes_them(tiny_model: EdgeModel, tmp_path: Path) -> None:
    cloud = FakeCloud()
    cloud.error = CloudUnavailable("away")
    async with open_desk(tiny_model, tmp_path / "d1.sqlite") as (pipeline, keeper, desk):
        forwarder = LabelForwarder(cloud, keeper, SystemClock(), Backoff(0.01, 0.05), lambda: 0.5)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(forwarder.run)
            for request_id in ("r1", "r2"):
                await ask(pipeline, request_id)
                await told(desk, request_id, "cash")
                await anyio.sleep(0.05)
            assert cloud.true_labels == [] and keeper.waiting_labels == 2
            cloud.error = None
            with anyio.fail_after(5.0):
                while keeper.waiting_labels:  # noqa: ASYNC110 - the forwarder tells nobody
                    await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
    assert sorted(label.request_id for label in cloud.true_labels) == ["r1", "r2"]


async def test_a_file_that_cannot_be_written_for_a_while_loses_neither_answer_nor_label(
    tiny_model: EdgeModel, tmp_path: Path
) -> None:
    path = tmp_path / "d1.sqlite"
    async with open_desk(tiny_model, path) as (pipeline, keeper, desk):
        other = sqlite3.connect(path)
        other.execute("CREATE TRIGGER full BEFORE INSERT ON words BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        other.commit()
        await ask(pipeline, "r1")
        assert isinstance(await told(desk, "r1", "cash"), LabelReceipt) and keeper.is_failing
        assert isinstance(await told(desk, "r1", "card"), LabelContradicted)
        other.execute("DROP TRIGGER full")
        other.commit()
        other.close()
        await keeper.save()
        assert not keeper.is_failing and len(await keeper.next_labels(10)) == 1
    assert labels(pipeline)["card"].labelled == 1


async def test_a_label_is_written_and_told_though_its_answer_was_pushed_out_of_memory_meanwhile(
    tiny_model: EdgeModel, tmp_path: Path
) -> None:
    path, memory = tmp_path / "d1.sqlite", UnsavedAnswers(1)
    with open_test_pipeline([tiny_model], cloud=FakeCloud(), memory=memory) as pipeline:
        async with open_test_keeper(pipeline, memory, path) as keeper:
            await ask(pipeline, "r1")
            (found,) = await keeper.find("r1", None)
            keeper.put_label(found.answer, "cash", waits=True)
            await ask(pipeline, "r2")
            await keeper.save()
            (waiting,) = await keeper.next_labels(10)
            assert (waiting.answer.request_id, waiting.true_label) == ("r1", "cash")
            await keeper.labels_taken([waiting.answer.key])
            assert keeper.waiting_labels == 0


claims = st.lists(
    st.tuples(st.sampled_from(["r1", "r2", "r3", "r4"]), st.sampled_from(["card", "cash", "moon"])), max_size=12
)


@settings(deadline=None, max_examples=25)
@given(claims)
async def test_whatever_is_said_in_any_order_each_request_counts_once(
    tiny_model: EdgeModel, said: list[tuple[str, str]]
) -> None:
    async with open_desk(tiny_model) as (pipeline, keeper, desk):
        for request_id in ("r1", "r2", "r3"):
            await ask(pipeline, request_id)
        first: dict[str, str] = {}
        for request_id, label in said:
            receipt = await told(desk, request_id, label)
            is_new = request_id != "r4" and request_id not in first
            assert (isinstance(receipt, LabelReceipt) and receipt.is_new) == is_new
            if request_id != "r4":
                first.setdefault(request_id, label)
        counts = labels(pipeline)["card"]
        assert counts.labelled == len(first) == keeper.waiting_labels
        assert counts.wrong == sum(label != "card" for label in first.values())
