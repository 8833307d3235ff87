"""INT8 as the stock tools make it: the rows that a report compares our own formats with."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from cloud_service.compression.durable import writing
from cloud_service.compression.encoding import TokenBatch, pad_batch
from cloud_service.compression.errors import ExportError, WriteError
from cloud_service.compression.graphs.session import GraphSession, TimedSession


@dataclass(frozen=True)
class BaselineResult:
    """`logits` float32 [texts, labels], each text run alone; `size_bytes` on disk; `session` to time it by."""

    name: str
    logits: NDArray[np.float32]
    size_bytes: int
    session: TimedSession


Classify = Callable[[nn.Module, TokenBatch], Tensor]
"""Logits [batch, labels] of a batch."""


@dataclass(frozen=True)
class TorchSession:
    """A model that torch runs, in this process, on `threads` threads while it runs."""

    model: nn.Module
    classify: Classify
    threads: int

    def run(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Logits, float32 [batch, labels]."""
        with _torch_threads(self.threads), torch.inference_mode():
            return cast("NDArray[np.float32]", self.classify(self.model, batch).float().numpy())


def torch_dynamic_int8(
    model: nn.Module,
    classify: Classify,
    sequences: Sequence[Sequence[int]],
    file: Path,
    threads: int = 1,
) -> BaselineResult:
    """`torch.ao.quantization.quantize_dynamic` of every `nn.Linear`, saved to `file`.

    The embedding stays FP32, as that function leaves it.

    Raises:
        ExportError: torch does not take the model.
        WriteError: the file cannot be written.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated since, and what the design document names
            session = TorchSession(_quantize_linears(model.eval()), classify, threads)
            with writing(file):
                torch.save(session.model.state_dict(), file)
            rows = [session.run(pad_batch([sequence])) for sequence in sequences]
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ExportError(f"torch.ao does not quantize it: {error}") from error
    return BaselineResult("torch-dynamic-int8", np.concatenate(rows), file.stat().st_size, session)


def onnxruntime_dynamic_int8(
    graph: Path, sequences: Sequence[Sequence[int]], folder: Path, threads: int = 1
) -> BaselineResult:
    """`onnxruntime.quantization.quantize_dynamic`, signed and per channel, of the FP32 `graph`.

    Its weights reach ±127, so on x86 without VNNI its sums may saturate (see docs/adr/0005).

    Raises:
        ExportError: the function does not take the graph, or ONNX Runtime does not load what it made.
        WriteError: the file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / "model.onnx"
    for old in folder.glob("model.onnx*"):
        old.unlink()  # else its weights would be appended to
    try:
        with _unlogged():
            quantize_dynamic(
                graph,
                written,
                per_channel=True,
                weight_type=QuantType.QInt8,
                use_external_data_format=True,
                nodes_to_exclude=_attentions(graph),
                # It infers no type behind ONNX Runtime's own operators.
                extra_options={"DefaultTensorType": TensorProto.FLOAT},
            )
    except OSError as error:
        raise WriteError(written, str(error)) from error
    except Exception as error:  # its errors share no base of their own
        raise ExportError(f"onnxruntime.quantization does not quantize {graph}: {error}") from error
    session = GraphSession(written, threads)
    size_bytes = sum(file.stat().st_size for file in folder.iterdir())
    return BaselineResult("onnxruntime-dynamic-int8", session.run_each(sequences), size_bytes, session)


def _attentions(graph: Path) -> list[str]:
    """ONNX's own nodes of that name, which the library would take for ONNX Runtime's and spoil."""
    nodes = onnx.load(graph, load_external_data=False).graph.node
    return [node.name for node in nodes if node.op_type == "Attention" and not node.domain]


def _quantize_linears(model: nn.Module) -> nn.Module:
    quantize = cast("Callable[..., nn.Module]", torch.ao.quantization.quantize_dynamic)
    return quantize(model, {nn.Linear}, dtype=torch.qint8)


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    """torch knows one number for the whole process; afterwards it is what it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _unlogged() -> Iterator[None]:
    """Without the library's lines about every tensor, which it writes by the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
