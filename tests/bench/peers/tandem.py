"""Our own graphs in ONNX Runtime.

`int8` is the classifier: all tokens through all layers but the last, there the last token alone, and a head for labels.
`pair` generates: INT8 for the prompt, 4-bit blocks of 128 for the steps, over one cache.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import onnxruntime

from tests.bench.peers.peer import HEAD_FILE, THREADS, Floats, Peer

if TYPE_CHECKING:
    from cloud_service.compression.graphs.generation_session import GenerationSession


def peer(folder: Path, variant: str) -> Peer:
    return Tandem(folder, variant)


class Tandem:
    """One of the two; nothing of PyTorch is imported to classify, as on a device."""

    def __init__(self, folder: Path, variant: str) -> None:
        self._folder, self._variant = folder, variant

    def prepare(self, checkpoint: Path) -> None:
        from transformers import Ernie4_5ForCausalLM

        from cloud_service.compression.graphs.blocks import Blocks
        from cloud_service.compression.graphs.ernie import write_graph
        from cloud_service.compression.graphs.formats import Int8Dynamic
        from cloud_service.compression.graphs.generation import write_generation_pair
        from cloud_service.compression.graphs.source import GraphSource
        from tests.bench.bench_generation import FULL
        from tests.support.random_ernie import generator_source

        source = generator_source(Ernie4_5ForCausalLM.from_pretrained(checkpoint), FULL)
        if self._variant == "pair":
            write_generation_pair(source, Int8Dynamic(), Blocks(4, 128), self._folder)
            return
        head = np.load(checkpoint / HEAD_FILE)
        labelled = {**source.weights, "head.weight": head, "head.bias": np.zeros(len(head), np.float32)}
        write_graph(GraphSource(FULL, labelled), Int8Dynamic(), self._folder)

    def classify(self, ids: Sequence[int]) -> Floats:
        return self._classifier(np.array([ids], np.int64))

    def first_token(self, ids: Sequence[int]) -> int:
        logits, self._cache = self._generators[0].start([ids])
        self._token = int(logits.argmax())
        return self._token

    def step(self) -> int:
        logits, self._cache = self._generators[1].proceed(np.array([[self._token]], np.int64), self._cache)
        self._token = int(logits.argmax())
        return self._token

    @functools.cached_property
    def _classifier(self) -> Callable[[np.ndarray], Floats]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        path = str(self._folder / "model.onnx")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

        def run(ids: np.ndarray) -> Floats:
            feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
            return cast("Floats", session.run(["logits"], feed)[0][0])

        return run

    @functools.cached_property
    def _generators(self) -> tuple[GenerationSession, GenerationSession]:
        """For the prompt and for the steps."""
        from cloud_service.compression.graphs.generation_session import GenerationSession

        prefill, decode = (self._folder / f"{name}.onnx" for name in ("prefill", "decode"))
        return GenerationSession(prefill, THREADS, True), GenerationSession(decode, THREADS, True)
