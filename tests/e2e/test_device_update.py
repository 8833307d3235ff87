"""A new release from `cloud-service publish` to a device that answers with it, all in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.support.agent_process import AgentProcess
from tests.support.fleet_process import ROOT, CloudRole, wait_until
from tests.support.mosquitto import Mosquitto
from tests.support.tiny_bundle import write_tiny_bundle


def cloud(config: Path, *arguments: str) -> str:
    """What one `cloud-service` command prints."""
    command = [sys.executable, "-m", "cloud_service", *arguments, "--config", str(config)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write_configs(folder: Path, port: int, *, trial_seconds: float = 1.0) -> tuple[Path, Path]:
    config, agent = folder / "cloud.toml", folder / "agent.toml"
    config.write_text(
        f'data_dir = "cloud"\n[broker]\nport = {port}\n[delivery]\nport = 0\nmetrics_port = 0\n'
        "[rollout]\ninterval_ms = 100\nmetrics_port = 0\n",
        encoding="utf-8",
    )
    agent.write_text(
        f'device_id = "d1"\nmodels = [{{ bundle = "v1" }}]\n[http]\nport = 0\n[broker]\nhost = "127.0.0.1"\n'
        f'port = {port}\n[update]\nroot_file = "cloud/keys/root.json"\nhint_spread_ms = 0\n',
        encoding="utf-8",
    )
    (folder / "plan.toml").write_text(
        f"[trial]\nrequests = 20\nseconds = {trial_seconds}\nmax_offload_rise = 1.0\nmax_latency_ratio = 100.0\n",
        encoding="utf-8",
    )
    return config, agent


def version(agent: AgentProcess) -> str:
    """Which release answers."""
    status, body = agent.post({"text": "alpha beta"})
    assert status == 200
    return str(body["model"]["version"])


@contextmanager
def asked_all_the_time(agent: AgentProcess, text: str = "alpha beta") -> Iterator[Counter[str]]:
    """Counts answers by the version that gave them, and by status those that were none."""
    answers: Counter[str] = Counter()
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(0.005):
            status, body = agent.post({"text": text})
            answers[body["model"]["version"] if status == 200 else f"status {status}"] += 1

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        ended.set()
        thread.join()


def start_rollout(config: Path, plan: Path, *options: str) -> str:
    start = ("rollout", "start", "tiny@2.0.0", "--rings", "default", "--min-devices", "1", "--soak", "1s")
    started = cloud(config, *start, "--from", "1.0.0", "--plan", str(plan), "--json", *options)
    return str(json.loads(started)["id"])


def state_of(config: Path, rollout_id: str) -> str:
    return str(json.loads(cloud(config, "rollout", "status", rollout_id, "--json"))["state"])


def test_a_release_reaches_a_device_under_traffic_and_stays_after_a_restart(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker:
        config, agent_file = write_configs(tmp_path, broker.port)
        for number, name in (("1.0.0", "v1"), ("2.0.0", "v2")):
            write_tiny_bundle(tmp_path / name, version=number)
        cloud(config, "keys", "init", "--threshold", "1", "--keys", "1")
        for name in ("v1", "v2"):
            cloud(config, "publish", str(tmp_path / name))
        with CloudRole(config, "delivery"), CloudRole(config, "rollout"):
            with AgentProcess(agent_file) as agent:
                with asked_all_the_time(agent) as answers:
                    wait_until(lambda: answers["1.0.0"] > 0, "the bundle that came with the device answers")
                    rollout_id = start_rollout(config, tmp_path / "plan.toml")
                    wait_until(lambda: answers["2.0.0"] > 50, "the new release answers")
                    wait_until(lambda: state_of(config, rollout_id) == "done", "the rollout ends")
                assert set(answers) == {"1.0.0", "2.0.0"}
                agent.terminate()
            with AgentProcess(agent_file) as agent:
                assert version(agent) == "2.0.0"


def test_a_release_that_begins_at_one_site_reaches_its_devices_and_the_others_when_it_is_promoted(
    tmp_path: Path,
) -> None:
    def devices_of_stages() -> list[int]:
        status = json.loads(cloud(config, "rollout", "status", rollout_id, "--json"))
        return [stage["figures"]["eligible"] for stage in status["stages"]]

    with Mosquitto(tmp_path / "broker") as broker:
        config, written = write_configs(tmp_path, broker.port)
        plan = tmp_path / "plan.toml"
        plan.write_text("[trial]\nrequests = 0\nseconds = 0.0\n", encoding="utf-8")
        files = {}
        for site in ("berlin", "rome"):
            files[site] = tmp_path / f"{site}.toml"
            of_its_own = f'device_labels = {{ site = "{site}" }}\nstate = {{ data_dir = "{site}" }}\n'
            text = of_its_own + written.read_text(encoding="utf-8").replace('"d1"', f'"{site}-1"')
            files[site].write_text(text, encoding="utf-8")
        for number, name in (("1.0.0", "v1"), ("2.0.0", "v2")):
            write_tiny_bundle(tmp_path / name, version=number)
        cloud(config, "keys", "init", "--threshold", "1", "--keys", "1")
        for name in ("v1", "v2"):
            cloud(config, "publish", str(tmp_path / name))
        with (
            CloudRole(config, "delivery"),
            CloudRole(config, "rollout"),
            AgentProcess(files["berlin"]) as berlin,
            AgentProcess(files["rome"]) as rome,
        ):
            rollout_id = start_rollout(config, plan, "--labels", "site:berlin", "--soak", "1h")
            wait_until(lambda: state_of(config, rollout_id) == "soaking", "the devices of the site have it")
            wait_until(lambda: devices_of_stages() == [1, 2], "one of two devices is meant")
            assert (version(berlin), version(rome)) == ("2.0.0", "1.0.0")
            cloud(config, "rollout", "promote", rollout_id)
            wait_until(lambda: version(rome) == "2.0.0", "the other site has it")
            assert version(berlin) == "2.0.0"


def test_a_pinned_device_installs_its_own_release_and_unpinned_goes_back_to_its_rings(tmp_path: Path) -> None:
    def pins() -> list[dict[str, object]]:
        return [json.loads(line) for line in cloud(config, "rollout", "pins", "--json").splitlines()]

    def answers_and_says(agent: AgentProcess, wanted: str) -> bool:
        return version(agent) == wanted and pins()[0]["runs"] == wanted

    with Mosquitto(tmp_path / "broker") as broker:
        config, agent_file = write_configs(tmp_path, broker.port)
        plan = tmp_path / "plan.toml"
        plan.write_text("[trial]\nrequests = 0\nseconds = 0.0\n", encoding="utf-8")
        for number, name in (("1.0.0", "v1"), ("2.0.0", "v2"), ("3.0.0", "v3")):
            write_tiny_bundle(tmp_path / name, version=number)
        cloud(config, "keys", "init", "--threshold", "1", "--keys", "1")
        for name in ("v1", "v2", "v3"):
            cloud(config, "publish", str(tmp_path / name))
        with CloudRole(config, "delivery"), CloudRole(config, "rollout"), AgentProcess(agent_file) as agent:
            rollout_id = start_rollout(config, plan)
            wait_until(lambda: state_of(config, rollout_id) == "done", "the ring has the second release")
            assert version(agent) == "2.0.0"
            for wanted in ("3.0.0", "1.0.0", "3.0.0"):
                cloud(config, "rollout", "pin", "d1", f"tiny@{wanted}", "--without-trial")
                wait_until(partial(answers_and_says, agent, wanted), f"the pinned device answers with {wanted}")
            cloud(config, "rollout", "unpin", "d1", "tiny")
            wait_until(lambda: version(agent) == "2.0.0", "it goes back to its ring's release")
            assert pins() == []
