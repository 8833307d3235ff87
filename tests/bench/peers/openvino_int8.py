"""OpenVINO with INT8 weights, at the precision it computes in by default on the machine (BF16 where there is AMX).

The network is converted from transformers' module. Variants: `weights` (nncf.compress_weights) and `full`
(nncf.quantize, activations too) classify: all layers for all tokens, then the last token's state. `generator`
(nncf.compress_weights) keeps the cache as the model's state and computes the head for the last token alone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from tests.bench.peers.peer import EXPECTED_FILE, THREADS, Floats, Peer

CALIBRATION_LENGTHS = (32, 64, 96, 128) * 2


def peer(folder: Path, variant: str) -> Peer:
    return OpenVino(folder, variant)


class OpenVino:
    """`folder` holds one model."""

    def __init__(self, folder: Path, variant: str) -> None:
        self._folder, self._variant = folder, variant

    def prepare(self, checkpoint: Path) -> None:
        import nncf

        from tests.bench.peers.openvino_network import classifier, generator

        model = generator(checkpoint) if self._variant == "generator" else classifier(checkpoint)
        if self._variant == "full":
            vocabulary = int(np.load(checkpoint / EXPECTED_FILE)["logits"].size)
            texts = nncf.Dataset(calibration_texts(vocabulary), lambda ids: {"input_ids": ids})
            model = nncf.quantize(model, texts, model_type=nncf.ModelType.TRANSFORMER)
        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
        openvino.save_model(model, self._folder / "model.xml", compress_to_fp16=False)

    def classify(self, ids: Sequence[int]) -> Floats:
        return self._run({"input_ids": np.array([ids], np.int64)})

    def first_token(self, ids: Sequence[int]) -> int:
        self._request.reset_state()
        self._seen = 0
        return self._next(ids)

    def step(self) -> int:
        return self._next([self._token])

    def _next(self, ids: Sequence[int]) -> int:
        positions = np.arange(self._seen, self._seen + len(ids), dtype=np.int64)
        self._seen += len(ids)
        feed = {
            "input_ids": np.array([ids], np.int64),
            "position_ids": positions[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        self._token = int(self._run(feed).argmax())
        return self._token

    def _run(self, feed: dict[str, Any]) -> Floats:
        answer: Floats = self._request.infer(feed)[0]
        return answer.reshape(-1)

    @functools.cached_property
    def _request(self) -> openvino.InferRequest:
        options = {"INFERENCE_NUM_THREADS": THREADS, "PERFORMANCE_HINT": "LATENCY"}
        return openvino.Core().compile_model(self._folder / "model.xml", "CPU", options).create_infer_request()


def calibration_texts(vocabulary: int) -> list[Any]:
    """Random ids, as those that are measured."""
    random = np.random.default_rng(1)
    return [random.integers(1, vocabulary, (1, length)) for length in CALIBRATION_LENGTHS]
