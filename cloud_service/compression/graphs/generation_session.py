"""Runs a generator's graphs with ONNX Runtime on the CPU: greedy continuations, and how well texts are foreseen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_service.compression.graphs.session import open_session

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
PAST, PRESENT = "past_key_values.", "present."


@dataclass(frozen=True)
class Cache:
    """Keys and values of the tokens seen: by `N.key` and `N.value`, float32 [batch, kv_heads, past, head_size].

    `lengths` int64 [batch]: how many of a row's are valid; they stand in front.
    """

    tensors: dict[str, Floats]
    lengths: Ids


class GenerationSession:
    """One generator's graph, loaded. The cache is the caller's, so two graphs of one network may share it."""

    def __init__(self, graph: Path, threads: int = 1, denormals_as_zero: bool = False) -> None:
        """Raises: ExportError: ONNX Runtime does not take the graph. See `open_session`."""
        self._session = open_session(graph, threads, denormals_as_zero)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._every_token = len(self._session.get_outputs()[0].shape) == 3

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[Floats, Cache]:
        """Run prompts, padded to the longest; logits as the graph gives them, and the cache to go on with."""
        lengths = np.array([len(prompt) for prompt in prompts], np.int64)
        ids = np.zeros((len(prompts), lengths.max()), np.int64)
        for row, prompt in zip(ids, prompts, strict=True):
            row[: len(prompt)] = prompt
        return self._run(ids, self._empty(len(prompts)), lengths)

    def proceed(self, tokens: Ids, cache: Cache) -> tuple[Floats, Cache]:
        """Run the next tokens, int64 [batch, new]; more than one only for a batch of one."""
        return self._run(tokens, cache, cache.lengths + tokens.shape[1])

    def logits_of_each(self, tokens: Sequence[int]) -> Floats:
        """What follows after each of `tokens`, float32 [tokens, vocabulary]."""
        if self._every_token:
            at_once: Floats = self.start([tokens])[0][0]
            return at_once
        logits, cache = self.start([tokens[:1]])
        rows = [logits]
        for token in tokens[1:]:
            logits, cache = self.proceed(np.array([[token]], np.int64), cache)
            rows.append(logits)
        return np.concatenate(rows)

    def _empty(self, batch: int) -> Cache:
        inputs = (one for one in self._session.get_inputs() if one.name.startswith(PAST))
        tensors = {
            one.name.removeprefix(PAST): np.zeros((batch, one.shape[1], 0, one.shape[3]), np.float32) for one in inputs
        }
        return Cache(tensors, np.zeros(batch, np.int64))

    def _run(self, ids: Ids, cache: Cache, lengths: Ids) -> tuple[Floats, Cache]:
        mask = (np.arange(lengths.max())[None, :] < lengths[:, None]).astype(np.int64)
        feeds = {PAST + name: tensor for name, tensor in cache.tensors.items()}
        results = self._session.run(self._outputs, {"input_ids": ids, "attention_mask": mask, **feeds})
        named = dict(zip(self._outputs, results, strict=True))
        logits = named.pop("logits")
        return logits, Cache({name.removeprefix(PRESENT): tensor for name, tensor in named.items()}, lengths)


def generate_greedily(
    prompt: Sequence[int], count: int, prefill: GenerationSession, decode: GenerationSession | None = None
) -> list[int]:
    """The likeliest token after `prompt`, then after that, `count` in all; later tokens run in `decode`."""
    logits, cache = prefill.start([prompt])
    tokens = [_likeliest(logits)]
    for _ in range(count - 1):
        logits, cache = (decode or prefill).proceed(np.array([tokens[-1:]], np.int64), cache)
        tokens.append(_likeliest(logits))
    return tokens


def perplexity(session: GenerationSession, sequences: Iterable[Sequence[int]]) -> float:
    """exp of the mean negative log-likelihood, in nats, of every token but each sequence's first.

    Raises:
        ValueError: no sequence has two tokens.
    """
    losses: list[float] = []
    for sequence in sequences:
        if len(sequence) > 1:
            scores = session.logits_of_each(sequence[:-1]).astype(np.float64)
            losses.extend(_negative_log_likelihoods(scores, np.asarray(sequence[1:])))
    if not losses:
        raise ValueError("perplexity needs a sequence of two tokens")
    return float(np.exp(np.mean(losses)))


def _likeliest(logits: Floats) -> int:
    return int(logits.reshape(-1, logits.shape[-1])[-1].argmax())


def _negative_log_likelihoods(scores: NDArray[np.float64], targets: Ids) -> list[float]:
    shifted = scores - scores.max(axis=1, keepdims=True)
    chosen = shifted[np.arange(len(targets)), targets]
    return list(np.log(np.exp(shifted).sum(axis=1)) - chosen)
