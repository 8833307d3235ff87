"""The agent's own cost: over HTTP, in process, at start and in memory, against the bare ONNX Runtime call.

The kinds compared take turns in short blocks, so that a busy machine slows all alike and each kind still has
its own model's weights in the cache, as it has in use.
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import numpy as np
import onnxruntime
import psutil

from edge_agent.agent import open_pipeline
from edge_agent.answers import InferenceRequest
from edge_agent.config import AgentSettings, ModelSettings
from shared.bundle import Bundle, read_bundle
from shared.clock import SystemClock
from shared.text import TextEncoder
from shared.types import RequestedRoute
from tests.bench.report import Figure, finish
from tests.bench.timing import timed_ms
from tests.support.agent_process import ROOT, AgentProcess
from tests.support.tiny_bundle import write_tiny_bundle

DEMO_BUNDLE = ROOT / "deploy" / "demo" / "bundles" / "banking77-edge"
TEXT = "I ordered a new card two weeks ago and it still has not arrived, what should I do?"
ROUNDS, BLOCKS, CALLS, STARTS = 5, 10, 20, 5
_MODEL_ALONE = """
import sys, numpy, onnxruntime, psutil
before = psutil.Process().memory_info().rss
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
ids = numpy.array([[int(part) for part in sys.argv[2].split(",")]])
feeds = {"input_ids": ids, "attention_mask": numpy.ones_like(ids)}
session.run(None, {one.name: feeds[one.name] for one in session.get_inputs()})
print(psutil.Process().memory_info().rss - before)
"""


def bare_call(bundle: Bundle) -> Callable[[], object]:
    """The ONNX Runtime call alone, with its input prepared."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(bundle.graph_path), options, providers=["CPUExecutionProvider"])
    ids = TextEncoder.of(bundle).encode(TEXT)[np.newaxis, :]
    named = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    feeds = {one.name: named[one.name] for one in session.get_inputs()}
    return lambda: session.run(None, feeds)


def over_http(agent: AgentProcess) -> Callable[[], object]:
    """One request on a connection that stays open; the client's own work is a system call each way."""
    host, port = agent.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = json.dumps({"text": TEXT, "route": "edge"}).encode()
    head = f"POST /v1/infer HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body

    def call() -> None:
        connection.sendall(request)
        answer = connection.recv(65536)
        while not answer.endswith(b"}}"):
            answer += connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200"), answer

    return call


def median_ms(blocks: list[list[float]]) -> float:
    """The median over all blocks, without each block's first call, which finds the cache cold."""
    return statistics.median(value for block in blocks for value in block[1:])


def overhead_over_http_ms(config: Path, bare: Callable[[], object]) -> list[float]:
    with AgentProcess(config) as agent:
        asked = over_http(agent)
        rounds = []
        for _ in range(ROUNDS):
            whole, alone = [], []
            for _ in range(BLOCKS):
                whole.append([timed_ms(asked) for _ in range(CALLS)])
                alone.append([timed_ms(bare) for _ in range(CALLS)])
            rounds.append(median_ms(whole) - median_ms(alone))
        return rounds


async def overhead_in_process_ms(folder: Path, bare: Callable[[], object]) -> list[float]:
    settings = AgentSettings(device_id="bench", models=(ModelSettings(bundle=folder),))
    request = InferenceRequest(TEXT, route=RequestedRoute.EDGE)
    rounds = []
    async with open_pipeline(settings, SystemClock()) as pipeline:

        async def answered_ms() -> float:
            began_s = time.perf_counter()
            await pipeline.answer(request)
            return (time.perf_counter() - began_s) * 1e3

        for _ in range(ROUNDS):
            whole, alone = [], []
            for _ in range(BLOCKS):
                whole.append([await answered_ms() for _ in range(CALLS)])
                alone.append([timed_ms(bare) for _ in range(CALLS)])
            rounds.append(median_ms(whole) - median_ms(alone))
    return rounds


def starts(config: Path, bundle: Bundle) -> tuple[list[float], list[float]]:
    """Seconds from the process's start until it is ready, and its resident MB over the model's own."""
    ids = ",".join(str(token) for token in TextEncoder.of(bundle).encode(TEXT))
    command = [sys.executable, "-c", _MODEL_ALONE, str(bundle.graph_path), ids]
    ready_s, over_mb = [], []
    for _ in range(STARTS):
        model_bytes = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        with AgentProcess(config) as agent:
            asked = over_http(agent)
            for _ in range(BLOCKS * CALLS):
                asked()
            agent.get("/metrics")
            ready_s.append(agent.ready_after_s)
            over_mb.append((psutil.Process(agent.process.pid).memory_info().rss - model_bytes) / 1e6)
    return ready_s, over_mb


def main() -> None:
    with tempfile.TemporaryDirectory() as work:
        folder = DEMO_BUNDLE
        if not folder.is_dir():
            folder = Path(work) / "tiny"
            write_tiny_bundle(folder, max_tokens=64)
        config = Path(work) / "agent.toml"
        config.write_text(f'device_id = "bench"\n[[models]]\nbundle = "{folder}"\n[http]\nport = 0\n', encoding="utf-8")
        bundle = read_bundle(folder)
        bare = bare_call(bundle)
        alone = [median_ms([[timed_ms(bare) for _ in range(BLOCKS * CALLS)]]) for _ in range(ROUNDS)]
        ready_s, over_mb = starts(config, bundle)
        uvloop = {"use_uvloop": True}
        in_process = anyio.run(overhead_in_process_ms, folder, bare, backend_options=uvloop)
        figures = [
            Figure.of(f"bare ONNX Runtime call, {bundle.manifest.model}, p50", alone, "ms"),
            Figure.of("/v1/infer over HTTP less the bare call, p50", overhead_over_http_ms(config, bare), "ms", "≤ 2"),
            Figure.of("in process less the bare call, p50", in_process, "ms", "≤ 0.5"),
            Figure.of("ready after the process's start", ready_s, "s", "≤ 2"),
            Figure.of("resident memory over the model's own", over_mb, "MB", "≤ 150"),
        ]
    finish(figures, __doc__ or "")


if __name__ == "__main__":
    main()
