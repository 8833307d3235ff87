"""The demo while parts of it are killed: answers degrade, none is lost, and all find each other again."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.running_demo import RunningDemo, nothing_left, wait_for

DEVICES = ("device-1", "device-2", "device-3")
ONLINE = r'tandem_fleet_devices\{presence="online"\}'
TELEMETRY = r'tandem_fleet_messages_total\{kind="telemetry"\}'


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDemo]:
    """An interactive demo whose customers go on asking, slowly."""
    arguments = ("--rate", "0", "--requests", "30", "--restart-after", "1")
    with RunningDemo(tmp_path_factory.mktemp("living"), *arguments) as demo:
        demo.wait_for_text("keep asking")
        yield demo
        assert demo.interrupt() == 0
        assert nothing_left(demo)


def test_an_interactive_demo_has_written_its_report_and_shows_the_operator_page(living: RunningDemo) -> None:
    address = re.search(r"Operator page: (\S+)", living.output())
    assert address is not None
    assert httpx.get(address[1], timeout=10, trust_env=False, follow_redirects=True).status_code == 200
    assert living.report_file.is_file()


def test_a_cloud_killed_under_load_degrades_answers_loses_none_and_is_found_again(tmp_path: Path) -> None:
    arguments = ("--headless", "--rate", "60", "--requests", "480", "--restart-after", "1")
    with RunningDemo(tmp_path, *arguments) as demo:
        demo.wait_until_started()
        wait_for(lambda: demo.outcomes().get("cloud", 0) > 50, "answers from the cloud")
        demo.kill("cloud")
        wait_for(lambda: demo.outcomes()["degraded"] > 0, "degraded answers")
        report = demo.wait_for_report(within_s=180)
    assert report["lost"] == 0
    assert report["requests"] == sum(report["outcomes"].values()) == 480
    assert report["outcomes"]["failed"] == report["outcomes"]["rejected"] == 0
    assert report["outcomes"]["degraded"] > 0
    assert [restart["process"] for restart in report["restarts"]] == ["cloud"]
    assert report["passes"]["cascade"]["devices_count_the_same"]
    assert report["passes"]["cloud_only"]["outcomes"]["cloud"] > 470


def test_a_killed_gateway_alone_is_started_again_by_the_cloud_service(living: RunningDemo) -> None:
    before = living.role("gateway").pid
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: living.outcomes()["degraded"] > 0, "degraded answers")
    wait_for(lambda: living.metric("gateway", "tandem_gateway_requests_total") is not None, "the gateway")
    answered = living.outcomes()["cloud"]
    wait_for(lambda: living.outcomes()["cloud"] > answered + 2, "answers from the cloud")
    assert living.role("gateway").pid != before
    assert living.outcomes()["failed"] == 0


def test_a_killed_broker_changes_no_answer_and_is_found_again(living: RunningDemo) -> None:
    before, degraded = living.parts("broker")[0].pid, living.outcomes()["degraded"]
    living.kill("broker")
    wait_for(lambda: living.metric("device-1", "tandem_broker_connected") == 0.0, "the agent to notice")
    wait_for(lambda: all(living.metric(d, "tandem_broker_connected") == 1.0 for d in DEVICES), "the agents' return")
    wait_for(lambda: living.metric("fleet", ONLINE) == 3.0, "the fleet service's return")
    assert living.parts("broker")[0].pid != before
    assert living.outcomes()["degraded"] == degraded
    assert living.outcomes()["failed"] == 0


def test_a_killed_fleet_service_changes_no_answer_and_hears_the_devices_again(living: RunningDemo) -> None:
    before, degraded = living.role("fleet").pid, living.outcomes()["degraded"]
    os.kill(before, signal.SIGKILL)
    answered = sum(living.outcomes().values())
    wait_for(lambda: sum(living.outcomes().values()) > answered, "more answers")
    wait_for(lambda: living.metric("fleet", ONLINE) == 3.0, "the devices' presence")
    wait_for(lambda: (living.metric("fleet", TELEMETRY) or 0) > 3, "telemetry")
    assert living.role("fleet").pid != before
    assert living.outcomes()["degraded"] == degraded


def test_ctrl_c_before_there_is_a_report_stops_everything_and_is_no_success(tmp_path: Path) -> None:
    with RunningDemo(tmp_path, "--headless", "--rate", "50", "--requests", "100000") as demo:
        demo.wait_until_started()
        wait_for(lambda: sum(demo.outcomes().values()) > 10, "answers")
        assert demo.interrupt() == 130
        assert nothing_left(demo)
        assert "Traceback" not in demo.output()


@pytest.mark.parametrize("after_s", [0.0, 0.7, 1.5])
def test_ctrl_c_while_it_starts_stops_everything(tmp_path: Path, after_s: float) -> None:
    with RunningDemo(tmp_path, "--headless") as demo:
        assert demo.folder.is_dir()
        time.sleep(after_s)
        assert demo.interrupt() == 130
        assert nothing_left(demo)
        assert "Traceback" not in demo.output()


@pytest.mark.long
def test_a_terminal_that_is_closed_stops_everything(tmp_path: Path) -> None:
    with RunningDemo(tmp_path, "--rate", "50", "--requests", "100000") as demo:
        demo.wait_until_started()
        demo.process.send_signal(signal.SIGHUP)
        demo.wait()
        assert nothing_left(demo)


@pytest.mark.long
def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    with RunningDemo(tmp_path, "--rate", "50", "--requests", "100000") as demo:
        demo.wait_until_started()
        demo.process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        begin = time.monotonic()
        demo.interrupt()
        assert time.monotonic() - begin < 5
        assert nothing_left(demo)


def test_a_killed_demo_leaves_no_process_behind(tmp_path: Path) -> None:
    with RunningDemo(tmp_path, "--rate", "50", "--requests", "100000") as demo:
        demo.wait_until_started()
        assert len(demo.parts()) >= 8
        demo.process.kill()
        demo.wait()
        assert nothing_left(demo, within_s=15)


def test_on_a_terminal_the_summary_is_live_and_ctrl_c_is_a_key(tmp_path: Path) -> None:
    with RunningDemo(tmp_path, "--rate", "20", terminal=True) as demo:
        wait_for(lambda: demo.output().count("offload ratio") > 8, "a panel that is renewed", 60)
        assert demo.interrupt() == 0
        for word in ("of 334", "outcomes", "accuracy", "cloud compute", "p95"):
            assert word in demo.output()
        assert nothing_left(demo)
