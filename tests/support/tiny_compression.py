"""What the `model` commands need to run in seconds: a checkpoint of a few kilobytes, made-up data, a configuration."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from cloud_service.compression.checkpoints.writing import write_checkpoint
from cloud_service.compression.cli import add_model_commands
from cloud_service.compression.config import load_config
from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling
from cloud_service.compression.progress import ProgressReport
from cloud_service.compression.training import History
from cloud_service.compression.workshop import Learner, Workshop, open_workshop
from tests.support.random_network import random_network

MAX_LENGTH = 16
SUBJECTS = {"card": "my card", "rate": "an exchange rate", "transfer": "the bank transfer"}
PHRASES = ("where is {}", "tell me about {} please", "help with {} today", "{} is wrong")
WORDS = sorted({word for text in (*PHRASES, *SUBJECTS.values()) for word in text.split() if word != "{}"})
NUMBERS = [str(number) for number in range(60)]
LAYERS = (LayerShape(4, 2, 64), LayerShape(4, 2, 64))
SIZES = {
    Family.ERNIE: (Pooling.LAST, LAYERS, 10_000.0),
    Family.BERT: (Pooling.MEAN, tuple(LayerShape(4, 4, layer.ffn_size) for layer in LAYERS), 0.0),
}

CONFIG = """
name = "tiny"
seed = 5
work_dir = "work"
bundles_dir = "bundles"
golden_texts = ["where is my card", "tell me about an exchange rate", "the bank transfer"]
[data]
train = "train.csv"
validation_rows = 20
calibration_rows = 40
max_length = 16
[full]
checkpoint = "checkpoint"
[full.training]
epochs = 1
batch_size = 16
learning_rate = 1e-3
[prune]
keep_ratio = 0.5
[edge.training]
epochs = 1
batch_size = 16
learning_rate = 1e-3
[tuning]
max_trials = 4
choices = ["fp32", "int8-dynamic"]
[calibration]
alphas = [0.05, 0.2]
"""


def tiny_shape(family: Family) -> NetworkShape:
    """Two layers of width 64."""
    pooling, layers, theta = SIZES[family]
    return NetworkShape(family, len(tiny_tokenizer().get_vocab()), MAX_LENGTH, 64, 16, layers, 1e-5, pooling, theta)


def tiny_tokenizer() -> Tokenizer:
    """A piece for each word of the made-up texts, one for all others."""
    pieces = {piece: number for number, piece in enumerate(["[UNK]", "number", *WORDS, *NUMBERS])}
    tokenizer = Tokenizer(models.WordLevel(pieces, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def write_tiny_checkpoint(folder: Path, family: Family = Family.ERNIE) -> None:
    """A body with random weights and no label head, as one would import it."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny_tokenizer().save(str(folder / "own-tokenizer.json"))
    state = random_network(tiny_shape(family)).state_dict()
    weights = {name: value.numpy() for name, value in state.items() if name.startswith("body.")}
    write_checkpoint(folder, tiny_shape(family), weights, (), folder / "own-tokenizer.json")


def tiny_rows() -> list[tuple[str, str]]:
    """Texts and labels, the labels by turns."""
    return [
        (f"{PHRASES[number % len(PHRASES)].format(words)} number {number}", label)
        for number in range(60)
        for label, words in SUBJECTS.items()
    ]


def write_csv(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    """A training file of `rows`."""
    lines = [f'"{text}",{label}' for text, label in rows]
    path.write_text("\n".join(["text,category", *lines, ""]), encoding="utf-8")


def write_tiny_compression(folder: Path, config: str = CONFIG) -> Path:
    """A checkpoint, data and a configuration in `folder`; returns the configuration's path."""
    write_tiny_checkpoint(folder / "checkpoint")
    write_csv(folder / "train.csv", tiny_rows())
    path = folder / "models.toml"
    path.write_text(config, encoding="utf-8")
    return path


def open_tiny_workshop(folder: Path, config: str = CONFIG) -> Workshop:
    """What the stages share, on the data of `write_tiny_compression`."""
    return open_workshop(load_config(write_tiny_compression(folder, config)), ProgressReport(Progress(disable=True)))


def tiny_learner(workshop: Workshop, family: Family = Family.ERNIE) -> Learner:
    """A classifier with random weights, as though it had been trained in a folder of its own."""
    model = random_network(tiny_shape(family), labels=len(SUBJECTS))
    tokenizer = tiny_tokenizer()
    tokenizer.enable_truncation(MAX_LENGTH)
    return Learner("edge model", model, tokenizer, workshop.config.work_dir / f"edge-{family.value}", History((0.5,)))


def run_model_command(config: Path, action: str = "compress") -> int:
    """The exit code of `cloud-service model ACTION CONFIG`."""
    parser = argparse.ArgumentParser()
    add_model_commands(parser.add_subparsers())
    arguments = parser.parse_args(["model", action, str(config), "--quiet", "--threads", "1"])
    code: int = arguments.handler(arguments)
    return code
