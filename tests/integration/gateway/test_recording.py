from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import grpc
import grpc.aio
import pytest

from cloud_service.config import GatewaySettings
from cloud_service.serving.model import FullModel
from cloud_service.storage.case_reader import CaseReader, FieldQuestion
from cloud_service.storage.engine import open_engine
from cloud_service.storage.schema import migrate
from shared.bundle import Tier
from shared.codec import encode_true_labels
from shared.pb import inference_pb2
from shared.types import TrueLabel
from tests.support.gateway_parts import channel_to, question, recording_into, refusal_of, running_gateway, stub_of
from tests.support.gateway_process import GatewayProcess, write_cloud_config
from tests.support.scripted_backend import ScriptedBackend
from tests.support.tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.anyio

SETTINGS = GatewaySettings(port=0)
DIGEST = "a" * 64
EDGE = inference_pb2.EdgeAnswer(
    label="loan", score=0.25, model_version="1.0.0", gate_score=0.5, gate_digest=DIGEST, kept=True
)
LABEL = TrueLabel("r1", "tiny", "loan", "card", 0.25, "1.0.0", 0.5, DIGEST, True, 1_800_000_000_000)
QUESTION = FieldQuestion("tiny", "1.0.0", (DIGEST,), 0, 1 << 40)


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'fleet.sqlite'}"
    engine = open_engine(url, writes=True)
    migrate(engine)
    engine.dispose()
    return url


def reader_of(url: str) -> CaseReader:
    return CaseReader(open_engine(url, writes=False))


async def test_what_devices_ask_is_compared_and_what_they_report_is_kept(url: str, model: FullModel) -> None:
    device = (("x-tandem-device", "press-1"),)
    async with (
        running_gateway(SETTINGS, model, recording=recording_into(url)) as gateway,
        channel_to(gateway) as channel,
    ):
        stub = stub_of(channel)
        audit = question("card", "r1", edge_answer=EDGE, priority=inference_pb2.PRIORITY_AUDIT, reason="confident")
        for _ in range(2):
            await stub.Infer(audit, timeout=5, metadata=device)
        await stub.Infer(question("card", "r2"), timeout=5, metadata=device)
        taken = await stub.ReportLabels(encode_true_labels([LABEL]), timeout=5, metadata=device)
    assert taken.taken == 1
    (found,) = reader_of(url).comparisons(QUESTION)
    assert (found.device_id, found.request_id, found.priority, found.kept) == ("press-1", "r1", "audit", True)
    assert (found.edge_label, found.full_label, found.gate_score) == ("loan", "cash", 0.5)
    (label,) = reader_of(url).labelled(QUESTION)
    assert (label.device_id, label.request_id, label.true_label) == ("press-1", "r1", "loan")


async def test_a_store_that_another_holds_delays_no_answer(
    url: str, model: FullModel, backend: ScriptedBackend, tmp_path: Path
) -> None:
    holder = sqlite3.connect(tmp_path / "fleet.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    async with (
        running_gateway(SETTINGS, model, recording=recording_into(url)) as gateway,
        channel_to(gateway) as channel,
    ):
        for _ in range(150):
            answer = await stub_of(channel).Infer(question("card", edge_answer=EDGE), timeout=5)
            assert answer.top[0].label == "cash"
        dropped = gateway.metrics.registry.get_sample_value("tandem_gateway_comparisons_dropped_total")
        holder.execute("ROLLBACK")
    holder.close()
    written = len(reader_of(url).comparisons(QUESTION))
    assert dropped is not None and dropped + written == 150


async def test_labels_are_unavailable_where_the_gateway_has_no_store(model: FullModel) -> None:
    async with running_gateway(SETTINGS, model) as gateway, channel_to(gateway) as channel:
        refusal = await refusal_of(stub_of(channel).ReportLabels(encode_true_labels([LABEL]), timeout=5))
    assert refusal.code() is grpc.StatusCode.UNAVAILABLE
    assert "keeps no true labels" in (refusal.details() or "")


async def test_labels_that_are_none_are_refused(url: str, model: FullModel) -> None:
    recording = recording_into(url)
    async with running_gateway(SETTINGS, model, recording=recording) as gateway, channel_to(gateway) as channel:
        message = encode_true_labels([LABEL])
        message.labels[0].request_id = ""
        refusal = await refusal_of(stub_of(channel).ReportLabels(message, timeout=5))
    assert refusal.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("keep_text", [False, True])
async def test_a_gateway_process_keeps_no_text_unless_it_is_told_to(tmp_path: Path, keep_text: bool) -> None:
    write_tiny_bundle(tmp_path / "tiny", tier=Tier.FULL)
    config = write_cloud_config(tmp_path, tmp_path / "tiny", privacy=f"keep_text = {str(keep_text).lower()}")
    store = tmp_path / "tandem-cloud" / "fleet.sqlite"
    engine = open_engine(f"sqlite:///{store}", writes=True)
    migrate(engine)
    engine.dispose()
    with GatewayProcess(config) as gateway:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
            stub = stub_of(channel)
            await stub.Infer(question("card 我的密码是 hunter2", edge_answer=EDGE), timeout=5)
            began_s = time.monotonic()
            while gateway.metric("tandem_gateway_comparisons_total") < 1:
                assert time.monotonic() < began_s + 20, "the comparison was not written"
            await stub.ReportLabels(encode_true_labels([LABEL]), timeout=5)
        assert gateway.terminate() == 0
    stored = b"".join(file.read_bytes() for file in store.parent.iterdir())
    assert b"tiny" in stored
    assert (b"hunter2" in stored) is keep_text
    assert ("我的密码是".encode() in stored) is keep_text


async def test_a_gateway_process_without_a_store_answers_and_takes_labels_once_there_is_one(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "tiny", tier=Tier.FULL)
    with GatewayProcess(write_cloud_config(tmp_path, tmp_path / "tiny")) as gateway:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
            stub = stub_of(channel)
            await stub.Infer(question("card", edge_answer=EDGE), timeout=5)
            refusal = await refusal_of(stub.ReportLabels(encode_true_labels([LABEL]), timeout=5))
            assert refusal.code() is grpc.StatusCode.UNAVAILABLE
            engine = open_engine(f"sqlite:///{tmp_path / 'tandem-cloud' / 'fleet.sqlite'}", writes=True)
            migrate(engine)
            engine.dispose()
            assert (await stub.ReportLabels(encode_true_labels([LABEL]), timeout=5)).taken == 1
        assert gateway.terminate() == 0
