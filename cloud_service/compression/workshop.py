"""What every stage of model making shares, and where each keeps its work.

A stage's folder carries a digest of all that went into it, so a rerun finds what is done and a changed
setting starts only what depends on it anew.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel
from tokenizers import Tokenizer

from cloud_service.compression.config import ModelConfig
from cloud_service.compression.dataset import Splits, dataset_folder, load_splits
from cloud_service.compression.encoding import encode_texts
from cloud_service.compression.progress import ProgressReport
from cloud_service.compression.teacher import encoder_folder, load_encoder_tokenizer
from cloud_service.compression.vocabulary import Vocabulary, build_tokenizer, reduce_vocabulary

DIGEST_CHARACTERS = 12


@dataclass(frozen=True)
class Workshop:
    """Settings, data and tokenizers of one run."""

    config: ModelConfig
    splits: Splits
    encoder: Path
    encoder_tokenizer: Tokenizer
    vocabulary: Vocabulary
    tokenizer: Tokenizer
    report: ProgressReport

    def validation_sequences(self) -> list[list[int]]:
        """The validation part in the students' token ids."""
        return encode_texts(self.tokenizer, self.splits.validation.texts)

    def stage_folder(self, stage: str, *inputs: BaseModel | Path | int | str) -> Path:
        """Where `stage` works, given all `inputs` that decide its result (an earlier stage by its folder)."""
        state = hashlib.sha256()
        for part in (self.config.seed, self.splits.train.digest(), self.config.data.max_length, *inputs):
            state.update(_identity(part).encode() + b"\0")
        return self.config.work_dir / f"{stage}-{state.hexdigest()[:DIGEST_CHARACTERS]}"


def open_workshop(config: ModelConfig, report: ProgressReport) -> Workshop:
    """Read the data set and cut the vocabulary.

    Raises:
        DatasetError: the data set is not there or cannot be split as asked.
        CompressionError: the encoder's package is not installed.
    """
    data = config.data
    splits = load_splits(dataset_folder(data.dataset), data.validation_rows, data.calibration_rows, config.seed)
    encoder = encoder_folder()
    encoder_tokenizer = load_encoder_tokenizer(encoder, data.max_length)
    vocabulary = reduce_vocabulary(encoder_tokenizer, splits.train.texts, config.vocabulary_size)
    return Workshop(
        config=config,
        splits=splits,
        encoder=encoder,
        encoder_tokenizer=encoder_tokenizer,
        vocabulary=vocabulary,
        tokenizer=build_tokenizer(vocabulary, data.max_length),
        report=report,
    )


def _identity(part: BaseModel | Path | int | str) -> str:
    if isinstance(part, BaseModel):
        return part.model_dump_json()
    return part.name if isinstance(part, Path) else str(part)
