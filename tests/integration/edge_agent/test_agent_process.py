from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import pytest

from tests.support.agent_process import AgentProcess, run_edge_agent
from tests.support.fake_gateway import FakeGateway, answer_with, sleep_for

WriteConfig = Callable[..., Path]
T = TypeVar("T")


def cloud_section(gateway: FakeGateway, more: str = "") -> str:
    return f'[cloud]\naddress = "{gateway.address}"\nbreaker_open_ms = 100\nbreaker_longest_ms = 500\n{more}'


def outcome_of(agent: AgentProcess, text: str) -> str:
    status, answer = agent.post({"text": text})
    assert status == 200 and isinstance(answer, dict), answer
    return str(answer["outcome"])


def outcomes_until(agent: AgentProcess, wanted: str, patience_s: float = 15.0) -> set[str]:
    """The outcomes seen before `wanted`."""
    until_s = time.monotonic() + patience_s
    seen: set[str] = set()
    while (outcome := outcome_of(agent, "card cash")) != wanted:
        assert time.monotonic() < until_s, seen
        seen.add(outcome)
        time.sleep(0.05)
    return seen


def test_an_agent_answers_tells_its_counts_and_stops_on_sigterm(write_config: WriteConfig) -> None:
    with AgentProcess(write_config()) as agent:
        assert agent.get("/readyz") == "ready\n"
        assert outcome_of(agent, "card") == "edge"
        assert outcome_of(agent, "card cash") == "degraded"
        assert agent.metric('tandem_requests_total{model="tiny",outcome="edge"}') == 1
        assert agent.terminate() == 0
    assert "stopped" in agent.log[-1]


async def in_thread(function: Callable[..., T], *arguments: object) -> T:
    return await anyio.to_thread.run_sync(lambda: function(*arguments))


@pytest.mark.anyio
async def test_a_killed_cloud_degrades_answers_and_is_found_again(write_config: WriteConfig) -> None:
    async with FakeGateway(answer_with("loan")) as gateway:
        with AgentProcess(write_config(cloud_section(gateway))) as agent:
            assert await in_thread(outcome_of, agent, "card cash") == "cloud"
            await gateway.stop()
            assert await in_thread(outcomes_until, agent, "degraded") == set()
            for _ in range(5):
                assert await in_thread(outcome_of, agent, "card cash") == "degraded"
            assert await in_thread(agent.get, "/readyz") == "ready\n"
            await gateway.start()
            assert await in_thread(outcomes_until, agent, "cloud") <= {"degraded"}
            failed = await in_thread(agent.metric, 'tandem_requests_total{model="tiny",outcome="failed"}')
            assert failed == 0


@pytest.mark.anyio
async def test_sigterm_lets_requests_under_way_end(write_config: WriteConfig) -> None:
    async with FakeGateway(sleep_for(0.5, answer_with("loan"))) as gateway:
        with AgentProcess(write_config(cloud_section(gateway))) as agent:
            answers: list[str] = []
            async with anyio.create_task_group() as tasks:

                async def ask() -> None:
                    answers.append(await in_thread(outcome_of, agent, "card cash"))

                tasks.start_soon(ask)
                await gateway.asked.wait()
                assert await in_thread(agent.terminate) == 0
            assert answers == ["cloud"]


@pytest.mark.anyio
async def test_a_client_that_hangs_up_cancels_its_escalation(write_config: WriteConfig) -> None:
    async with FakeGateway(sleep_for(5.0, answer_with("loan"))) as gateway:
        with AgentProcess(
            write_config(cloud_section(gateway, "timeout_ms = 4000\n"), http="port = 0\ndefault_deadline_ms = 5000")
        ) as agent:
            host, port = agent.url.removeprefix("http://").split(":")
            body = b'{"text":"card cash"}'
            with socket.create_connection((host, int(port))) as connection:
                head = f"POST /v1/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)
                with anyio.fail_after(5.0):
                    await gateway.asked.wait()
            with anyio.fail_after(3.0):
                await gateway.hung_up.wait()
            reasons = await in_thread(agent.metric, 'tandem_request_reasons_total{model="tiny",reason="cancelled"}')
            assert reasons == 1


@pytest.mark.anyio
async def test_a_full_agent_says_429_and_counts_what_it_refused(write_config: WriteConfig) -> None:
    async with FakeGateway(sleep_for(0.5, answer_with("loan"))) as gateway:
        config = write_config(cloud_section(gateway), http="port = 0\nmax_in_flight = 4")
        with AgentProcess(config) as agent, ThreadPoolExecutor(12) as callers:

            def crowd() -> list[int]:
                return list(callers.map(lambda _: agent.post({"text": "card cash"})[0], range(12)))

            statuses = await in_thread(crowd)
            assert set(statuses) == {200, 429}
            rejected = await in_thread(agent.metric, 'tandem_requests_total{model="tiny",outcome="rejected"}')
            assert rejected == statuses.count(429)


def test_garbage_on_the_socket_harms_nobody_else(write_config: WriteConfig) -> None:
    with AgentProcess(write_config(http="port = 0\nmax_body_bytes = 2048")) as agent:
        host, port = agent.url.removeprefix("http://").split(":")
        for garbage in (
            b"\x00\x01\x02\r\n\r\n",
            b"POST /v1/infer HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"G" * 100_000,
        ):
            with socket.create_connection((host, int(port)), timeout=2.0) as connection:
                connection.sendall(garbage)
        status, answer = agent.post({"text": "x" * 5000})
        assert status == 413 and isinstance(answer, dict) and answer["error"]["code"] == "too_large"
        assert outcome_of(agent, "card") == "edge"


def test_many_callers_at_once_each_get_their_own_answer(write_config: WriteConfig) -> None:
    labels = ["card", "cash", "loan"]
    with AgentProcess(write_config()) as agent, ThreadPoolExecutor(8) as callers:

        def ask(number: int) -> bool:
            _, answer = agent.post({"text": labels[number % 3], "request_id": f"r{number}"})
            return isinstance(answer, dict) and (answer["label"], answer["request_id"]) == (
                labels[number % 3],
                f"r{number}",
            )

        assert all(callers.map(ask, range(120)))
        assert agent.metric('tandem_requests_received_total{model="tiny"}') == 120


@pytest.mark.parametrize(
    ("http", "more", "said"),
    [
        ("prot = 1", "", "http.prot: unknown key; did you mean port?"),
        ('host = "0.0.0.0"', "", "http.host would listen on 0.0.0.0"),
        ("port = 0", '[cloud]\naddress = "127.0.0.1:1"\ntoken_file = "none"\n', "cloud.token_file"),
        ("port = 0", '[broker]\nhost = "127.0.0.1"\npassword_file = "none"\n', "broker.password_file"),
    ],
)
def test_a_wrong_configuration_stops_the_start_with_one_line(
    write_config: WriteConfig, http: str, more: str, said: str
) -> None:
    run = run_edge_agent("run", "--config", str(write_config(more, http=http)))
    told = [line for line in run.stderr.splitlines() if line.startswith("edge-agent: ")]
    assert run.returncode == 2 and len(told) == 1 and said in told[0], run.stderr
    assert "Traceback" not in run.stderr


def test_a_damaged_bundle_or_a_taken_port_stops_the_start(write_config: WriteConfig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        run = run_edge_agent("run", "--config", str(write_config(http=f"port = {taken.getsockname()[1]}")))
    assert run.returncode == 2 and "is another agent running?" in run.stderr
    config = write_config()
    (config.parent / "tiny" / "model.onnx").unlink()
    run = run_edge_agent("run", "--config", str(config))
    assert run.returncode == 2 and "model.onnx: is named by the manifest and not there" in run.stderr
    assert "Traceback" not in run.stderr


def test_infer_answers_here_from_a_bundle_and_from_a_running_agent(write_config: WriteConfig) -> None:
    config = write_config()
    here = json.loads(run_edge_agent("infer", "card", "--config", str(config)).stdout)
    from_bundle = json.loads(run_edge_agent("infer", "card", "--bundle", str(config.parent / "tiny")).stdout)
    with AgentProcess(config) as agent:
        asked = json.loads(run_edge_agent("infer", "card", "--url", agent.url).stdout)
        refused = run_edge_agent("infer", " ", "--url", agent.url)
    assert here["top"] == from_bundle["top"] == asked["top"]
    assert refused.returncode == 1 and json.loads(refused.stdout)["error"]["code"] == "bad_input"
    nobody = run_edge_agent("infer", "card", "--url", agent.url)
    assert nobody.returncode == 2 and "no agent answers there" in nobody.stderr


@pytest.mark.anyio
async def test_doctor_finds_the_cloud_its_credential_and_its_models(write_config: WriteConfig, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("wrong")

    async def report(gateway: FakeGateway) -> tuple[int, dict[str, dict[str, str]]]:
        config = write_config(cloud_section(gateway, 'token_file = "token"\n'))
        run = await in_thread(run_edge_agent, "doctor", "--json", "--config", str(config))
        return run.returncode, {check["name"]: check for check in json.loads(run.stdout)}

    async with FakeGateway(token="right") as gateway:
        code, checks = await report(gateway)
        assert code == 1 and "UNAUTHENTICATED" in checks["cloud"]["finding"] and "token" in checks["cloud"]["advice"]
        (tmp_path / "token").write_text("right")
        code, checks = await report(gateway)
        assert code == 0 and checks["cloud"]["status"] == "OK"
    async with FakeGateway(token="right", models=["other"]) as gateway:
        code, checks = await report(gateway)
        assert code == 1 and "does not serve tiny" in checks["cloud"]["finding"]


def test_a_second_sigterm_does_not_wait_for_the_drain(write_config: WriteConfig) -> None:
    with AgentProcess(write_config(http="port = 0\ndrain_ms = 60000")) as agent:
        host, port = agent.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"POST /v1/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
            time.sleep(0.2)
            threading.Timer(1.0, agent.process.terminate).start()
            began_s = time.monotonic()
            assert agent.terminate() == 0
            assert time.monotonic() - began_s < 8.0
