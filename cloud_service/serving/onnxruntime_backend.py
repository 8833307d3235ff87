"""The one adapter for ONNX Runtime in the cloud: TensorRT, CUDA or CPU, whichever passes a real inference."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cloud_service.serving.padding import runs_of_like_length
from shared.bundle import Bundle, TensorSpec, check_signature
from shared.errors import EngineError

_log = logging.getLogger(__name__)
_PREFERRED = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
_LOG_ERRORS_ONLY = 3
_TASKS = Path("/proc/self/task")
_TOKENS_A_RUN = {"CPUExecutionProvider": 8.0}
"""What starting a run costs, counted in tokens: for the shipped model 1.1 ms against 0.14 ms a token. Accelerators,
which are not named, run a batch as a whole: there padding costs little and a run costs much."""


class OnnxRuntimeBackend:
    """A bundle's graph, as `Backend`.

    Texts are padded on the right to the longest of their run; on the CPU a batch is parted into runs of like length.
    """

    def __init__(self, bundle: Bundle, threads: int = 0, preferred: Sequence[str] = _PREFERRED) -> None:
        """Load the graph with the first provider of `preferred` that is there and computes.

        `threads`: intra-operator threads; 0 for one a core, less one that the service itself needs.

        Raises:
            EngineError: ONNX Runtime is older than the bundle needs, or no provider runs the graph; the text says
                what each said.
            BundleGraphMismatch: inputs and outputs are not those that the manifest names.
        """
        _require_version(bundle.manifest.requires.onnxruntime)
        before = _thread_ids()
        self._session, self._provider = _first_that_computes(bundle, threads, preferred)
        self._tokens_a_run = _TOKENS_A_RUN.get(self._provider, math.inf)
        self._worker_ids = sorted(_thread_ids() - before)
        manifest = bundle.manifest
        inputs, outputs = _tensors(self._session.get_inputs()), _tensors(self._session.get_outputs())
        check_signature(bundle.graph_path, manifest.graph, inputs, outputs, len(manifest.labels))

    @property
    def provider(self) -> str:
        """See `Backend`."""
        return self._provider

    def run(self, batch: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        """See `Backend`."""
        runs = runs_of_like_length([len(ids) for ids in batch], self._tokens_a_run)
        if len(runs) == 1:
            return _run(self._session, batch)
        parts = [_run(self._session, [batch[place] for place in run]) for run in runs]
        logits = np.empty((len(batch), parts[0].shape[1]), np.float32)
        for run, part in zip(runs, parts, strict=True):
            logits[run] = part
        return logits

    def worker_cpu_s(self) -> float:
        """See `Backend`. Read from the kernel's per-thread clocks; 0 where the system has none."""
        return sum(_thread_cpu_s(thread_id) for thread_id in self._worker_ids)


def _require_version(needed: str) -> None:
    if _version(onnxruntime.__version__) < _version(needed):
        raise EngineError(f"the bundle needs ONNX Runtime {needed}, here is {onnxruntime.__version__}: update it")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("+")[0].split(".")[:3] if part.isdigit())


def _first_that_computes(
    bundle: Bundle, threads: int, preferred: Sequence[str]
) -> tuple[onnxruntime.InferenceSession, str]:
    available = set(onnxruntime.get_available_providers())
    refusals = []
    for provider in preferred:
        if provider not in available:
            continue
        try:
            session = onnxruntime.InferenceSession(str(bundle.graph_path), _options(threads), providers=[provider])
            if session.get_providers()[0] != provider:
                raise EngineError("ONNX Runtime fell back to another provider")
            if not np.isfinite(_run(session, [np.zeros(3, np.int64), np.zeros(1, np.int64)])).all():
                raise EngineError("the logits of a first inference are not numbers")
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no common base; the next provider is tried
            _log.warning("%s cannot run %s: %s", provider, bundle.graph_path, error)
            refusals.append(f"{provider}: {error}")
            continue
        return session, provider
    raise EngineError(f"nothing here runs {bundle.graph_path}: {'; '.join(refusals) or 'no provider available'}")


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or _cores_but_one()
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _LOG_ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # What attention masks ends as denormals, with which x86 computes many times slower.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return options


def _run(session: onnxruntime.InferenceSession, batch: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
    longest = max(len(ids) for ids in batch)
    input_ids = np.zeros((len(batch), longest), np.int64)
    attention_mask = np.zeros((len(batch), longest), np.int64)
    for row, ids in enumerate(batch):
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
    try:
        logits: NDArray[np.float32] = session.run(None, {"input_ids": input_ids, "attention_mask": attention_mask})[0]
    except Exception as error:  # ONNX Runtime's errors have no common base of their own
        raise EngineError(f"ONNX Runtime failed on {input_ids.shape}: {error}") from error
    return logits


def _cores_but_one() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


def _tensors(nodes: Sequence[onnxruntime.NodeArg]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(node.name, node.type, tuple(part if isinstance(part, int) else str(part) for part in node.shape))
        for node in nodes
    )


def _thread_ids() -> set[int]:
    return {int(task.name) for task in _TASKS.iterdir()} if _TASKS.exists() else set()


def _thread_cpu_s(thread_id: int) -> float:
    """The CPU time of one thread, by the clock id that Linux makes of a thread's id (clock_getcpuclockid(3))."""
    per_thread_scheduler_clock = 6
    try:
        return time.clock_gettime((~thread_id << 3) | per_thread_scheduler_clock)
    except OSError:
        return 0.0
