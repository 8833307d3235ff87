"""A host over a test's pipeline, and bundles to swap."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio
import onnx

from edge_agent.gate_control import GateControl
from edge_agent.lanes import Lane
from edge_agent.loading import load_model
from edge_agent.pipeline import Pipeline
from edge_agent.state.answers import UnsavedAnswers
from edge_agent.update.host import PipelineHost
from edge_agent.update.proving import ProvingBounds
from shared.bundle import read_bundle
from shared.clock import Clock, SystemClock
from shared.update.report import InstalledRelease
from tests.support.edge_parts import open_test_pipeline
from tests.support.fake_cloud import FakeCloud
from tests.support.tiny_bundle import write_tiny_bundle

PATIENT = ProvingBounds(latency_ratio=100.0, memory_ratio=100.0)
"""For tests that are not about speed or memory, on machines that have other work."""


def release_at(folder: Path, number: int = 1, variant: str = "") -> InstalledRelease:
    """What the bundle in `folder` is installed as."""
    bundle = read_bundle(folder)
    gate = bundle.gate.digest if bundle.gate else ""
    return InstalledRelease(bundle.manifest.version, bundle.manifest.model_digest, gate, number, variant)


def write_release(
    folder: Path, version: str, threshold: float | None = 0.9, graph: onnx.ModelProto | None = None
) -> InstalledRelease:
    """A bundle of the model "tiny" to swap to."""
    write_tiny_bundle(folder, version=version, threshold=threshold, graph=graph)
    return release_at(folder)


async def _follow_nothing(lane: Lane) -> None:
    return None


@contextmanager
def open_test_host(
    folder: Path,
    *,
    cloud: FakeCloud | None = None,
    memory: UnsavedAnswers | None = None,
    free_bytes: Callable[[], int | None] = lambda: None,
    policies: Callable[[str], Sequence[bytes]] = lambda model: (),
    follow: Callable[[Lane], Awaitable[None]] | None = None,
    bounds: ProvingBounds = PATIENT,
    audit_share: float = 0.0,
    uniform: Callable[[], float] = lambda: 0.0,
    clock: Clock | None = None,
) -> Iterator[tuple[Pipeline, PipelineHost]]:
    """A pipeline that runs the bundle in `folder`, with a host that can exchange it."""
    model = load_model(folder)
    with open_test_pipeline([model], cloud=cloud, memory=memory, max_in_flight=64, audit_share=audit_share) as pipeline:
        host = PipelineHost(
            pipeline,
            {"tiny": 1},
            lambda each: GateControl(each, audit_share),
            clock or SystemClock(),
            policies=policies,
            follow=follow or _follow_nothing,
            bounds=bounds,
            free_bytes=free_bytes,
            uniform=uniform,
        )
        try:
            yield pipeline, host
        finally:
            host.close()


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Wait for `condition`."""
    with anyio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await anyio.sleep(0.005)
