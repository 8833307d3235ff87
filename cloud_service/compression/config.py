"""What `cloud-service model compress` reads: one TOML file, parsed into frozen models at once."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling
from shared.errors import ConfigurationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ERNIE_NORM_EPSILON = 1e-5
ERNIE_ROPE_THETA = 500_000.0

Positive = Annotated[int, Field(gt=0)]
Ratio = Annotated[float, Field(ge=0.0, le=1.0)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
CriticalAlpha = Annotated[float, Field(gt=0.0, lt=1.0)] | Literal["escalate"]


class Section(BaseModel):
    """A table of the file: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(Section):
    """Where the texts come from and how they are split: a data set by name, or CSV files of your own."""

    dataset: str | None = None  # a folder with train.csv and test.csv, looked for under TANDEM_DATASETS
    train: Path | None = None  # relative to the file, like the other two
    test: Path | None = None  # absent: `test_rows` of the training file are set apart instead
    unlabelled: Path | None = None  # one more CSV whose texts teach without labels
    text_column: str = "text"
    label_column: str = "category"
    test_rows: Positive | None = None  # None: a fifth
    validation_rows: Positive | None = None  # None: a tenth, at most 500
    calibration_rows: Positive | None = None  # None: a sixth, at most 1,200
    max_length: Annotated[int, Field(ge=4)] = 64  # tokens, special ones among them

    @model_validator(mode="after")
    def _one_source(self) -> DataConfig:
        if (self.dataset is None) == (self.train is None):
            raise ValueError("say either dataset or train")
        if self.dataset is not None and (self.test is not None or self.test_rows is not None):
            raise ValueError("a data set has a test file of its own: test and test_rows go with train")
        return self


class TrainingConfig(Section):
    """One training run."""

    epochs: Positive
    batch_size: Positive = 32
    learning_rate: float = Field(gt=0.0)
    head_learning_rate: float = Field(default=1e-3, gt=0.0)
    weight_decay: float = Field(default=0.01, ge=0.0)
    warmup_ratio: Ratio = 0.1  # of all steps
    patience: Positive | None = None  # epochs without a better one until training stops early
    label_weight: Ratio = 1.0  # of cross-entropy; the rest is distillation, where there is a teacher
    hidden_weight: float = Field(default=0.0, ge=0.0)  # of the pooled state's distance to the first teacher's
    distillation_temperature: float = Field(default=2.0, gt=0.0)
    augmented_copies: int = Field(default=0, ge=0)  # rewritten texts per original, each epoch


class ShapeConfig(Section):
    """The size of an ERNIE-4.5 classifier."""

    layers: Positive
    hidden_size: Positive = 384
    attention_heads: Positive = 12
    key_value_heads: Positive = 4
    head_size: Annotated[int, Field(gt=0, multiple_of=16)] = 32  # ONNX Runtime's attention takes no other
    ffn_size: Positive = 1024

    def network(self, vocabulary_size: int, max_length: int) -> NetworkShape:
        """The whole network's shape; what the file does not say is as ERNIE-4.5 has it."""
        layer = LayerShape(self.attention_heads, self.key_value_heads, self.ffn_size)
        return NetworkShape(
            family=Family.ERNIE,
            vocabulary_size=vocabulary_size,
            max_length=max_length,
            hidden_size=self.hidden_size,
            head_size=self.head_size,
            layers=(layer,) * self.layers,
            norm_epsilon=ERNIE_NORM_EPSILON,
            pooling=Pooling.LAST,
            rope_theta=ERNIE_ROPE_THETA,
        )


class TeacherConfig(Section):
    """A sentence encoder, fine-tuned on the labels, that teaches the other models. May be left out."""

    checkpoint: str  # a folder, or package:NAME for an installed package with a `model` folder
    training: TrainingConfig


class FullConfig(Section):
    """The model that the cloud runs: a checkpoint, trained on if `training` is there, or a new network.

    A checkpoint without a head for these labels needs `training`, or a `prompt` that holds `{text}` once;
    the language model then scores the labels' words after it. With both, training begins with those scores.
    """

    version: str = "1.0.0"
    checkpoint: str | None = None
    shape: ShapeConfig | None = None
    training: TrainingConfig | None = None
    prompt: str | None = None
    label_words: dict[str, str] = {}  # what stands for a label after the prompt; its own name where none is given

    @model_validator(mode="after")
    def _one_beginning(self) -> FullConfig:
        if (self.checkpoint is None) == (self.shape is None):
            raise ValueError("say either checkpoint or shape")
        if self.shape is not None and self.training is None:
            raise ValueError("a new network needs full.training")
        if self.prompt is not None and self.prompt.count("{text}") != 1:
            raise ValueError("prompt must hold {text} exactly once")
        if self.prompt is not None and self.shape is not None:
            raise ValueError("a prompt goes with a checkpoint: a new network has no language model")
        if self.label_words and self.prompt is None:
            raise ValueError("label_words goes with a prompt, after which they stand")
        return self


class VocabularyConfig(Section):
    """How many pieces stay; None keeps all. Pieces that the domain's texts need always stay."""

    size: Positive | None = None


class TargetConfig(Section):
    """What the pruned model may cost; the layers share the cut by importance. Exactly one is given."""

    multiply_accumulates_ratio: Share | None = None  # of the full model's
    bytes: Positive | None = None  # of the INT8 graph's weights
    latency_ms: Annotated[float, Field(gt=0.0)] | None = None  # of one text in INT8, as measured on this machine

    @model_validator(mode="after")
    def _exactly_one(self) -> TargetConfig:
        if sum(value is not None for value in (self.multiply_accumulates_ratio, self.bytes, self.latency_ms)) != 1:
            raise ValueError("say one of multiply_accumulates_ratio, bytes and latency_ms")
        return self


class PruneConfig(Section):
    """What leaves the full model, by ratio or by target."""

    keep_ratio: Share = 1.0  # of each layer's attention heads
    ffn_keep_ratio: Share = 1.0  # of each layer's feed-forward channels
    layers: Positive | None = None  # how many layers stay
    ranking: Literal["taylor", "magnitude", "random"] = "taylor"
    target: TargetConfig | None = None

    @model_validator(mode="after")
    def _ratio_or_target(self) -> PruneConfig:
        if self.target is not None and (self.keep_ratio < 1.0 or self.ffn_keep_ratio < 1.0 or self.layers is not None):
            raise ValueError("a target allots by itself: leave out keep_ratio, ffn_keep_ratio and layers")
        return self


class EdgeConfig(Section):
    """The model that devices run; `training` lets it recover from pruning, taught by the full model."""

    version: str = "1.0.0"
    training: TrainingConfig | None = None


class TuningConfig(Section):
    """What the search for each layer's precision minimises, and what it may lose."""

    objective: Literal["latency", "bytes", "offload"] = "latency"
    tolerance: Ratio = 0.003  # of accuracy on the validation part, against the same model in FP32
    max_bytes: Positive | None = None  # of graph and weights
    choices: tuple[str, ...] = ()  # precisions to try; none named: all
    max_trials: Positive = 60
    max_minutes: Annotated[float, Field(gt=0.0)] = 10.0
    threads: Positive = 1
    latency_table: Path | None = None  # recorded on a device by `edge-agent bench --record`


class CalibrationConfig(Section):
    """What the gate's certificate promises."""

    delta: float = Field(default=0.1, gt=0.0, lt=1.0)
    alphas: tuple[float, ...] = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.10, 0.15, 0.20)
    error_alpha: float = 0.05  # in force at first
    disagreement_alpha: float = 0.05  # in force at first
    critical: dict[str, CriticalAlpha] = {}  # labels whose answers keep an alpha of their own, or are never kept

    @model_validator(mode="after")
    def _in_force_is_on_the_grid(self) -> CalibrationConfig:
        for key in ("error_alpha", "disagreement_alpha"):
            if getattr(self, key) not in self.alphas:
                raise ValueError(f"{key} must be one of alphas")
        for label, alpha in self.critical.items():
            if alpha != "escalate" and alpha > min(self.error_alpha, self.disagreement_alpha):
                raise ValueError(f"the alpha of critical label {label!r} must not be over those in force")
        return self


class CompressConfig(Section):
    """The whole file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    seed: int = Field(default=0, ge=0)
    augmentation_pool_copies: int = Field(default=0, ge=0)
    work_dir: Path  # checkpoints and intermediate results; relative to the file
    bundles_dir: Path  # where the bundles are written; relative to the file
    golden_texts: tuple[str, ...] = ()  # what a device answers to prove a bundle; none: some of the validation part
    data: DataConfig
    teacher: TeacherConfig | None = None
    full: FullConfig
    vocabulary: VocabularyConfig = VocabularyConfig()
    prune: PruneConfig = PruneConfig()
    edge: EdgeConfig = EdgeConfig()
    tuning: TuningConfig = TuningConfig()
    calibration: CalibrationConfig = CalibrationConfig()

    @model_validator(mode="after")
    def _a_new_network_learns_from_a_teacher(self) -> CompressConfig:
        if self.full.shape is not None and self.teacher is None:
            raise ValueError("full.shape needs a [teacher], whose word vectors and opinions it learns from")
        return self


def load_config(path: Path) -> CompressConfig:
    """Parse and validate a configuration file; its relative paths are resolved against its own folder.

    Raises:
        ConfigurationError: the file is missing, is not TOML, or has an unknown key or a wrong value
            (the message names the file and each key).
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path}: no such configuration file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from error
    try:
        config = CompressConfig.model_validate(document)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {_describe(error)}") from error
    return _resolved(config, path.resolve().parent)


def _resolved(config: CompressConfig, home: Path) -> CompressConfig:
    data = {key: _below(home, getattr(config.data, key)) for key in ("train", "test", "unlabelled")}
    table = _below(home, config.tuning.latency_table)
    return config.model_copy(
        update={
            "work_dir": (home / config.work_dir).resolve(),
            "bundles_dir": (home / config.bundles_dir).resolve(),
            "data": config.data.model_copy(update=data),
            "tuning": config.tuning.model_copy(update={"latency_table": table}),
            "full": config.full.model_copy(update={"checkpoint": _checkpoint(home, config.full.checkpoint)}),
            "teacher": config.teacher
            and config.teacher.model_copy(update={"checkpoint": _checkpoint(home, config.teacher.checkpoint)}),
        }
    )


def _below(home: Path, path: Path | None) -> Path | None:
    return None if path is None else (home / path).resolve()


def _checkpoint(home: Path, name: str | None) -> str | None:
    return name if name is None or name.startswith("package:") else str((home / name).resolve())


def _describe(error: ValidationError) -> str:
    problems = []
    for entry in error.errors():
        key = ".".join(str(part) for part in entry["loc"])
        kind = _unknown_key(entry["loc"]) if entry["type"] == "extra_forbidden" else entry["msg"].lower()
        problems.append(f"{key}: {kind}" if key else kind)
    return "; ".join(problems)


def _unknown_key(place: tuple[int | str, ...]) -> str:
    section: type[BaseModel] | None = CompressConfig
    for part in place[:-1]:
        section = section and _section_of(section, str(part))
    near = difflib.get_close_matches(str(place[-1]), section.model_fields if section else (), n=1)
    return f"unknown key, did you mean {near[0]}?" if near else "unknown key"


def _section_of(section: type[BaseModel], key: str) -> type[BaseModel] | None:
    annotation = section.model_fields[key].annotation
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
