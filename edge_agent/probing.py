"""Times a probe kit on this device, probe by probe within every round, into a latency table."""

from __future__ import annotations

import os
import platform
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.engine.probe import ENGINE_VERSION, ProbeSession
from shared.clock import Clock
from shared.errors import EngineError, MeasurementError
from shared.latency_table import DeviceClass, LatencyTable, ProductTiming
from shared.probes import Product, Unsupported, read_probe_kit

_ONE_TOKEN = 1
"""Always measured: behind the last attention a network computes for the one token that its head reads."""

_WARM_UP_ROUNDS = 2

Matrix = NDArray[np.float32]


def record_probes(folder: Path, threads: int, rounds: int, tokens: Sequence[int], clock: Clock) -> LatencyTable:
    """Time every probe of the kit in `folder` at every number of `tokens`, and at one; blocks.

    Probes take turns within every round, so that a slow spell of the machine slows them all and each finds the
    caches as a network leaves them. `threads` 0: one a core. A probe that ONNX Runtime does not take, or whose
    result is not finite, is listed as unsupported.

    Raises:
        MeasurementError: there is no usable kit, or not one probe runs here.
    """
    kit = read_probe_kit(folder)
    try:
        overhead = ProbeSession(folder / kit.overhead, threads)
    except EngineError as error:
        raise MeasurementError(f"the kit's overhead graph does not load: {error}") from error
    run = _Recording(sorted({_ONE_TOKEN, *tokens}), clock, overhead, kit.overhead_inputs)
    for probe in kit.probes:
        run.add(probe.product, folder / probe.file, threads)
    if not run.sessions:
        raise MeasurementError(f"{folder}: no probe runs on this device; the first: {run.unsupported[0].reason}")
    for number in range(-_WARM_UP_ROUNDS, rounds):
        run.round(keep=number >= 0)
    return LatencyTable(
        device=device_class(threads),
        network=kit.network,
        rounds=rounds,
        overhead_ms=statistics.median(run.overhead_ms),
        timings=run.timings(),
        unsupported=(*kit.unsupported, *run.unsupported),
    )


class _Recording:
    """The loaded probes of a kit, and their times so far."""

    def __init__(self, tokens: Sequence[int], clock: Clock, overhead: ProbeSession, overhead_inputs: int) -> None:
        self.sessions: dict[Product, ProbeSession] = {}
        self.unsupported: list[Unsupported] = []
        self.overhead_ms: list[float] = []
        self._tokens, self._clock = tokens, clock
        self._overhead, self._overhead_inputs = overhead, overhead_inputs
        self._times_ms: dict[tuple[Product, int], list[float]] = defaultdict(list)
        self._random = np.random.default_rng(0)
        self._matrices: dict[tuple[int, int], Matrix] = {}

    def add(self, product: Product, graph: Path, threads: int) -> None:
        """Load a probe and try it once with the most tokens."""
        try:
            session = ProbeSession(graph, threads)
            result = session.run(self._matrix(self._tokens[-1], product.inputs))
            _require_sound(result, (self._tokens[-1], product.outputs))
        except EngineError as error:
            self.unsupported.append(Unsupported(product, str(error)))
        else:
            self.sessions[product] = session

    def round(self, keep: bool) -> None:
        """Run every probe once at every number of tokens; a probe that fails now is out."""
        for tokens in self._tokens:
            taken_ms = self._time(self._overhead, tokens, self._overhead_inputs)
            if keep:
                self.overhead_ms.append(taken_ms)
            for product, session in tuple(self.sessions.items()):
                try:
                    taken_ms = self._time(session, tokens, product.inputs)
                except EngineError as error:
                    self._drop(product, error)
                    continue
                if keep:
                    self._times_ms[product, tokens].append(taken_ms)

    def timings(self) -> tuple[ProductTiming, ...]:
        """The medians."""
        return tuple(
            ProductTiming(product, tokens, statistics.median(times_ms))
            for (product, tokens), times_ms in self._times_ms.items()
            if product in self.sessions
        )

    def _drop(self, product: Product, error: EngineError) -> None:
        del self.sessions[product]
        self.unsupported.append(Unsupported(product, str(error)))

    def _time(self, session: ProbeSession, tokens: int, inputs: int) -> float:
        x = self._matrix(tokens, inputs)
        began_s = self._clock.monotonic_s()
        session.run(x)
        return (self._clock.monotonic_s() - began_s) * 1e3

    def _matrix(self, tokens: int, inputs: int) -> Matrix:
        if (tokens, inputs) not in self._matrices:
            self._matrices[tokens, inputs] = self._random.standard_normal((tokens, inputs), dtype=np.float32)
        return self._matrices[tokens, inputs]


def device_class(threads: int, cpuinfo: Path = Path("/proc/cpuinfo")) -> DeviceClass:
    """What this device is, as tables name it; `threads` 0 is one a core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return DeviceClass(_cpu_name(cpuinfo), platform.machine(), cores, threads or cores, ENGINE_VERSION)


def _cpu_name(cpuinfo: Path) -> str:
    """The kernel's name for the CPU; Arm's kernels say implementer and part in its place."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    named = fields.get("model name") or fields.get("hardware")
    if not named and "cpu part" in fields:
        named = f"{platform.machine()} implementer {fields.get('cpu implementer', '?')} part {fields['cpu part']}"
    return named or platform.machine()


def _require_sound(result: Matrix, shape: tuple[int, int]) -> None:
    if result.shape != shape:
        raise EngineError(f"gives a result of shape {result.shape} in place of {shape}")
    if not np.isfinite(result).all():
        raise EngineError("gives values that are not finite")
