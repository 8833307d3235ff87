"""Closed-loop clients of a gateway, as a process of their own: `Load` in as JSON, `Round` out as JSON.

Run as `python -m tests.bench.gateway_clients LOAD`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import grpc.aio

from shared.pb import inference_pb2
from tests.support.gateway_parts import stub_of


@dataclass(frozen=True)
class Load:
    """`clients` ask `texts` in turn, each its next question when it has the last answer.

    They begin to count after `warm_up_s` and end after `seconds` more.
    """

    port: int
    model: str
    clients: int
    seconds: float
    texts: tuple[str, ...]
    warm_up_s: float = 0.5


@dataclass(frozen=True)
class Round:
    """What the clients saw: per answer the whole call's time and the cloud's own timings, all in ms."""

    seconds: float
    call_ms: list[float]
    queue_ms: list[float]
    batch_ms: list[float]
    batch_size: list[int]

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return len(self.call_ms) / self.seconds


def run_round(load: Load) -> Round:
    """Run the load in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.gateway_clients", json.dumps(asdict(load))]
    return Round(**json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=120).stdout))


async def drive(load: Load) -> Round:
    """Run the load here."""
    texts, numbers, run = itertools.cycle(load.texts), itertools.count(), secrets.token_hex(8)
    begin_s = time.perf_counter() + load.warm_up_s
    end_s = begin_s + load.seconds
    counted = Round(load.seconds, [], [], [], [])
    async with grpc.aio.insecure_channel(f"127.0.0.1:{load.port}") as channel:
        stub = stub_of(channel)

        async def client() -> None:
            while (asked_s := time.perf_counter()) < end_s:
                request = inference_pb2.InferRequest(
                    request_id=f"{run}-{next(numbers)}", model=load.model, text=next(texts), top_k=5
                )
                answer = await stub.Infer(request, timeout=10.0)
                answered_s = time.perf_counter()
                if begin_s <= answered_s < end_s:
                    _count(counted, (answered_s - asked_s) * 1e3, answer.timings)

        await asyncio.gather(*(client() for _ in range(load.clients)))
    return counted


def _count(counted: Round, call_ms: float, timings: inference_pb2.Timings) -> None:
    counted.call_ms.append(call_ms)
    counted.queue_ms.append(timings.queue_ms)
    counted.batch_ms.append(timings.batch_ms)
    counted.batch_size.append(timings.batch_size)


def main(arguments: Sequence[str]) -> None:
    """Read the load, print the round."""
    values = json.loads(arguments[0])
    print(json.dumps(asdict(asyncio.run(drive(Load(**{**values, "texts": tuple(values["texts"])}))))))


if __name__ == "__main__":
    main(sys.argv[1:])
