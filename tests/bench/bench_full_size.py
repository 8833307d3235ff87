"""A classifier of ERNIE-4.5-0.3B's size, whole and pruned: time of a text, disk, memory, share of the INT8 rate.

Weights are random and seeded: speed and size do not depend on what a network has learnt. Against PyTorch's FP32,
as transformers runs it, its BF16 and its dynamic INT8, and ONNX Runtime's own quantizer on our FP32 graph. All have
the same number of threads and take turns. What is generated is measured by bench_generation; a further contestant is
one more entry of `contestants`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from cloud_service.compression.encoding import pad_batch
from cloud_service.compression.graphs.blocks import Blocks
from cloud_service.compression.graphs.ernie import write_graph
from cloud_service.compression.graphs.export import graph_source
from cloud_service.compression.graphs.formats import WEIGHT_LIMIT, Float32Weights, Int8Dynamic
from cloud_service.compression.graphs.session import GraphSession
from cloud_service.compression.networks.build import new_classifier
from cloud_service.compression.networks.ernie import ErnieClassifier
from cloud_service.compression.networks.shape import NetworkShape
from cloud_service.compression.quantization.baseline import onnxruntime_dynamic_int8
from tests.bench.bench_generation import FULL, LABELS, PRUNED, ROUNDS, THREADS, against, turns
from tests.bench.report import Figure, finish
from tests.bench.timing import timed_ms

STEPS = 3
LENGTHS = (32, 64, 128)
RATE_SIZE, SLOW_GOPS = 2048, 10.0
TORCH, TORCH_BF16, TORCH_INT8 = "PyTorch FP32", "PyTorch BF16", "PyTorch dynamic INT8"
STOCK = "ONNX Runtime's quantize_dynamic"
OURS_FP32, OURS, OURS_PRUNED = "FP32 graph", "INT8 graph", "INT8 graph, 12 layers of 12 heads and 2048"
OURS_4_BIT = "4-bit graph"
GRAPHS = (OURS_FP32, OURS, OURS_PRUNED, OURS_4_BIT)
DISK_AIMS = {OURS: "≤ 25.5", OURS_4_BIT: "≤ 13.5"}
SPEED_AIMS = {
    32: {OURS: 6.5, OURS_PRUNED: 13},
    64: {OURS: 5.5, OURS_PRUNED: 11},
    128: {OURS: 4.7, OURS_PRUNED: 9.5},
}
MEMORY_AIM = {OURS: "≤ 28"}

Classify = Callable[[list[int]], object]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        fp32_bytes = prepare(Path(folder))
        memory = memory_figures(Path(folder))
        finish(disk_figures(Path(folder), fp32_bytes) + memory + speed_figures(Path(folder)), __doc__ or "")


def prepare(folder: Path) -> int:
    """Write every graph that is measured; returns the bytes of the unpruned network in FP32."""
    whole = random_classifier(FULL)
    write_graph(graph_source(whole), Float32Weights(), folder / OURS_FP32)
    write_graph(graph_source(whole), Int8Dynamic(), folder / OURS)
    write_graph(graph_source(whole), Blocks(4, 128), folder / OURS_4_BIT)
    write_graph(graph_source(random_classifier(PRUNED)), Int8Dynamic(), folder / OURS_PRUNED)
    onnxruntime_dynamic_int8(folder / OURS_FP32 / "model.onnx", [text(4)], folder / STOCK)
    return sum(4 * parameter.numel() for parameter in whole.parameters())


def random_classifier(shape: NetworkShape) -> ErnieClassifier:
    return cast(ErnieClassifier, new_classifier(shape, LABELS, seed=0).eval())


def text(length: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(0).integers(1, FULL.vocabulary_size, length)]


def disk_figures(folder: Path, fp32_bytes: int) -> list[Figure]:
    """Each graph with its weights, over the unpruned network's FP32 weights."""
    sizes = {name: sum(path.stat().st_size for path in (folder / name).iterdir()) for name in (STOCK, *GRAPHS)}
    shares = {name: 100 * size / fp32_bytes for name, size in sizes.items()}
    return [Figure.of(f"disk of FP32, {name}", [share], "%", DISK_AIMS.get(name, "")) for name, share in shares.items()]


def memory_figures(folder: Path) -> list[Figure]:
    """Peak memory of fresh processes that classify one text of 128 tokens once."""
    figures, peaks = [], {}
    for name in (TORCH, STOCK, *GRAPHS):
        command = [sys.executable, "-m", "tests.bench.full_size_memory"]
        command += [str(folder / name / "model.onnx")] if name != TORCH else []
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks[name] = int(done.stdout) / 1024
        figures.append(Figure.of(f"peak memory, 1 text of 128, {name}", [peaks[name]], "MiB"))
        share = 100 * peaks[name] / peaks[TORCH]
        figures.append(Figure.of(f"the same, of {TORCH}'s", [share], "%", MEMORY_AIM.get(name, "")))
    return figures


def speed_figures(folder: Path) -> list[Figure]:
    """Times, ratios to PyTorch FP32 in the same round, and how much of the machine's INT8 rate is used."""
    torch.set_num_threads(THREADS)
    rivals = contestants(folder)
    figures = []
    rates = {"ONNX Runtime's MatMulInteger": mlas_rate(), "torch._int_mm": torch_rate()}
    for length in LENGTHS:
        taken = turns({name: _call(classify, length) for name, classify in rivals.items()}, STEPS)
        figures += against(TORCH, f"1 text of {length}", taken, SPEED_AIMS[length])
        aim = "≥ 80" if length == max(LENGTHS) else ""
        for name, rate in rates.items():
            percent = [100 * operations(FULL, length) / (time_ms * 1e6) / rate for time_ms in taken[OURS]]
            figures.append(Figure.of(f"share of the INT8 rate of {name}, 1 text of {length}", percent, "%", aim))
    return figures + [Figure.of(f"INT8 rate, {name}, 2048 cubed", [rate], "GOPS") for name, rate in rates.items()]


def contestants(folder: Path) -> dict[str, Classify]:
    """What takes turns, by name; each classifies one text, given as ids."""
    model = random_classifier(FULL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})  # type: ignore[no-untyped-call]
    calls = {
        TORCH: whole_body(model),
        TORCH_BF16: whole_body(random_classifier(FULL).to(torch.bfloat16)),
        TORCH_INT8: whole_body(quantized),
    }
    return calls | {name: graph(folder / name / "model.onnx") for name in (STOCK, *GRAPHS)}


def graph(path: Path) -> Classify:
    """Our graph in ONNX Runtime."""
    session = GraphSession(path, THREADS, denormals_as_zero=True)
    return lambda ids: session.run(pad_batch([ids]))


def whole_body(model: ErnieClassifier) -> Classify:
    """All layers for all tokens, as transformers runs them, and the head on the last."""

    @torch.inference_mode()
    def classify(ids: list[int]) -> object:
        states = model.body(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state
        return model.head(states[:, -1])

    return classify


def _call(classify: Classify, length: int) -> Callable[[], object]:
    ids = text(length)
    return lambda: classify(ids)


def operations(shape: NetworkShape, length: int) -> int:
    """Multiplications and additions of the products with weights for one text, that are needed for its last token.

    Of the last layer, all tokens need key and value; the rest is the last token's alone.
    """
    total = 0
    for index, layer in enumerate(shape.layers):
        width, keys = layer.attention_heads * shape.head_size, layer.key_value_heads * shape.head_size
        rest = 2 * width * shape.hidden_size + 3 * shape.hidden_size * layer.ffn_size
        rest_length = length if index < len(shape.layers) - 1 else 1
        total += length * shape.hidden_size * 2 * keys + rest_length * rest
    return 2 * total


def mlas_rate() -> float:
    """The best of several runs of one large product of unsigned and signed bytes, in 10^9 operations a second."""
    random = np.random.default_rng(0)
    size = [RATE_SIZE, RATE_SIZE]
    weight = random.integers(-WEIGHT_LIMIT, WEIGHT_LIMIT + 1, size).astype(np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "weight"], ["y"])],
        "rate",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, size)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, size)],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {"x": random.integers(0, 256, size).astype(np.uint8)}
    return max(_rates(lambda: session.run(None, feed), ROUNDS))


def torch_rate() -> float:
    """The same of `torch._int_mm`; once where it has no fast kernel and takes seconds."""
    left = torch.randint(-127, 128, (RATE_SIZE, RATE_SIZE), dtype=torch.int8)
    first = next(_rates(lambda: torch._int_mm(left, left), 1))
    return max(first, *_rates(lambda: torch._int_mm(left, left), ROUNDS if first > SLOW_GOPS else 0))


def _rates(product: Callable[[], object], runs: int) -> Iterator[float]:
    for _ in range(runs):
        yield 2 * RATE_SIZE**3 / (timed_ms(product) * 1e6)


if __name__ == "__main__":
    main()
