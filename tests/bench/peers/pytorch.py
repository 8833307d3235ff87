"""PyTorch in FP32, as transformers runs it: all layers for all tokens.

`classify` ends in the last token's state. First token and step compute logits of the last token alone, as `generate`
does, with transformers' own cache.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import DynamicCache, Ernie4_5ForCausalLM

from tests.bench.peers.peer import THREADS, Floats, Peer


def peer(folder: Path, variant: str) -> Peer:
    del variant
    return PyTorch(folder)


class PyTorch:
    """`folder` holds a link to the checkpoint."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        torch.set_num_threads(THREADS)
        torch.set_grad_enabled(False)

    def prepare(self, checkpoint: Path) -> None:
        for name in ("config.json", "model.safetensors"):
            (self._folder / name).hardlink_to(checkpoint / name)

    def classify(self, ids: Sequence[int]) -> Floats:
        body = self._model.model
        state: Floats = body(torch.tensor([ids]), use_cache=False).last_hidden_state[0, -1].numpy()
        return state

    def first_token(self, ids: Sequence[int]) -> int:
        self._cache = DynamicCache(config=self._model.config)
        return self._next(ids)

    def step(self) -> int:
        return self._next([self._token])

    def _next(self, ids: Sequence[int]) -> int:
        answer = self._model(torch.tensor([ids]), past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self._token = int(answer.logits[0, -1].argmax())
        return self._token

    @functools.cached_property
    def _model(self) -> Ernie4_5ForCausalLM:
        model: Ernie4_5ForCausalLM = Ernie4_5ForCausalLM.from_pretrained(self._folder, dtype=torch.float32)
        return model
