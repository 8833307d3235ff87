"""Text classifiers in torch: a network as transformers defines it, layer by layer of its own size, and a label head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from cloud_service.compression.encoding import TokenBatch
from cloud_service.compression.networks.shape import NetworkShape

EMBEDDING_DROPOUT = 0.1
HEAD_DROPOUT = 0.1
INITIALIZER_RANGE = 0.02


@dataclass(frozen=True)
class Reading:
    """What a network makes of a batch.

    `logits` float32 [batch, labels]; `pooled` float32 [batch, hidden], the state that the head reads.
    """

    logits: Tensor
    pooled: Tensor


class TextClassifier(nn.Module, ABC):
    """Token ids to label logits. Padding is on the right and changes no valid token's state.

    Batches hold what is given alone: the network itself puts its shape's prefix in front.

    Parameters have transformers' own names, behind `body.` for the network and `head.` for the label head.
    """

    def __init__(self, shape: NetworkShape, body: nn.Module, label_count: int) -> None:
        super().__init__()
        self.shape = shape
        self.body = body
        self.head_dropout = nn.Dropout(HEAD_DROPOUT)
        self.head = nn.Linear(shape.hidden_size, label_count)
        _initialize(self)

    @abstractmethod
    def pool(self, batch: TokenBatch) -> Tensor:
        """The state that the head reads, float32 [batch, hidden]; `batch` has the prefix already."""

    def read(self, batch: TokenBatch) -> Reading:
        """Logits and what they were read from."""
        pooled = self.pool(batch.after(self.shape.prefix))
        return Reading(cast(Tensor, self.head(self.head_dropout(pooled))), pooled)

    def forward(self, batch: TokenBatch) -> Tensor:
        """Logits, float32 [batch, labels]."""
        return self.read(batch).logits

    @property
    def label_count(self) -> int:
        """How many labels the head knows."""
        return self.head.out_features


def _initialize(module: nn.Module) -> None:
    """Fresh weights as both families are pre-trained from: normal matrices, zero biases."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=INITIALIZER_RANGE)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)


def valid_mean(states: Tensor, batch: TokenBatch) -> Tensor:
    """The mean of `states` [batch, sequence, hidden] over each row's valid tokens, [batch, hidden]."""
    weights = batch.attention_mask()[..., None].to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def last_valid(states: Tensor, batch: TokenBatch) -> Tensor:
    """The state of each row's last valid token, [batch, hidden]."""
    return states[torch.arange(len(batch.lengths)), batch.lengths - 1]
