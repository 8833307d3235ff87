from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.answers import InferenceRequest
from edge_agent.config import BudgetSettings
from edge_agent.gate_control import GateControl
from edge_agent.loading import load_model
from edge_agent.model import EdgeModel
from shared.codec import encode_policy
from shared.errors import CloudOverloaded, CloudUnavailable, ConfigurationError
from shared.gate import Risk
from shared.types import GatePolicy, Outcome, Reason, RequestedRoute
from tests.support.edge_parts import audited, open_test_pipeline
from tests.support.fake_clock import FakeClock
from tests.support.fake_cloud import FakeCloud
from tests.support.tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.anyio

SURE = InferenceRequest("card")
UNSURE = InferenceRequest("card cash")  # scores 0.499: under 0.9, over the 0.4 that is certified for 20%
LOST = InferenceRequest("what")  # scores 0.333
LOOSEST = {Risk.KEPT_ERROR: 0.2}


@pytest.fixture
def model(tmp_path: Path) -> EdgeModel:
    write_tiny_bundle(tmp_path / "tiny")
    return load_model(tmp_path / "tiny")


def policy(edge_model: EdgeModel, sequence: int = 1, **words: object) -> bytes:
    said: dict[str, object] = {"policy_id": f"p{sequence}", "model": "tiny", "gate_digest": edge_model.gate_digest}
    return encode_policy(GatePolicy(sequence=sequence, **(said | words)))  # type: ignore[arg-type]


async def test_a_policy_holds_from_the_next_request_on_and_is_reported(model: EdgeModel) -> None:
    with open_test_pipeline([model]) as pipeline:
        control = pipeline.lanes["tiny"].control
        assert (await pipeline.answer(UNSURE)).outcome is Outcome.DEGRADED
        control.hear(policy(model, in_force={"kept-error": 0.2}, audit_share=0.5))
        answer = await pipeline.answer(UNSURE)
        assert (answer.outcome, answer.reason, answer.gate.threshold) == (Outcome.EDGE, Reason.CONFIDENT, 0.4)
        report = control.report()
        assert (report.policy_id, report.in_force, report.threshold) == ("p1", {"kept-error": 0.2}, 0.4)
        assert report.digest == model.gate_digest and control.audit_share == 0.5
        control.hear(policy(model, 2, escalate_all=True))
        assert (await pipeline.answer(SURE)).gate.reason is Reason.UNCERTIFIED
        assert control.report().threshold is None and control.audit_share == 0.0


async def test_a_refused_policy_changes_nothing_and_is_reported_until_a_good_one_comes(model: EdgeModel) -> None:
    control = GateControl(model)
    control.hear(policy(model, 3, least_threshold=0.95))
    control.hear(policy(model, 4, in_force={"kept-error": 0.15}))
    report = control.report()
    assert (report.policy_id, report.refused_policy_id, report.threshold) == ("p3", "p4", 0.95)
    assert "alpha 0.15 is not certified" in report.refusal
    control.hear(policy(model, 2))
    assert control.report().refused_policy_id == "p2" and "not above 3" in control.report().refusal
    control.hear(policy(model, 5))
    assert (control.report().policy_id, control.report().refused_policy_id, control.report().refusal) == ("p5", "", "")


async def test_a_policy_heard_again_or_taken_back_or_of_another_gate_changes_nothing(model: EdgeModel) -> None:
    control = GateControl(model)
    control.hear(policy(model, least_threshold=0.95))
    before = control.report()
    for payload in (policy(model, least_threshold=0.95), b"", policy(model, 2, gate_digest="c" * 64)):
        control.hear(payload)
        assert control.report() == before


async def test_words_that_are_no_policy_are_refused(model: EdgeModel) -> None:
    control = GateControl(model)
    control.hear(b"\xff\xff")
    assert "are not a GatePolicy" in control.report().refusal
    control.hear(policy(model, model="other"))
    assert "it is for model other" in control.report().refusal
    assert control.payload is None and control.report().threshold == 0.9


async def test_a_budget_that_is_not_certified_is_named_at_the_start(model: EdgeModel) -> None:
    with pytest.raises(ConfigurationError, match=r"budget\.loosest: tiny: alpha 0\.3 is not certified"):
        GateControl(model, 0.0, BudgetSettings(loosest={Risk.KEPT_ERROR: 0.3}))


async def test_over_the_cap_the_gate_loosens_as_far_as_allowed_and_says_budget(model: EdgeModel) -> None:
    cloud = FakeCloud()
    budget = BudgetSettings(offload_cap=0.0, loosest=LOOSEST)
    with open_test_pipeline([model], cloud=cloud, budget=budget, audit_share=1.0) as pipeline:
        async with audited(pipeline):
            reasons = [(await pipeline.answer(UNSURE)).reason for _ in range(25)]
            assert reasons == [Reason.UNCERTAIN] * 20 + [Reason.BUDGET] * 5
            assert (await pipeline.answer(LOST)).outcome is Outcome.CLOUD
            asked = await pipeline.answer(InferenceRequest("card cash", route=RequestedRoute.CLOUD))
            assert asked.outcome is Outcome.CLOUD
        snapshot = pipeline.lanes["tiny"].ledger.snapshot()
    assert (snapshot.counters.wanted, snapshot.counters.edge, snapshot.judgements.audits.chosen) == (27, 5, 0)
    assert snapshot.judgements.labels["card"].wanted == 27


async def test_a_cloud_without_room_loosens_the_gate_for_as_long_as_it_says(model: EdgeModel) -> None:
    cloud, clock = FakeCloud(), FakeClock()
    cloud.error = CloudOverloaded("full", 5.0)
    with open_test_pipeline([model], cloud=cloud, clock=clock, budget=BudgetSettings(loosest=LOOSEST)) as pipeline:
        answers = [await pipeline.answer(request) for request in (UNSURE, UNSURE, LOST)]
        assert [answer.outcome for answer in answers] == [Outcome.EDGE, Outcome.EDGE, Outcome.DEGRADED]
        assert [answer.reason for answer in answers] == [Reason.BUDGET, Reason.BUDGET, Reason.CLOUD_OVERLOADED]
        assert len(cloud.requests) == 1
        cloud.error = None
        clock.advance(5.1)
        assert (await pipeline.answer(UNSURE)).outcome is Outcome.CLOUD


async def test_without_leave_a_cloud_without_room_degrades(model: EdgeModel) -> None:
    cloud = FakeCloud()
    cloud.error = CloudOverloaded("full", 5.0)
    with open_test_pipeline([model], cloud=cloud, budget=BudgetSettings(offload_cap=0.0)) as pipeline:
        answers = [await pipeline.answer(UNSURE) for _ in range(2)]
    assert [answer.reason for answer in answers] == [Reason.CLOUD_OVERLOADED] * 2


async def test_offline_no_budget_makes_an_answer_look_kept(model: EdgeModel) -> None:
    cloud = FakeCloud()
    cloud.error = CloudUnavailable("away")
    budget = BudgetSettings(offload_cap=0.0, loosest=LOOSEST)
    with open_test_pipeline([model], cloud=cloud, budget=budget, failures_to_open=1) as pipeline:
        answers = [await pipeline.answer(UNSURE) for _ in range(30)]
    assert {answer.outcome for answer in answers} == {Outcome.DEGRADED}


async def test_under_a_policy_its_own_budget_holds_and_no_other(model: EdgeModel) -> None:
    budget = BudgetSettings(offload_cap=0.0, loosest=LOOSEST)
    with open_test_pipeline([model], cloud=FakeCloud(), budget=budget) as pipeline:
        control = pipeline.lanes["tiny"].control
        control.hear(policy(model))
        assert {(await pipeline.answer(UNSURE)).outcome for _ in range(30)} == {Outcome.CLOUD}
        control.hear(policy(model, 2, offload_cap=0.0, budget_in_force={"kept-error": 0.2}))
        reasons = [(await pipeline.answer(UNSURE)).reason for _ in range(30)]
        assert reasons[20:] == [Reason.BUDGET] * 10
