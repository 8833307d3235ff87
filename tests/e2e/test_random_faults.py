"""Random faults in agent, broker, cloud and fleet service: the sums on the page against what the clients saw.

Everything is a real process. A client knows how each of its requests ended, but for those that a kill cut off; the page
must say the same, and of a killed agent it may miss no more than what was counted after its last save.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared.bundle import Tier
from tests.support.agent_process import AgentProcess
from tests.support.fleet_process import CloudRole, wait_until, write_cloud_toml
from tests.support.gateway_process import GatewayProcess, write_cloud_config
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.retained_echo import RetainedEcho
from tests.support.tiny_bundle import write_tiny_bundle

SAVED_EVERY_S = 1.0
MOST_BETWEEN_SAVES_S = 2 * SAVED_EVERY_S + 1.0
"""A save that was due just before the kill, on a machine that is busy with other things."""

TEXTS = ("card", "cash", "card cash", "loan", "nothing known")
CALM = st.sampled_from(["ask", "ask", "restart_agent", "restart_broker", "restart_gateway", "kill_fleet", "echo"])
WILD = st.sampled_from(["ask", "ask", "kill_agent", "restart_broker", "restart_gateway", "kill_fleet", "echo"])
A_FEW = settings(
    max_examples=1, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
MANY = settings(A_FEW, max_examples=12)


class Truth:
    """What the clients know: answers by outcome, and at which time each came."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.wanted = 0
        self.cut_off = 0
        self.forgotten_at_most = 0
        self._answered_s: list[float] = []

    def answered(self, status: int, body: object) -> None:
        """One request was told how it ended."""
        assert isinstance(body, dict)
        self.outcomes[str(body["outcome"])] += 1
        gate = body.get("gate")
        self.wanted += gate is not None and gate["score"] < gate["threshold"]
        self._answered_s.append(time.monotonic())

    def killed(self) -> None:
        """What ended since the last save that can be relied on, nobody knows."""
        since_s = time.monotonic() - MOST_BETWEEN_SAVES_S
        self.forgotten_at_most += sum(each >= since_s for each in self._answered_s)


class House:
    """One device, one broker, the cloud's three processes; any of them can go and come back."""

    def __init__(self, folder: Path) -> None:
        self.truth = Truth()
        self._folder = folder
        self._broker = Mosquitto(folder / "broker")
        self._gateway_config = self._cloud_side(folder / "gateway")
        write_tiny_bundle(folder / "edge")
        self._agent_config = folder / "agent.toml"
        self._agent_config.write_text(
            f'device_id = "d1"\n[[models]]\nbundle = "edge"\n[http]\nport = 0\n'
            f'[cloud]\naddress = "127.0.0.1:{self._gateway_port}"\n[audit]\nshare = 0.5\n'
            f'[broker]\nhost = "127.0.0.1"\nport = {self._broker.port}\ntelemetry_interval_ms = 200\n',
            encoding="utf-8",
        )
        self._fleet_config = write_cloud_toml(folder, self._broker.port)
        self._broker.start()
        self._gateway = GatewayProcess(self._gateway_config).__enter__()
        self._fleet = CloudRole(self._fleet_config, "fleet").__enter__()
        self._web = CloudRole(self._fleet_config, "web").__enter__()
        self._agent = AgentProcess(self._agent_config).__enter__()
        self._echo = RetainedEcho(self._broker.port)

    def _cloud_side(self, folder: Path) -> Path:
        folder.mkdir()
        write_tiny_bundle(folder / "full", tier=Tier.FULL)
        self._gateway_port = free_port()
        config = write_cloud_config(folder, folder / "full")
        text = config.read_text(encoding="utf-8").replace("port = 0", f"port = {self._gateway_port}", 1)
        config.write_text(text, encoding="utf-8")
        return config

    def close(self) -> None:
        """End all, however far it came."""
        self._echo.close()
        for part in (self._agent, self._web, self._fleet, self._gateway, self._broker):
            part.kill()

    def act(self, step: str) -> None:
        """One step by its name."""
        steps: dict[str, Callable[[], None]] = {
            "ask": self.ask,
            "kill_agent": self.kill_agent,
            "restart_agent": self.restart_agent,
            "restart_broker": self.restart_broker,
            "restart_gateway": self.restart_gateway,
            "kill_fleet": self.kill_fleet,
            "echo": self.echo,
        }
        steps[step]()

    def ask(self, count: int = 24) -> None:
        """Several clients at once; one body is no request at all."""
        bodies: list[object] = [{"text": TEXTS[place % len(TEXTS)]} for place in range(count)]
        with ThreadPoolExecutor(4) as clients:
            list(clients.map(self._ask_one, [*bodies, {"no": "text"}]))

    def kill_agent(self) -> None:
        """In the middle of answering."""
        with ThreadPoolExecutor(4) as clients:
            asked = [clients.submit(self._ask_one, {"text": TEXTS[place % len(TEXTS)]}) for place in range(40)]
            asked[10].result()
            self._agent.kill()
            self.truth.killed()
        self._agent = AgentProcess(self._agent_config).__enter__()

    def restart_agent(self) -> None:
        """In order: nothing may be forgotten."""
        assert self._agent.terminate() == 0
        self._agent = AgentProcess(self._agent_config).__enter__()

    def restart_broker(self) -> None:
        """As kill -9: what it retained is lost."""
        self._broker.kill()
        self.ask(6)
        self._broker.start()

    def restart_gateway(self) -> None:
        """The cloud is away for some requests."""
        self._gateway.kill()
        self.ask(6)
        self._gateway = GatewayProcess(self._gateway_config).__enter__()

    def kill_fleet(self) -> None:
        """Who counts is away for some requests."""
        self._fleet.kill()
        self.ask(6)
        self._fleet = CloudRole(self._fleet_config, "fleet").__enter__()

    def echo(self) -> None:
        """Old messages come once more, out of order."""
        self._echo.repeat()

    def page(self) -> dict[str, int]:
        """The page's figures of all time, by their name."""
        html = self._web.get()
        found = re.findall(r'data-figure="all_([a-z_]+)" data-value="(-?\d+)"', html)
        wanted = re.search(r'data-figure="offload_all_time_text">wanted ([\d,]+) of', html)
        told = {"wanted": int(wanted[1].replace(",", ""))} if wanted else {}
        return told | {name: int(value) for name, value in found}

    def settled_page(self) -> dict[str, int]:
        """The page, once it has stood still for a while with nothing under way."""
        seen: list[dict[str, int]] = []

        def stands_still() -> bool:
            time.sleep(0.7)
            seen.append(self.page())
            return len(seen) > 3 and seen[-1] == seen[-2] == seen[-3] and self._is_all_told(seen[-1])

        wait_until(stands_still, f"a page that agrees; it says {seen[-1:]}, the clients {self.truth.outcomes}")
        return seen[-1]

    def _is_all_told(self, page: dict[str, int]) -> bool:
        lacking = sum(self.truth.outcomes.values()) - (page.get("received", 0) - page.get("in_flight", 0))
        return lacking <= self.truth.forgotten_at_most

    def _ask_one(self, body: object) -> None:
        try:
            self.truth.answered(*self._agent.post(body))
        except OSError:
            self.truth.cut_off += 1


def played(steps: list[str]) -> tuple[Truth, dict[str, int]]:
    """What the clients know and what the page says, after `steps`."""
    with TemporaryDirectory() as folder:
        house = House(Path(folder))
        try:
            house.ask()
            for step in steps:
                house.act(step)
            house.ask()
            return house.truth, house.settled_page()
        finally:
            house.close()


def adds_up(page: dict[str, int]) -> bool:
    """The identities that every page keeps."""
    ended = page["edge"] + page["cloud"] + page["degraded"] + page["failed"]
    calls = page["served"] + page["call_failed"] + page["timed_out"]
    return (
        page["received"] == page["accepted"] + page["rejected"]
        and page["accepted"] == ended + page["in_flight"]
        and page["attempted"] == calls + page["calls_in_flight"]
        and page["audits_chosen"]
        == page["audits_agreed"] + page["audits_disagreed"] + page["audits_failed"] + page["audits_in_flight"]
    )


def says_what_clients_saw(steps: list[str]) -> None:
    """No agent was killed: every figure is exact."""
    truth, page = played(steps)
    assert adds_up(page), page
    assert truth.cut_off == 0
    told = {outcome: page[outcome] for outcome in ("edge", "cloud", "degraded", "failed", "rejected")}
    assert told == {outcome: truth.outcomes[outcome] for outcome in told}
    assert page["in_flight"] == 0
    assert page["wanted"] == truth.wanted


def misses_only_what_nobody_knows(steps: list[str]) -> None:
    """Agents were killed: nothing is counted that did not happen, and what is missing ended after the last save."""
    truth, page = played(steps)
    assert adds_up(page), page
    known, sent = sum(truth.outcomes.values()), sum(truth.outcomes.values()) + truth.cut_off
    ended = page["received"] - page["in_flight"]
    assert known - truth.forgotten_at_most <= ended <= sent
    assert page["received"] <= sent


@A_FEW
@given(st.lists(CALM, min_size=4, max_size=6))
def test_the_page_says_what_clients_saw_whatever_was_restarted(steps: list[str]) -> None:
    says_what_clients_saw(["restart_broker", "kill_fleet", "restart_agent", "echo", *steps])


@A_FEW
@given(st.lists(WILD, min_size=2, max_size=4))
def test_the_page_misses_only_what_nobody_knows_of_a_killed_agent(steps: list[str]) -> None:
    misses_only_what_nobody_knows(["kill_agent", *steps])


@pytest.mark.long
@MANY
@given(st.lists(CALM, min_size=6, max_size=14))
def test_the_page_says_what_clients_saw_after_many_faults(steps: list[str]) -> None:
    says_what_clients_saw(steps)


@pytest.mark.long
@MANY
@given(st.lists(WILD, min_size=6, max_size=14))
def test_the_page_misses_only_what_nobody_knows_after_many_kills(steps: list[str]) -> None:
    misses_only_what_nobody_knows(steps)
