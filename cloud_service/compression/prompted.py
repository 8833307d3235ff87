"""A classifier without a trained head: the language model scores each label's word after a prompt."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer

from cloud_service.compression.checkpoints.labels import label_scoring_head
from cloud_service.compression.checkpoints.prompt import prompt_tokenizer
from cloud_service.compression.checkpoints.reading import Checkpoint
from cloud_service.compression.config import FullConfig
from cloud_service.compression.errors import CheckpointError
from cloud_service.compression.networks.build import classifier_of
from cloud_service.compression.networks.classifier import TextClassifier
from cloud_service.compression.sources import open_tokenizer

SAMPLE_TEXT = "a"


def prompted_classifier(
    checkpoint: Checkpoint, plan: FullConfig, labels: tuple[str, ...], max_length: int
) -> tuple[TextClassifier, Tokenizer]:
    """The classifier, and the tokenizer that gives a text and what the prompt has after it.

    What the prompt has before the text is the network's prefix.

    Raises:
        CheckpointError: the checkpoint is no language model, has no tokenizer, `label_words` names a
            label that the data has not, or two labels' words begin with the same token.
    """
    assert plan.prompt is not None, "only a prompt makes a prompted classifier"
    strangers = sorted(set(plan.label_words) - set(labels))
    if strangers:
        raise CheckpointError(f"full.label_words names labels that the data has not: {', '.join(strangers)}")
    words = [plan.label_words.get(label, label) for label in labels]
    own = open_tokenizer(checkpoint, max_length)
    own.no_truncation()
    weight, bias = label_scoring_head(checkpoint, [_continuation(own, plan.prompt, word) for word in words])
    body = {name: torch.from_numpy(value) for name, value in checkpoint.weights.items() if name.startswith("body.")}
    head = {"head.weight": torch.from_numpy(weight), "head.bias": torch.from_numpy(bias)}
    assert checkpoint.tokenizer is not None, "it was opened above"
    prompted = prompt_tokenizer(checkpoint.tokenizer, plan.prompt, max_length)
    return classifier_of(checkpoint.shape.with_prefix(prompted.prefix), body | head), prompted.tokenizer


def _continuation(tokenizer: Tokenizer, prompt: str, word: str) -> list[int]:
    """The ids by which `word` goes on after the prompt, joined as it stands there."""
    before = prompt.replace("{text}", SAMPLE_TEXT)
    begun = tokenizer.encode(before, add_special_tokens=False).ids
    whole = tokenizer.encode(f"{before}{word}", add_special_tokens=False).ids
    shared = next((i for i, (a, b) in enumerate(zip(begun, whole, strict=False)) if a != b), len(begun))
    return whole[shared:]
