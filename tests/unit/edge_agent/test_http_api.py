from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.config import HttpSettings, LabelSettings
from edge_agent.escalation.breaker import BreakerState
from edge_agent.http_api import HttpApi
from edge_agent.http_schema import AnswerBody, ErrorBody, LabelReceiptBody
from edge_agent.labelling import LabelDesk
from edge_agent.loading import load_model
from edge_agent.metrics import MetricsPage, StateHealth
from edge_agent.model import EdgeModel
from edge_agent.pipeline import Pipeline
from edge_agent.state.answers import UnsavedAnswers
from shared.clock import SystemClock
from shared.errors import EngineError
from shared.types import RequestCounters
from shared.update.assignment import place_of
from tests.support.edge_parts import (
    ScriptedEngine,
    StuckEngine,
    lane_of,
    model_with_engine,
    open_test_keeper,
    open_test_pipeline,
)
from tests.support.fake_cloud import FakeCloud
from tests.support.tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.anyio
GUIDE = Path(__file__).resolve().parents[3] / "docs" / "user-guide.md"


def client_of(api: HttpApi) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://device")


def open_api(api: HttpApi, pipeline: Pipeline) -> None:
    api.open(pipeline, MetricsPage(pipeline.lanes, lambda: BreakerState.OPEN, lambda: True))


@pytest.fixture
def api() -> HttpApi:
    return HttpApi(HttpSettings(max_body_bytes=2048, max_list_items=4))


@pytest.fixture
def pipeline(tiny_model: EdgeModel, api: HttpApi) -> Iterator[Pipeline]:
    with open_test_pipeline([tiny_model], cloud=FakeCloud("loan")) as pipeline:
        open_api(api, pipeline)
        yield pipeline


def counters(pipeline: Pipeline) -> RequestCounters:
    return pipeline.lanes["tiny"].ledger.snapshot().counters


async def test_one_text_gets_an_answer_of_the_documented_form(api: HttpApi, pipeline: Pipeline) -> None:
    async with client_of(api) as client:
        response = await client.post("/v1/infer", json={"text": "card", "request_id": "r1", "top_k": 2})
    answer = AnswerBody.model_validate(response.json())
    assert (response.status_code, answer.request_id, answer.outcome, answer.label) == (200, "r1", "edge", "card")
    assert answer.top[0].label == "card" and len(answer.top) == 2
    assert answer.confidence == answer.top[0].score == answer.gate.score
    assert answer.timings_ms.total >= answer.timings_ms.inference > 0


async def test_an_escalated_answer_says_so_and_where_its_time_went(api: HttpApi, pipeline: Pipeline) -> None:
    async with client_of(api) as client:
        response = await client.post("/v1/infer", json={"text": "card cash"})
    answer = AnswerBody.model_validate(response.json())
    assert (answer.outcome, answer.route, answer.label, answer.reason) == ("cloud", "cloud", "loan", "uncertain")
    assert answer.timings_ms.cloud is not None and answer.timings_ms.cloud_compute == 1.5


async def test_a_list_is_answered_in_order_and_each_item_by_itself(api: HttpApi, pipeline: Pipeline) -> None:
    items = [{"text": "cash"}, {"text": ""}, {"text": "card", "tpo_k": 1}, {"text": "loan", "model": "nobody"}]
    async with client_of(api) as client:
        response = await client.post("/v1/infer", json=items)
    first, *others = response.json()
    assert response.status_code == 200
    assert AnswerBody.model_validate(first).label == "cash"
    faults = [ErrorBody.model_validate(other).error for other in others]
    assert [fault.code for fault in faults] == ["bad_input", "bad_input", "unknown_model"]
    assert "tpo_k: unknown field" in faults[1].message
    assert (counters(pipeline).received, counters(pipeline).rejected, counters(pipeline).edge) == (4, 3, 1)


async def test_a_text_has_the_same_answer_alone_and_in_a_list(api: HttpApi, pipeline: Pipeline) -> None:
    texts = ["card", "cash please", "loan loan card", "cash"]
    async with client_of(api) as client:
        together = (await client.post("/v1/infer", json=[{"text": text, "route": "edge"} for text in texts])).json()
        for text, answer in zip(texts, together, strict=True):
            alone = (await client.post("/v1/infer", json={"text": text, "route": "edge"})).json()
            assert (alone["top"], alone["gate"]) == (answer["top"], answer["gate"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not JSON"),
        (b'"card"', "dictionary"),
        (b'{"text": "card", "txet": 1}', "txet: unknown field"),
        (b'{"text": 7}', "text: "),
        (b'{"text": "card", "route": "moon"}', "route: "),
        (b'{"text": "card", "key": ""}', "key: "),
        (b'{"text": "card", "key": 7}', "key: "),
        (b'{"text": "card", "key": "' + b"k" * 129 + b'"}', "key: "),
        (b'{"text": "card", "deadline_ms": 0}', "deadline_ms: "),
        (b'{"text": "card", "deadline_ms": "5 s"}', "deadline_ms: "),
        (b'{"text": "card", "top_k": NaN}', "not JSON"),
        (b'{"text": "\\ud800"}', "not JSON"),
        (b'{"text": "\xff"}', "not JSON"),
        (b"", "not JSON"),
        (b"[" * 5000, ""),
    ],
)
async def test_a_malformed_request_is_rejected_with_the_fault_named(
    api: HttpApi, pipeline: Pipeline, body: bytes, said: str
) -> None:
    async with client_of(api) as client:
        response = await client.post("/v1/infer", content=body)
    error = ErrorBody.model_validate(response.json())
    assert response.status_code in (413, 422) and said in error.error.message
    assert error.outcome == "rejected"
    assert (counters(pipeline).received, counters(pipeline).rejected) == (1, 1)


async def test_while_an_ab_test_splits_requests_all_of_a_key_are_answered_by_one_release(
    api: HttpApi, pipeline: Pipeline, tmp_path: Path
) -> None:
    write_tiny_bundle(tmp_path / "second", version="2.0.0")
    pipeline.lanes.split(lane_of(load_model(tmp_path / "second"), SystemClock()), 0.5, "r1")
    keys = [f"客户-{number}" for number in range(20)]
    versions: list[set[str]] = []
    async with client_of(api) as client:
        for key in keys:
            alone = await client.post("/v1/infer", json={"text": "card", "route": "edge", "key": key})
            items = [{"text": text, "route": "edge", "key": key} for text in ("card", "cash")]
            together = (await client.post("/v1/infer", json=items)).json()
            versions.append({each["model"]["version"] for each in (alone.json(), *together)})
    below = [place_of("r1", key) < 0.5 for key in keys]
    assert versions == [{"2.0.0"} if is_below else {"1.0.0"} for is_below in below] and 0 < sum(below) < 20


async def test_a_body_over_the_limit_is_refused_whether_it_says_its_length_or_not(
    api: HttpApi, pipeline: Pipeline
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 100

    async with client_of(api) as client:
        said = await client.post("/v1/infer", content=b"x" * 3000)
        unsaid = await client.post("/v1/infer", content=pieces())
    assert (said.status_code, unsaid.status_code) == (413, 413)
    assert counters(pipeline).rejected == 2


async def test_a_list_over_the_limit_is_refused_whole(api: HttpApi, pipeline: Pipeline) -> None:
    async with client_of(api) as client:
        response = await client.post("/v1/infer", json=[{"text": "card"}] * 5)
    assert response.status_code == 413 and "5 items" in response.json()["error"]["message"]


async def test_an_empty_list_has_an_empty_answer(api: HttpApi, pipeline: Pipeline) -> None:
    async with client_of(api) as client:
        assert (await client.post("/v1/infer", json=[])).json() == []


async def test_an_unknown_model_is_not_found(api: HttpApi, pipeline: Pipeline) -> None:
    async with client_of(api) as client:
        response = await client.post("/v1/infer", json={"text": "card", "model": "nobody", "request_id": "r2"})
    assert response.status_code == 404 and response.json()["request_id"] == "r2"
    assert "there is tiny" in response.json()["error"]["message"]


async def test_a_full_device_says_429_with_retry_after(api: HttpApi, tiny_model: EdgeModel) -> None:
    with open_test_pipeline([tiny_model], max_in_flight=1) as pipeline, pipeline.admission:
        open_api(api, pipeline)
        async with client_of(api) as client:
            response = await client.post("/v1/infer", json={"text": "card"})
    assert response.status_code == 429 and int(response.headers["retry-after"]) >= 1
    assert response.json()["error"]["retry_after_ms"] > 0


async def test_a_missed_deadline_says_504(api: HttpApi, tiny_folder: Path) -> None:
    engine = StuckEngine()
    with open_test_pipeline([model_with_engine(tiny_folder, engine)]) as pipeline:
        open_api(api, pipeline)
        async with client_of(api) as client:
            response = await client.post("/v1/infer", json={"text": "card", "deadline_ms": 20})
        engine.let_go.set()
    error = ErrorBody.model_validate(response.json())
    assert (response.status_code, error.outcome, error.error.code) == (504, "failed", "deadline")


async def test_an_engine_that_breaks_says_500(api: HttpApi, tiny_folder: Path) -> None:
    def broken(token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        raise EngineError("broken on purpose")

    with open_test_pipeline([model_with_engine(tiny_folder, ScriptedEngine(broken))]) as pipeline:
        open_api(api, pipeline)
        async with client_of(api) as client:
            response = await client.post("/v1/infer", json={"text": "card"})
    assert (response.status_code, response.json()["error"]["code"]) == (500, "engine_failed")


async def test_before_the_models_are_loaded_and_while_draining_it_is_not_ready(
    api: HttpApi, tiny_model: EdgeModel
) -> None:
    async with client_of(api) as client:
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/metrics")).status_code == 503
        assert (await client.post("/v1/infer", json={"text": "card"})).status_code == 503
        with open_test_pipeline([tiny_model]) as pipeline:
            open_api(api, pipeline)
            assert (await client.get("/readyz")).status_code == 200
            pipeline.admission.close()
            assert (await client.get("/readyz")).text == "draining\n"
            assert (await client.post("/v1/infer", json={"text": "card"})).status_code == 503


async def test_the_metrics_are_the_ledgers_counts(api: HttpApi, pipeline: Pipeline) -> None:
    async with client_of(api) as client:
        await client.post("/v1/infer", json=[{"text": "card"}, {"text": "card cash"}, {"text": ""}])
        lines = (await client.get("/metrics")).text.splitlines()
    for line in (
        'tandem_requests_total{model="tiny",outcome="edge"} 1.0',
        'tandem_requests_total{model="tiny",outcome="cloud"} 1.0',
        'tandem_requests_total{model="tiny",outcome="rejected"} 1.0',
        'tandem_requests_received_total{model="tiny"} 3.0',
        'tandem_requests_wanted_total{model="tiny"} 1.0',
        'tandem_escalations_total{model="tiny",result="served"} 1.0',
        'tandem_request_duration_seconds_count{model="tiny",outcome="edge"} 1.0',
        'tandem_offload_ratio{model="tiny"} 0.5',
        'tandem_circuit_breaker_state{state="open"} 1.0',
        "tandem_broker_connected 1.0",
    ):
        assert line in lines


@asynccontextmanager
async def labelled_api(model: EdgeModel) -> AsyncIterator[httpx.AsyncClient]:
    """An API that has answered "card" as r1 and r2, and takes true labels."""
    api, memory = HttpApi(HttpSettings(), LabelSettings(max_list_items=3)), UnsavedAnswers(100)
    with open_test_pipeline([model], memory=memory) as pipeline:
        async with open_test_keeper(pipeline, memory, None) as keeper, client_of(api) as client:
            desk = LabelDesk(pipeline.lanes, keeper, tells_cloud=False, max_waiting=10)
            health = StateHealth(is_failing=False, waiting_labels=0)
            api.open(pipeline, MetricsPage(pipeline.lanes, lambda: None, lambda: None, lambda: health), desk)
            for request_id in ("r1", "r2"):
                await client.post("/v1/infer", json={"text": "card", "request_id": request_id})
            yield client


async def test_a_true_label_gets_a_receipt_of_the_documented_form(tiny_model: EdgeModel) -> None:
    async with labelled_api(tiny_model) as client:
        response = await client.post("/v1/labels", json={"request_id": "r1", "label": "卡"})
        receipt = LabelReceiptBody.model_validate(response.json())
        assert (response.status_code, receipt.taken, receipt.kept, receipt.agrees) == (200, True, True, False)
        assert (receipt.request_id, receipt.model, receipt.label, receipt.edge_label) == ("r1", "tiny", "卡", "card")
        again = LabelReceiptBody.model_validate((await client.post("/v1/labels", json=[receipt_claim()])).json()[0])
        assert not again.taken


def test_the_guide_shows_a_receipt_of_the_documented_form() -> None:
    shown = re.search(r"```json\n(\{[^`]*\"taken\"[^`]*)```", GUIDE.read_text(encoding="utf-8"))
    assert shown and LabelReceiptBody.model_validate_json(shown[1]).agrees


def receipt_claim() -> dict[str, str]:
    return {"request_id": "r1", "label": "卡"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"request_id": "r9", "label": "card"}, 404, "unknown_request"),
        ({"request_id": "r1", "label": "loan", "model": "other"}, 404, "unknown_request"),
        ({"request_id": "r1", "label": ""}, 422, "bad_input"),
        ({"request_id": "r1"}, 422, "bad_input"),
        ({"request_id": "r1", "label": "card", "lable": 1}, 422, "bad_input"),
        ("card", 422, "bad_input"),
        ([{"request_id": "r1", "label": "card"}] * 4, 413, "too_large"),
    ],
)
async def test_a_label_that_cannot_be_taken_says_why(
    tiny_model: EdgeModel, body: object, status: int, code: str
) -> None:
    async with labelled_api(tiny_model) as client:
        response = await client.post("/v1/labels", json=body)
    assert (response.status_code, ErrorBody.model_validate(response.json()).error.code) == (status, code)


async def test_a_list_of_labels_is_taken_item_by_item(tiny_model: EdgeModel) -> None:
    items = [{"request_id": "r1", "label": "card"}, {"request_id": "r1", "label": "loan"}, {"request_id": 7}]
    async with labelled_api(tiny_model) as client:
        response = await client.post("/v1/labels", json=items)
        lines = (await client.get("/metrics")).text.splitlines()
    first, *others = response.json()
    assert response.status_code == 200 and LabelReceiptBody.model_validate(first).taken
    assert [ErrorBody.model_validate(other).error.code for other in others] == ["label_differs", "bad_input"]
    for line in (
        'tandem_true_labels_total{model="tiny"} 1.0',
        'tandem_true_labels_wrong_total{model="tiny"} 0.0',
        'tandem_label_step_judged_total{model="tiny",threshold="0.9"} 1.0',
        'tandem_audits_chosen_total{model="tiny"} 0.0',
        'tandem_gate_threshold{model="tiny"} 0.9',
        'tandem_gate_alpha{model="tiny",risk="kept-error"} 0.05',
        'tandem_gate_policy_refused{model="tiny"} 0.0',
        "tandem_state_failing 0.0",
    ):
        assert line in lines


async def test_before_the_state_is_open_no_label_is_taken(api: HttpApi) -> None:
    async with client_of(api) as client:
        assert (await client.post("/v1/labels", json={"request_id": "r1", "label": "card"})).status_code == 503


async def test_the_openapi_page_needs_nothing_from_the_network(api: HttpApi) -> None:
    async with client_of(api) as client:
        document = (await client.get("/openapi.json")).json()
        page = (await client.get("/docs")).text
        script = (await client.get("/docs.js")).text
    assert set(document["paths"]) == {"/v1/infer", "/v1/labels", "/livez", "/readyz", "/metrics"}
    bodies = {"InferBody", "AnswerBody", "LabelBody", "LabelReceiptBody", "ErrorBody"}
    assert bodies <= set(document["components"]["schemas"])
    named = {text.split('"')[0] for text in json.dumps(document).split("#/components/schemas/")[1:]}
    assert named <= set(document["components"]["schemas"])
    assert "http://" not in page + script and "https://" not in page + script
