"""A generator of ERNIE-4.5-0.3B's size: one token, the first token of a prompt, a prompt known beforehand, the disk.

Weights are random and seeded: speed and size do not depend on what a network has learnt. PyTorch runs the
same weights in FP32, as transformers generates. All have the same number of threads and take turns.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from transformers import DynamicCache, Ernie4_5ForCausalLM

from cloud_service.compression.encoding import pad_batch
from cloud_service.compression.graphs.blocks import Blocks
from cloud_service.compression.graphs.ernie import write_graph
from cloud_service.compression.graphs.formats import Int8Dynamic
from cloud_service.compression.graphs.generation import write_generation_pair
from cloud_service.compression.graphs.generation_session import GenerationSession
from cloud_service.compression.graphs.prefix import write_prefixed_graph
from cloud_service.compression.graphs.session import GraphSession
from cloud_service.compression.graphs.source import GraphSource
from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling
from tests.bench.report import Figure, finish
from tests.bench.timing import timed_ms, warm_up
from tests.support.random_ernie import generator_source, random_generator, with_label_head

FULL = NetworkShape(
    family=Family.ERNIE,
    vocabulary_size=103_424,
    max_length=512,
    hidden_size=1024,
    head_size=128,
    layers=(LayerShape(attention_heads=16, key_value_heads=2, ffn_size=3072),) * 18,
    norm_epsilon=1e-5,
    pooling=Pooling.LAST,
    rope_theta=500_000.0,
)
PRUNED = FULL.with_layers((LayerShape(attention_heads=12, key_value_heads=2, ffn_size=2048),) * 12)
SHAPES = {"whole": FULL, "12 layers of 12 heads and 2048": PRUNED}
PROMPT, PREFIX, LABELS = 64, 40, 77
ROUNDS, STEPS, THREADS, PAUSE_S, WARM_S = 9, 5, 2, 0.2, 0.25

TORCH = "PyTorch FP32"
STEP_AIMS = dict(zip(SHAPES, (15, 24), strict=True))

Calls = Mapping[str, Callable[[], object]]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        finish(measure(Path(folder)), __doc__ or "")


def prepare(folder: Path) -> None:
    """Write every graph that is measured."""
    for name, shape in SHAPES.items():
        source = generator_source(random_generator(shape), shape)
        write_generation_pair(source, Int8Dynamic(), Blocks(4, 128), folder / name)
    classifier = with_label_head(generator_source(random_generator(FULL), FULL), LABELS)
    write_graph(classifier, Int8Dynamic(), folder / "classifier")
    prompted = GraphSource(FULL.with_prefix(prompt()[:PREFIX]), classifier.weights)
    write_prefixed_graph(prompted, Int8Dynamic(), folder / "prefixed")


def measure(folder: Path) -> list[Figure]:
    """Every figure, of the graphs in `folder`."""
    torch.set_num_threads(THREADS)
    model = random_generator(FULL)
    fp32_bytes = sum(4 * parameter.numel() for parameter in model.parameters())
    return disk(folder, fp32_bytes) + generation(folder, model) + prefixed(folder)


def prompt() -> list[int]:
    return [int(token) for token in np.random.default_rng(0).integers(1, FULL.vocabulary_size, PROMPT)]


def disk(folder: Path, fp32_bytes: int) -> list[Figure]:
    """Both graphs of a pair with their weights, over the unpruned network's FP32 weights."""
    figures = []
    for name in SHAPES:
        share = 100 * sum(path.stat().st_size for path in (folder / name).iterdir()) / fp32_bytes
        figures.append(Figure.of(f"disk of FP32, INT8 prompt and 4-bit decoding, {name}", [share], "%", "≤ 39"))
    return figures


def generation(folder: Path, model: Ernie4_5ForCausalLM) -> list[Figure]:
    """A decoding step after 64 tokens, and the first token of a prompt of 64."""
    steps, prompts = {TORCH: torch_step(model)}, {TORCH: torch_prompt(model)}
    for name in SHAPES:
        prefill, decode = (
            GenerationSession(folder / name / f"{file}.onnx", THREADS, denormals_as_zero=True)
            for file in ("prefill", "decode")
        )
        steps[name] = partial(decode.proceed, np.array([[7]], np.int64), prefill.start([prompt()])[1])
        prompts[name] = partial(prefill.start, [prompt()])
    figures = []
    for what, aim, calls in (("a token after 64", STEP_AIMS, steps), ("first token of 64", {}, prompts)):
        figures += against(TORCH, what, turns(calls), aim)
    return figures


def torch_step(model: Ernie4_5ForCausalLM) -> Callable[[], object]:
    """A token after the prompt, with transformers' cache."""
    cache = DynamicCache(config=model.config)
    following = torch.tensor([[7]])

    @torch.inference_mode()
    def step() -> object:
        logits = model(following, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        cache.crop(-1)
        return logits

    with torch.inference_mode():
        model(torch.tensor([prompt()]), past_key_values=cache, use_cache=True, logits_to_keep=1)
    return step


def torch_prompt(model: Ernie4_5ForCausalLM) -> Callable[[], object]:
    """The prompt, of whose last token alone logits are computed, as `generate` does."""
    ids = torch.tensor([prompt()])

    @torch.inference_mode()
    def first() -> object:
        return model(ids, use_cache=True, logits_to_keep=1)

    return first


def prefixed(folder: Path) -> list[Figure]:
    """A text of 64 tokens whose first 40 are always the same, INT8."""
    whole, short = (
        GraphSession(folder / name / "model.onnx", THREADS, denormals_as_zero=True)
        for name in ("classifier", "prefixed")
    )
    calls = {
        "INT8 without prefix": lambda: whole.run(pad_batch([prompt()])),
        "40 tokens kept": lambda: short.run(pad_batch([prompt()[PREFIX:]])),
    }
    return against("INT8 without prefix", "a text of 64", turns(calls), {"40 tokens kept": 1.9})


def turns(calls: Calls, steps: int = STEPS) -> dict[str, list[float]]:
    """Median milliseconds of `steps` runs of each call in each round; a round before the first warms up.

    In each turn runs that do not count, of `WARM_S` together, bring the call's weights into the cache, after a pause in
    which the threads of the call before stop waiting for work: both as in a process of its own.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(-1, ROUNDS):
        for name, call in calls.items():
            time.sleep(PAUSE_S)
            warm_up(call, 1, WARM_S)
            median_ms = statistics.median(timed_ms(call) for _ in range(steps))
            if number >= 0:
                taken[name].append(median_ms)
    return taken


def against(
    baseline: str, what: str, taken: Mapping[str, Sequence[float]], least: Mapping[str, float] = MappingProxyType({})
) -> list[Figure]:
    """Times of each, and each round's time of the baseline over that of the others, with the `least` aimed at."""
    figures = [Figure.of(f"{what}, {name}", times, "ms") for name, times in taken.items()]
    for name, times in taken.items():
        if name != baseline:
            ratios = [slow / fast for slow, fast in zip(taken[baseline], times, strict=True)]
            aim = f"≥ {least[name]}" if name in least else ""
            figures.append(Figure.of(f"{what}, {name}, over {baseline}", ratios, "x", aim))
    return figures


if __name__ == "__main__":
    main()
