"""A real gateway in this process, and what a client needs to ask it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio

from cloud_service.config import GatewaySettings
from cloud_service.gateway.metrics import RecordingMetrics
from cloud_service.gateway.recording import RecordingLimits, StoreRecorder
from cloud_service.gateway.server import Gateway
from cloud_service.serving.backend import Backend
from cloud_service.serving.model import FullModel
from cloud_service.storage.case_store import CaseStore
from cloud_service.storage.engine import open_engine
from shared.bundle import Tier, read_bundle
from shared.clock import SystemClock
from shared.pb import inference_pb2, inference_pb2_grpc
from tests.support.tiny_bundle import LABELS, write_tiny_bundle

INFER = "/tandem.v1.Inference/Infer"
_numbers = itertools.count()


def tiny_model(folder: Path, backend: Backend, model: str = "tiny") -> FullModel:
    """The tiny bundle's texts and labels before `backend`."""
    write_tiny_bundle(folder, tier=Tier.FULL, model=model)
    return FullModel.of(read_bundle(folder), backend)


@asynccontextmanager
async def running_gateway(
    settings: GatewaySettings, *models: FullModel, recording: Callable[[RecordingMetrics], StoreRecorder] | None = None
) -> AsyncIterator[Gateway]:
    """`async with running_gateway(settings, model) as gateway:` listens on `gateway.port`."""
    gateway = Gateway(settings, models, SystemClock(), recording=recording)
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


def recording_into(url: str, *, keeps_text: bool = False) -> Callable[[RecordingMetrics], StoreRecorder]:
    """What `running_gateway` takes to record quickly into the store at `url`."""
    store, limits = CaseStore(open_engine(url, writes=True)), RecordingLimits(100, 30, 1000, interval_s=0.05)
    return lambda metrics: StoreRecorder(store, SystemClock(), metrics, limits, keeps_text=keeps_text)


def channel_to(gateway: Gateway) -> grpc.aio.Channel:
    """An open channel without TLS."""
    return grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}")


def question(text: str = LABELS[0], request_id: str = "", **fields: object) -> inference_pb2.InferRequest:
    """A request with an id of its own unless told otherwise; `fields` as the message's."""
    message = inference_pb2.InferRequest(
        request_id=request_id or f"r{next(_numbers)}", model="tiny", text=text, top_k=1
    )
    message.MergeFrom(inference_pb2.InferRequest(**fields))  # type: ignore[arg-type]
    return message


def stub_of(channel: grpc.aio.Channel) -> inference_pb2_grpc.InferenceStub:
    """The generated client."""
    return inference_pb2_grpc.InferenceStub(channel)  # type: ignore[no-untyped-call]


async def refusal_of(call: grpc.aio.UnaryUnaryCall) -> grpc.aio.AioRpcError:
    """How a call that should fail failed."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError(f"the call succeeded: {answer}")
