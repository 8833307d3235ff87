"""onnxruntime-genai: its own builder's graph of ERNIE, weights in blocks of 128, INT8 compute; `int4` or `int8`.

`classify` and `first_token` run the prompt and take the last token's logits, for which alone the vocabulary's head is
computed (`prune_lm_head`): the library always runs the head. Its `int8` graph keeps an FP32 embedding beside the head.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime_genai

from tests.bench.peers.peer import THREADS, Floats, Peer

OPTIONS = ("block_size=128", "accuracy_level=4", "prune_lm_head=true", "hf_token=false")
MAX_LENGTH = 512


def peer(folder: Path, variant: str) -> Peer:
    return GenAi(folder, variant)


class GenAi:
    """`folder` holds one graph, for both tasks."""

    def __init__(self, folder: Path, variant: str) -> None:
        self._folder, self._variant = folder, variant

    def prepare(self, checkpoint: Path) -> None:
        build = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-e", "cpu", "-p", self._variant]
        build += ["-i", str(checkpoint), "-o", str(self._folder), "-c", str(self._folder / "cache")]
        subprocess.run([*build, "--extra_options", *OPTIONS], check=True, stdout=sys.stderr)
        shutil.rmtree(self._folder / "cache", ignore_errors=True)

    def classify(self, ids: Sequence[int]) -> Floats:
        self._begin(ids)
        logits: Floats = self._generator.get_logits().reshape(-1)
        return logits

    def first_token(self, ids: Sequence[int]) -> int:
        self._begin(ids)
        return self.step()

    def step(self) -> int:
        """The library runs the token before in its network, if that has not been done yet, and picks the likeliest."""
        self._generator.generate_next_token()
        return int(self._generator.get_next_tokens()[0])

    def _begin(self, ids: Sequence[int]) -> None:
        options = onnxruntime_genai.GeneratorParams(self._model)
        options.set_search_options(do_sample=False, min_length=MAX_LENGTH, max_length=MAX_LENGTH)
        self._generator = onnxruntime_genai.Generator(self._model, options)
        self._generator.append_tokens(np.array(ids, np.int32))

    @functools.cached_property
    def _model(self) -> onnxruntime_genai.Model:
        config = onnxruntime_genai.Config(str(self._folder))
        threads = {"intra_op_num_threads": THREADS}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": threads}}}))
        return onnxruntime_genai.Model(config)
