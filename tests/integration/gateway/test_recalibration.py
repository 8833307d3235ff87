"""From devices' requests through a real gateway and its store to a new gate in the bundle."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc.aio
import pytest

from cloud_service.storage.case_reader import CaseReader, FieldQuestion
from cloud_service.storage.case_store import CaseStore
from cloud_service.storage.engine import open_engine
from cloud_service.storage.schema import migrate
from cloud_service.storage.transactions import open_durable_engine
from shared.bundle import Bundle, Tier, read_bundle, replace_gate
from shared.codec import encode_request, encode_true_labels
from shared.gate import Risk, parse_gate
from shared.types import EscalationRequest, Priority, Reason, TrueLabel
from tests.support.case_parts import NOW_S, audited, compared
from tests.support.gateway_parts import stub_of
from tests.support.gateway_process import GatewayProcess, run_cloud_service, write_cloud_config
from tests.support.tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.anyio
SHARE = 0.25


@pytest.fixture
def edge(tmp_path: Path) -> Bundle:
    """The tiny bundle, whose gate promises disagreement beside error."""
    write_tiny_bundle(tmp_path / "edge", threshold=0.6)
    bundle = read_bundle(tmp_path / "edge")
    assert bundle.gate is not None
    (error,) = bundle.gate.certificates
    steps = tuple(replace(step, alpha=alpha) for step, alpha in zip(error.steps, (0.1, 0.2), strict=True))
    both = (replace(error, steps=steps), replace(error, risk=Risk.KEPT_DISAGREEMENT, steps=steps))
    replace_gate(
        bundle, replace(bundle.gate, certificates=both, in_force={Risk.KEPT_ERROR: 0.1, Risk.KEPT_DISAGREEMENT: 0.1})
    )
    return read_bundle(tmp_path / "edge")


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'tandem-cloud' / 'fleet.sqlite'}"
    engine = open_engine(url, writes=True)
    migrate(engine)
    engine.dispose()
    return url


def digest_of(bundle: Bundle) -> str:
    assert bundle.gate is not None
    return bundle.gate.digest


def asked_by_a_device(gate_digest: str, requests: int) -> Iterator[EscalationRequest]:
    """The device is sure where it is right; under 0.6 it asks, and of what it keeps it has a quarter audited."""
    draw = random.Random(8)
    for number in range(requests):
        score = draw.random()
        text = draw.choice(("card", "cash", "loan"))
        label = text if draw.random() > 0.6 * (1 - score) ** 2 else draw.choice(("card", "cash", "loan"))
        kept = score >= 0.6
        if not kept or draw.random() < SHARE:
            yield EscalationRequest(
                f"r{number}", "tiny", text, 1, Priority.AUDIT if kept else Priority.INTERACTIVE, "1.0.0", label, score,
                Reason.CONFIDENT if kept else Reason.UNCERTAIN, score, gate_digest, kept,
            )  # fmt: skip


async def test_what_devices_asked_and_reported_becomes_a_new_gate_in_the_bundle(
    tmp_path: Path, edge: Bundle, url: str
) -> None:
    write_tiny_bundle(tmp_path / "full", tier=Tier.FULL)
    config = write_cloud_config(tmp_path, tmp_path / "full")
    told = list(asked_by_a_device(digest_of(edge), 3000))
    with GatewayProcess(config) as gateway:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
            stub, device = stub_of(channel), (("x-tandem-device", "press-1"),)
            for request in told:
                await stub.Infer(encode_request(request), timeout=10, metadata=device)
            labels = [
                TrueLabel(f"l{each.request_id}", "tiny", each.text, each.edge_label, each.edge_score, "1.0.0",
                          each.gate_score, each.gate_digest, each.kept, int(time.time() * 1000))
                for each in told
            ]  # fmt: skip
            for start in range(0, len(labels), 1000):
                await stub.ReportLabels(encode_true_labels(labels[start : start + 1000]), timeout=10, metadata=device)
        assert gateway.terminate() == 0

    command = ("gate", "recalibrate", str(edge.path), "--from-audits", "--config", str(config), "--since", "1d")
    options = ("--audit-share", str(SHARE), "--labels-are-random")
    ended = run_cloud_service(*command, *options, "--out", str(tmp_path / "gate.json"))
    assert ended.returncode == 0, ended.stderr
    assert "kept-disagreement" in ended.stdout and "kept-error" in ended.stdout and "(in force)" in ended.stdout
    assert read_bundle(edge.path).gate == edge.gate, "only --write changes the bundle"

    ended = run_cloud_service(*command, *options, "--write")
    assert ended.returncode == 0, ended.stderr
    gate = read_bundle(edge.path).gate
    assert gate == parse_gate((tmp_path / "gate.json").read_bytes())
    assert gate is not None and gate.threshold() is not None
    assert all(each.data.startswith("field, all rings, from ") for each in gate.certificates)
    assert (gate.score, gate.temperature) == (edge.gate.score, edge.gate.temperature) if edge.gate else False
    assert gate.full_model_digest == read_bundle(tmp_path / "full").identity.digest


def test_imported_labels_join_what_was_compared(tmp_path: Path, url: str) -> None:
    store = CaseStore(open_durable_engine(url))
    store.add_comparisons([compared("r1"), audited("r2")])
    store.close()
    file = tmp_path / "labels.csv"
    file.write_text("device_id,request_id,label\nd1,r1,loan\nd1,r2,card\nd1,r9,card\n", encoding="utf-8")
    ended = run_cloud_service("labels", "import", str(file), "--store", url)
    assert ended.stdout == "2 labels taken; 1 requests were not compared and are left out\n"
    reader = CaseReader(open_engine(url, writes=False))
    found = reader.labelled(FieldQuestion("tiny", "1.0.0", ("a" * 64,), 0, NOW_S + 9), "import")
    assert [(each.request_id, each.true_label, each.kept) for each in found] == [
        ("r1", "loan", False),
        ("r2", "card", True),
    ]
    reader.close()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ((), "say --audit-share"),
        (("--audit-share", "2"), "--audit-share 2: say a share"),
        (("--audit-share", "0.25"), "nothing is written, for the field does not certify what is in force"),
        (("--since", "yesterday"), "--since must be a time"),
        (("--audit-share", "0.25", "--labels-are-random"), "kept-error at 0.1: there are no calibration samples"),
    ],
)
def test_what_the_field_cannot_show_is_said_and_nothing_is_written(
    tmp_path: Path, edge: Bundle, url: str, options: tuple[str, ...], named: str
) -> None:
    store = CaseStore(open_durable_engine(url))
    just_now_s = int(time.time()) - 60
    store.add_comparisons([audited(f"r{each}", gate_digest=digest_of(edge), at_s=just_now_s) for each in range(20)])
    store.close()
    out = tmp_path / "gate.json"
    ended = run_cloud_service(
        "gate", "recalibrate", str(edge.path), "--from-audits", "--store", url, *options, "--out", str(out)
    )
    assert ended.returncode == 2
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("rows", "named"),
    [("device,request_id,label\n", "no column device_id"), ("device_id,request_id,label\nd1,,card\n", "line 2")],
)
def test_a_file_of_labels_that_lacks_something_is_refused(tmp_path: Path, url: str, rows: str, named: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(rows, encoding="utf-8")
    ended = run_cloud_service("labels", "import", str(file), "--store", url)
    assert ended.returncode == 2
    assert named in ended.stderr
