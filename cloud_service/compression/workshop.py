"""What every stage of model making shares, and where each keeps its work.

A stage's folder carries a digest of all that went into it, so a rerun finds what is done and a changed
setting starts only what depends on it anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel
from tokenizers import Tokenizer

from cloud_service.compression.augmentation import rewritten_texts
from cloud_service.compression.config import CompressConfig
from cloud_service.compression.dataset import Questions, Splits, load_splits
from cloud_service.compression.distillation import Opinion
from cloud_service.compression.encoding import encode_texts
from cloud_service.compression.evaluation import accuracy, compute_logits, compute_opinion
from cloud_service.compression.networks.classifier import TextClassifier
from cloud_service.compression.progress import ProgressReport
from cloud_service.compression.tensors import load_weights, save_weights
from cloud_service.compression.training import History

DIGEST_CHARACTERS = 12

StageInput = BaseModel | Path | int | str | None


@dataclass(frozen=True)
class Learner:
    """A classifier on its way: its tokenizer (truncating, not padding), its stage's folder, and how it did."""

    name: str
    model: TextClassifier
    tokenizer: Tokenizer
    folder: Path
    history: History

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        return encode_texts(self.tokenizer, texts)


@dataclass(frozen=True)
class Workshop:
    """Settings and data of one run."""

    config: CompressConfig
    splits: Splits
    report: ProgressReport

    def stage_folder(self, stage: str, *inputs: StageInput) -> Path:
        """Where `stage` works, given all `inputs` that decide its result (an earlier stage by its folder)."""
        state = hashlib.sha256()
        for part in (self.config.seed, self.splits.digest(), self.config.data.max_length, *inputs):
            state.update(_identity(part).encode() + b"\0")
        return self.config.work_dir / f"{stage}-{state.hexdigest()[:DIGEST_CHARACTERS]}"

    def lesson_texts(self) -> list[str]:
        """The train part, the unlabelled texts, then rewritten copies of them all."""
        originals = [*self.splits.train.texts, *self.splits.unlabelled]
        return originals + rewritten_texts(originals, self.config.augmentation_pool_copies, self.config.seed)

    def accuracy_on(self, part: Questions, model: TextClassifier, tokenizer: Tokenizer) -> float:
        """How often `model` is right on a part of the data; never, where its logits are not finite."""
        logits = compute_logits(model, encode_texts(tokenizer, part.texts))
        return accuracy(logits, part.label_ids) if np.isfinite(logits).all() else 0.0

    def opinion_of(self, learner: Learner, texts: list[str]) -> Opinion:
        """What `learner` makes of `texts`, computed once and kept in its folder."""
        digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:DIGEST_CHARACTERS]
        path = learner.folder / f"opinions-{digest}.safetensors"
        if not path.is_file():
            bar = self.report.start(f"asking the {learner.name}", len(texts))
            opinion = compute_opinion(learner.model, learner.encode(texts), lambda count: self.report.step(bar, count))
            self.report.finish(bar)
            logits, pooled = torch.from_numpy(opinion.logits), torch.from_numpy(opinion.pooled)
            save_weights(path, {"logits": logits, "pooled": pooled})
        kept = load_weights(path)
        return Opinion(kept["logits"].numpy(), kept["pooled"].numpy())


def open_workshop(config: CompressConfig, report: ProgressReport) -> Workshop:
    """Read the data set.

    Raises:
        DatasetError: the data set is not there or cannot be split as asked.
    """
    return Workshop(config, load_splits(config.data, config.seed), report)


def _identity(part: StageInput) -> str:
    if isinstance(part, BaseModel):
        return part.model_dump_json()
    return part.name if isinstance(part, Path) else str(part)
