"""The demo as a whole, started as its user starts it: everything real, and everything in the report checked."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.arguments import parse_arguments
from deploy.demo.questions import read_questions
from tests.support.running_demo import RunningDemo, nothing_left, wait_for

TEST_FILE = Path(os.environ.get("TANDEM_DATASETS", "../shared/datasets")) / "banking77" / "test.csv"
CARD = parse_arguments([]).edge_bundle / "MODEL_CARD.md"
SAMPLING = 0.03
"""How far a part's accuracy may lie from the whole file's: three standard deviations of 800 questions, and some."""
NEARLY_ALL = 0.99
"""A machine that is busy with other things lets a call to the cloud time out now and then."""
Report = dict[str, Any]


@pytest.fixture(scope="module")
def own_traffic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Report, RunningDemo]]:
    with RunningDemo(tmp_path_factory.mktemp("own"), "--headless") as demo:
        yield demo.wait_for_report(), demo


@pytest.fixture(scope="module")
def banking77_part(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report on every fourth question of BANKING77's test file: all 77 intents, 770 of 3,080 questions."""
    if not TEST_FILE.is_file():
        pytest.skip("the BANKING77 files are not here; set TANDEM_DATASETS")
    folder = tmp_path_factory.mktemp("part")
    with (folder / "part.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "category"])
        writer.writerows((question.text, question.category) for question in read_questions(TEST_FILE)[::4])
    with RunningDemo(folder, "--headless", "--input", str(folder / "part.csv")) as demo:
        return demo.wait_for_report()


def check(report: Report, requests: int) -> None:
    """What holds of every undisturbed run."""
    assert report["requests"] == requests
    assert set(report["outcomes"]) == {"edge", "cloud", "degraded", "failed", "rejected"}
    assert sum(report["outcomes"].values()) == requests
    assert report["lost"] == 0
    assert report["restarts"] == []
    for name, values in report["passes"].items():
        assert values["requests"] == sum(values["outcomes"].values()) == requests, name
        assert values["devices_count_the_same"], name
    assert report["passes"]["edge_only"]["outcomes"]["edge"] == requests
    assert report["passes"]["cloud_only"]["outcomes"]["cloud"] >= requests * NEARLY_ALL
    counts = report["devices"].values()
    for device in counts:
        assert device["received"] == device["accepted"] + device["rejected"]
        assert device["accepted"] == sum(device[name] for name in ("edge", "cloud", "degraded", "failed"))
    assert report["offload_ratio"] == pytest.approx(
        sum(device["wanted"] for device in counts) / sum(device["accepted"] for device in counts), abs=1e-4
    )
    for route in ("edge", "cloud"):
        latency = report["latency_ms"][route]
        assert latency["n"] == report["outcomes"][route]
        assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    for kind in ("cloud_compute_ms", "cloud_cpu_ms"):
        assert 0 < report[kind]["spent"] < report[kind]["if_all_cloud"]


def figures_of_the_cards() -> tuple[float, float]:
    """The test part's accuracy of the full and of the edge model, as the model cards state them."""
    row = r"^\| accuracy, test part \(95% interval\) \| ([\d.]+)% \(.*?\) \| ([\d.]+)% \("
    found = re.search(row, CARD.read_text("utf-8"), re.MULTILINE)
    assert found is not None
    return float(found[1]) / 100, float(found[2]) / 100


def check_accuracy(report: Report, tolerance: float) -> None:
    full, edge = figures_of_the_cards()
    accuracy = report["accuracy"]
    assert accuracy["cloud_only"] == pytest.approx(full, abs=tolerance)
    assert accuracy["edge_only"] == pytest.approx(edge, abs=tolerance)
    assert min(full, edge) - tolerance < accuracy["cascade"] < max(full, edge) + tolerance


def test_the_report_on_our_own_traffic_adds_up(own_traffic: tuple[Report, RunningDemo]) -> None:
    report, _ = own_traffic
    check(report, len(read_questions(parse_arguments([]).input)))
    assert report["accuracy_questions"]["cascade"] + report["out_of_scope"]["questions"] == report["requests"]
    assert len(report["devices"]) == 3
    assert report["model_versions"] == {"banking77": {"edge": ["1.1.0"], "cloud": ["1.1.0"]}}


def test_most_questions_that_have_nothing_to_do_with_a_bank_are_not_kept(
    own_traffic: tuple[Report, RunningDemo],
) -> None:
    assert own_traffic[0]["out_of_scope"]["not_kept_by_device"] > 0.5


def test_a_headless_demo_says_what_it_found_and_leaves_no_process(own_traffic: tuple[Report, RunningDemo]) -> None:
    _, demo = own_traffic
    for word in ("Operator page: http://127.0.0.1:", "offload ratio", "cascade", "p99", "lost 0"):
        assert word in demo.output()
    assert nothing_left(demo)


def test_nobody_else_may_read_the_runs_secrets(own_traffic: tuple[Report, RunningDemo]) -> None:
    folder = own_traffic[1].folder
    secrets = [*folder.glob("*/broker.password"), *folder.glob("*/cloud.token"), folder / "cloud" / "credentials.json"]
    assert len(secrets) == 4 + 3 + 1
    for file in (*secrets, *(folder / "broker").iterdir()):
        assert file.stat().st_mode & 0o077 == 0, file.name


def test_the_report_on_banking77_agrees_with_the_model_cards(banking77_part: Report) -> None:
    check(banking77_part, 770)
    check_accuracy(banking77_part, SAMPLING)
    assert banking77_part["kept"]["error"] < 0.075


@pytest.mark.long
@pytest.mark.skipif(not TEST_FILE.is_file(), reason="the BANKING77 files are not here; set TANDEM_DATASETS")
def test_the_report_on_the_whole_banking77_test_file_agrees_with_the_model_cards(tmp_path: Path) -> None:
    with RunningDemo(tmp_path, "--headless", "--input", str(TEST_FILE)) as demo:
        report = demo.wait_for_report(within_s=600)
    check(report, 3080)
    check_accuracy(report, 0.005)
    assert report["kept"]["error"] < 0.06


def test_the_embedded_broker_carries_a_whole_demo_at_the_rate_that_was_set(tmp_path: Path) -> None:
    arguments = ("--headless", "--broker", "embedded", "--requests", "60", "--rate", "30")
    with RunningDemo(tmp_path, *arguments) as demo:
        demo.wait_until_started()
        for device in ("device-1", "device-2", "device-3"):
            assert demo.metric(device, "tandem_broker_connected") == 1.0
        wait_for(lambda: demo.metric("fleet", r'tandem_fleet_devices\{presence="online"\}') == 3.0, "their presence")
        report = demo.wait_for_report()
    check(report, 60)
    assert report["settings"]["broker"] == "embedded"
    for values in report["passes"].values():
        assert values["seconds"] == pytest.approx(59 / 30, abs=1.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--input", "nowhere.csv"), "nowhere.csv: cannot be read"),
        (("--edge-bundle", "nowhere"), "nowhere"),
        (("--requests", "0"), "0 is not between 1 and"),
        (("--rate", "-1"), "-1 is not between 0 and"),
        (("--broker", "kafka"), "invalid choice"),
    ],
)
def test_a_wrong_argument_is_said_and_nothing_is_started(tmp_path: Path, arguments: tuple[str, str], said: str) -> None:
    with RunningDemo(tmp_path, *arguments) as demo:
        assert demo.wait() in (1, 2)
        assert said in demo.output()
        assert "Traceback" not in demo.output()
        assert not (tmp_path / "runs").exists()
