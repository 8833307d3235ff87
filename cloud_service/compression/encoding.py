"""From texts to padded batches of token ids."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

BUCKET_BATCHES = 16


@dataclass(frozen=True)
class TokenBatch:
    """Right-padded token ids.

    `input_ids` int64 [batch, sequence]; `lengths` int64 [batch], at least 1.
    """

    input_ids: Tensor
    lengths: Tensor

    def attention_mask(self) -> Tensor:
        """int64 [batch, sequence]: 1 for a token, 0 for padding."""
        positions = torch.arange(self.input_ids.shape[1])
        return (positions[None, :] < self.lengths[:, None]).to(torch.int64)

    def after(self, prefix: Sequence[int]) -> TokenBatch:
        """The same texts, each behind the tokens `prefix`."""
        if not prefix:
            return self
        rows = torch.as_tensor(prefix).expand(len(self.lengths), -1)
        return TokenBatch(torch.cat([rows, self.input_ids], dim=1), self.lengths + len(prefix))


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, normalised to NFC as in serving; the tokenizer truncates, nothing is padded."""
    normalised = [unicodedata.normalize("NFC", text) for text in texts]
    return [encoding.ids for encoding in tokenizer.encode_batch(normalised)]


def count_cut(tokenizer: Tokenizer, texts: Sequence[str]) -> int:
    """How many of `texts` are longer than the tokenizer lets through."""
    normalised = [unicodedata.normalize("NFC", text) for text in texts]
    return sum(bool(encoding.overflowing) for encoding in tokenizer.encode_batch(normalised))


def pad_batch(sequences: Sequence[Sequence[int]]) -> TokenBatch:
    """Pad with id 0 on the right to the longest of the batch."""
    lengths = [len(sequence) for sequence in sequences]
    ids = torch.zeros((len(sequences), max(lengths)), dtype=torch.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.as_tensor(sequence)
    return TokenBatch(ids, torch.as_tensor(lengths, dtype=torch.int64))


def shuffled_batches(lengths: Sequence[int], batch_size: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Row indices of each batch: shuffled, with texts of like length together to save padding."""
    order = random.permutation(len(lengths))
    sizes = np.asarray(lengths)
    bucket = batch_size * BUCKET_BATCHES
    batches: list[np.ndarray] = []
    for start in range(0, len(order), bucket):
        rows = order[start : start + bucket]
        rows = rows[np.argsort(sizes[rows], kind="stable")]
        batches.extend(np.split(rows, range(batch_size, len(rows), batch_size)))
    for index in random.permutation(len(batches)):
        yield batches[index]


def batches_by_length(lengths: Sequence[int], batch_size: int) -> Iterator[np.ndarray]:
    """Row indices of each batch, shortest texts first; for evaluation, where order is no matter."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    yield from np.split(order, range(batch_size, len(order), batch_size))
