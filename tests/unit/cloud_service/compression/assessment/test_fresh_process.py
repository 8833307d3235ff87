"""Graphs measured in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from cloud_service.compression.assessment.fresh_process import (
    Conditions,
    Failure,
    LengthLatency,
    Measurement,
    RatioSummary,
    compare,
    measure_graph,
    ratios_of,
)
from cloud_service.compression.assessment.machine import this_machine
from cloud_service.compression.assessment.measure import peak_memory_bytes

QUICK = Conditions(repeats=3, warm_up=1, timeout_s=60.0)


def write_graph(path: Path, vocabulary_size: int = 100) -> Path:
    """A graph whose logits are the rows of a table, summed over a text."""
    table = helper.make_tensor("table", TensorProto.FLOAT, [vocabulary_size, 4], [0.5] * vocabulary_size * 4)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "first"], ["logits"], keepdims=0),
    ]
    axes = [helper.make_tensor(name, TensorProto.INT64, [1], [axis]) for name, axis in (("last", -1), ("first", 1))]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, [table, *axes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("graph") / "tiny.onnx")


def test_a_graph_is_timed_at_every_length(graph: Path) -> None:
    figures = measure_graph(graph, [4, 16], QUICK)
    assert isinstance(figures, Measurement), figures
    assert [each.tokens for each in figures.lengths] == [4, 16]
    assert all(0 < each.median_ms <= each.p90_ms for each in figures.lengths)
    assert figures.load_ms > 0
    assert 1_000_000 < figures.baseline_bytes <= figures.peak_bytes < 400_000_000


def test_graphs_side_by_side_have_ratios_and_a_broken_one_only_says_why(graph: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a graph")
    heard: list[str] = []
    first, second, third = compare([graph, broken, graph], [4], 2, QUICK, lambda path: heard.append(path.name))
    assert heard == ["tiny.onnx", "broken.onnx", "tiny.onnx", "tiny.onnx", "tiny.onnx"]
    assert first.measurement is not None and third.measurement is not None
    assert (first.ratios[0].lowest, first.ratios[0].highest) == (1, 1)
    assert third.ratios[0].lowest <= third.ratios[0].median <= third.ratios[0].highest
    assert second.measurement is None and second.failure is not None
    assert "broken.onnx" in second.failure


def test_ratios_are_taken_within_a_round() -> None:
    def figures(ms: float) -> Measurement:
        return Measurement(1.0, 1, 1, None, (LengthLatency(4, ms, ms, None),))

    firsts, others = [figures(ms) for ms in (1.0, 2.0, 10.0)], [figures(ms) for ms in (2.0, 6.0, 10.0)]
    assert ratios_of(firsts, others) == (RatioSummary(4, median=2.0, lowest=1.0, highest=3.0),)
    assert ratios_of(firsts, []) == ratios_of([], others) == ()


def test_a_graph_that_takes_too_long_is_a_failure(graph: Path) -> None:
    figures = measure_graph(graph, [4], Conditions(timeout_s=0.001))
    assert figures == Failure("no figures within 0.001 s")


def test_the_measuring_process_imports_neither_torch_nor_scipy() -> None:
    program = (
        "import sys, cloud_service.compression.assessment.measure\n"
        "print([name for name in ('torch', 'scipy', 'pydantic', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True)
    assert done.stdout.strip() == b"[]"


def test_a_kernel_that_tells_no_peak_is_an_error(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("VmRSS:\t 12 kB\n")
    with pytest.raises(LookupError, match="VmHWM"):
        peak_memory_bytes(status)
    status.write_text("VmHWM:\t 12 kB\n")
    assert peak_memory_bytes(status) == 12 * 1024


def test_the_machine_says_its_processor(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: A Fine CPU\n")
    assert this_machine(cpuinfo).cpu == "A Fine CPU"
    assert this_machine(tmp_path / "missing").cpu
