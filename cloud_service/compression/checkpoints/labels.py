"""A label head without training: the language model's own score of each label's first token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cloud_service.compression.checkpoints.layout import EMBEDDINGS, HEAD_WEIGHT, LM_HEAD
from cloud_service.compression.checkpoints.reading import Checkpoint
from cloud_service.compression.errors import CheckpointError
from cloud_service.compression.networks.shape import Family


def label_scoring_head(
    checkpoint: Checkpoint, token_ids: Sequence[Sequence[int]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`head.weight` [labels, hidden] and `head.bias` [labels] that score labels as the language model does.

    `token_ids` has one sequence a label: the label's text as it would go on after the prompt. A row is
    the language-model head's row of the first token, so a label's logit is that of its first token after
    the prompt, and the softmax over labels is the model's own, among those tokens. Later tokens are not read.

    Raises:
        CheckpointError: the network has no language-model head or has a trained label head, there are
            fewer than two labels, a label has no token or one outside the vocabulary, or labels begin with the same
            token; labels are named by index.
    """
    if checkpoint.shape.family is not Family.ERNIE:
        raise CheckpointError("labels can be scored by a language model only; train a label head for an encoder")
    if HEAD_WEIGHT in checkpoint.weights:
        raise CheckpointError("the checkpoint has a trained label head, and its body no longer predicts tokens")
    first = _first_tokens(token_ids, checkpoint.shape.vocabulary_size)
    rows = checkpoint.weights.get(LM_HEAD, checkpoint.weights[EMBEDDINGS[Family.ERNIE]])
    return rows[first], np.zeros(len(first), np.float32)


def _first_tokens(token_ids: Sequence[Sequence[int]], vocabulary_size: int) -> list[int]:
    if len(token_ids) < 2:
        raise CheckpointError(f"{len(token_ids)} labels were given; a classifier needs 2 or more")
    owners: dict[int, int] = {}
    shared: list[str] = []
    for index, tokens in enumerate(token_ids):
        if not tokens:
            raise CheckpointError(f"label {index} has no token")
        if not 0 <= tokens[0] < vocabulary_size:
            raise CheckpointError(f"label {index} begins with token {tokens[0]}, not one of {vocabulary_size}")
        if tokens[0] in owners:
            shared.append(f"labels {owners[tokens[0]]} and {index} with token {tokens[0]}")
        owners.setdefault(tokens[0], index)
    if shared:
        raise CheckpointError(f"labels must begin with different tokens, yet these begin alike: {'; '.join(shared)}")
    return [tokens[0] for tokens in token_ids]
