"""What `cloud-service model train` reads: one TOML file, parsed into frozen models at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.errors import ConfigurationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Positive = Annotated[int, Field(gt=0)]
Ratio = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A table of the file: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(Section):
    """Where the questions come from and how the training file is split."""

    dataset: str = "banking77"
    validation_rows: Positive = 500
    calibration_rows: Positive = 1200
    max_length: Positive = 64  # tokens, [CLS] and [SEP] among them


class TrainingConfig(Section):
    """One training run."""

    epochs: Positive
    batch_size: Positive = 32
    learning_rate: float = Field(gt=0.0)
    head_learning_rate: float = Field(default=1e-3, gt=0.0)
    weight_decay: float = Field(default=0.01, ge=0.0)
    warmup_ratio: Ratio = 0.1  # of all steps
    label_weight: Ratio = 1.0  # of cross-entropy; the rest is distillation
    distillation_temperature: float = Field(default=2.0, gt=0.0)
    augmented_copies: int = Field(default=0, ge=0)  # rewritten questions per original, each epoch


class ShapeConfig(Section):
    """The size of an ERNIE-4.5 classifier."""

    layers: Positive
    hidden_size: Positive = 384
    attention_heads: Positive = 12
    key_value_heads: Positive = 4
    head_size: Annotated[int, Field(gt=0, multiple_of=16)] = 32  # ONNX Runtime's attention takes no other
    ffn_size: Positive = 1024


class TeacherConfig(Section):
    """The fine-tuned sentence encoder that teaches both models."""

    training: TrainingConfig


class StudentConfig(Section):
    """The full model or its edge descendant."""

    version: str = "1.0.0"
    shape: ShapeConfig
    training: TrainingConfig


class CalibrationConfig(Section):
    """What the gate's certificate promises."""

    delta: float = Field(default=0.1, gt=0.0, lt=1.0)
    alphas: tuple[float, ...] = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.10, 0.15, 0.20)
    error_alpha: float = 0.05  # in force at first
    disagreement_alpha: float = 0.05  # in force at first

    @model_validator(mode="after")
    def _in_force_is_on_the_grid(self) -> CalibrationConfig:
        for key in ("error_alpha", "disagreement_alpha"):
            if getattr(self, key) not in self.alphas:
                raise ValueError(f"{key} must be one of alphas")
        return self


class ModelConfig(Section):
    """The whole file."""

    name: str
    seed: int = 0
    vocabulary_size: Positive = 8000
    augmentation_pool_copies: int = Field(default=4, ge=0)
    work_dir: Path  # checkpoints and intermediate results; relative to the file
    bundles_dir: Path  # where the bundles are written; relative to the file
    golden_texts: tuple[str, ...] = Field(min_length=1)  # what a device answers to prove a bundle works there
    data: DataConfig = DataConfig()
    teacher: TeacherConfig
    full: StudentConfig
    edge: StudentConfig
    calibration: CalibrationConfig = CalibrationConfig()


def load_config(path: Path) -> ModelConfig:
    """Parse and validate a configuration file; its relative folders are resolved against its own.

    Raises:
        ConfigurationError: the file is missing, is not TOML, or has an unknown key or a wrong value
            (the message names the file and each key).
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path}: no such configuration file") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from error
    try:
        config = ModelConfig.model_validate(document)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {_describe(error)}") from error
    home = path.resolve().parent
    return config.model_copy(
        update={
            "work_dir": (home / config.work_dir).resolve(),
            "bundles_dir": (home / config.bundles_dir).resolve(),
        }
    )


def _describe(error: ValidationError) -> str:
    problems = []
    for entry in error.errors():
        key = ".".join(str(part) for part in entry["loc"])
        kind = "unknown key" if entry["type"] == "extra_forbidden" else entry["msg"].lower()
        problems.append(f"{key}: {kind}")
    return "; ".join(problems)
