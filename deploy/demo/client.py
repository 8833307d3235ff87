"""Customers: asks the devices one question after the other, at a rate and a concurrency that can be set."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import anyio
import httpx

from deploy.demo.results import ROUTE_OF_PASS, Pass, Result, parse_answer
from shared.types import Outcome

_ANSWER_WITHIN_S = 30.0


@dataclass(frozen=True)
class Device:
    """One device that can be asked: its id and its agent's address, as http://127.0.0.1:8070."""

    device_id: str
    url: str


@dataclass(frozen=True)
class Load:
    """How to ask: requests per second over all devices (0: as fast as they answer), and how many at once."""

    rate: float
    concurrency: int


class Customers:
    """Asks each question once, in turn at each device; keeps one connection pool a device."""

    def __init__(self, devices: Sequence[Device], load: Load, name: str) -> None:
        """`name` makes the request ids different from those of every other run."""
        self._devices = tuple(devices)
        self._load = load
        self._name = name
        limits = httpx.Limits(max_connections=load.concurrency, max_keepalive_connections=load.concurrency)
        self._clients = {
            device.device_id: httpx.AsyncClient(
                base_url=device.url, limits=limits, timeout=_ANSWER_WITHIN_S, trust_env=False
            )
            for device in self._devices
        }
        self._ids = itertools.count()

    async def ask_all(self, texts: Sequence[str], way: Pass, on_result: Callable[[Result], None]) -> None:
        """Ask all questions and return when the last is answered; `on_result` hears of each as it ends.

        At a rate, a question is asked when it is due, or as soon as fewer than `concurrency` are open.
        """
        turns = enumerate(texts)
        begin = time.monotonic()
        async with anyio.create_task_group() as group:
            for _ in range(min(self._load.concurrency, len(texts))):
                group.start_soon(self._work, turns, begin, way, on_result)

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.aclose()

    async def _work(
        self, turns: Iterator[tuple[int, str]], begin: float, way: Pass, on_result: Callable[[Result], None]
    ) -> None:
        for number, text in turns:
            if self._load.rate > 0:
                await anyio.sleep(max(0.0, begin + number / self._load.rate - time.monotonic()))
            on_result(await self._ask(number, text, way))

    async def _ask(self, number: int, text: str, way: Pass) -> Result:
        device = self._devices[number % len(self._devices)].device_id
        body = {
            "text": text,
            "route": ROUTE_OF_PASS[way],
            "request_id": f"{self._name}-{way.value}-{next(self._ids)}",
        }
        begin = time.perf_counter()
        try:
            answer = await self._clients[device].post("/v1/infer", json=body)
            latency_ms = (time.perf_counter() - begin) * 1000
            parsed = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            latency_ms = (time.perf_counter() - begin) * 1000
            return Result(number, device, Outcome.FAILED, latency_ms, reason=type(error).__name__, answered=False)
        return parse_answer(number, device, latency_ms, answer.status_code, parsed)
