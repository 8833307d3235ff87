"""From a causal language model's checkpoint to a folder that generates: one graph for prompts, one for what follows."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from cloud_service.compression.checkpoints.reading import TOKENIZER_NAME, Checkpoint, read_checkpoint
from cloud_service.compression.errors import ExportError
from cloud_service.compression.graphs.blocks import Blocks
from cloud_service.compression.graphs.formats import Float32Weights, Int8Dynamic, WeightFormat
from cloud_service.compression.graphs.generation import GenerationPair, write_generation_pair
from cloud_service.compression.graphs.source import GraphSource
from cloud_service.compression.graphs.vocabulary import BlockVocabulary, FloatVocabulary, VocabularyFormat
from cloud_service.compression.graphs.writer import LEAST_ONNXRUNTIME, OPSET
from cloud_service.compression.networks.shape import Family
from cloud_service.compression.sources import open_tokenizer
from shared.bundle import FileEntry, Requirements, Role
from shared.bundle.writer import file_entry
from shared.documents import Document, canonical_json
from shared.folders import replacing_folder

GENERATOR_NAME = "generator.json"
GENERATOR_FORMAT = 1


class GeneratorPrecision(str, Enum):
    """How a generator computes: a prompt in dynamic INT8 and what follows in 4-bit blocks, or all in FP32."""

    MIXED = "mixed"
    FP32 = "fp32"


@dataclass(frozen=True)
class Precisions(Document):
    """The weight format of each graph, and of the vocabulary that they share."""

    prefill: str
    decode: str
    vocabulary: str


@dataclass(frozen=True)
class Generator(Document):
    """`generator.json`: the network, its two graphs over one cache, and every file.

    `key_value_heads`: of each layer; the cache of layer N is `past_key_values.N.key` and `.value`, float32 [batch,
    key_value_heads, tokens, head_size]. `max_length`: tokens of prompt and answer together.
    """

    family: Family
    layers: int
    key_value_heads: tuple[int, ...]
    head_size: int
    max_length: int
    vocabulary_size: int
    precisions: Precisions
    prefill: str
    decode: str
    tokenizer: str | None
    requires: Requirements
    files: tuple[FileEntry, ...]
    format: int = GENERATOR_FORMAT

    @property
    def size_bytes(self) -> int:
        """All files together, this document apart."""
        return sum(entry.length for entry in self.files)


@dataclass(frozen=True)
class _Formats:
    prefill: WeightFormat
    decode: WeightFormat
    vocabulary: VocabularyFormat

    def named(self) -> Precisions:
        return Precisions(self.prefill.name, self.decode.name, self.vocabulary.name)


def write_generator(
    checkpoint_folder: Path,
    destination: Path,
    precision: GeneratorPrecision = GeneratorPrecision.MIXED,
    block_size: int = 128,
    max_length: int | None = None,
) -> Generator:
    """Write the generator of the checkpoint in `checkpoint_folder` to the folder `destination`; an older one goes.

    `block_size`: weights that share a scale in the decoder's 4 bits. `max_length`: tokens, by default
    as many as the network can take. Without a tokenizer.json in the checkpoint the generator has none.

    Raises:
        CheckpointError: the checkpoint, or its tokenizer, cannot be read.
        ExportError: the network does not generate or does not fit the blocks, or `destination` holds something else.
        OSError: the disk is full or not writable; an older generator stays.
    """
    formats = _formats(precision, block_size)
    _check_destination(destination)
    checkpoint = read_checkpoint(checkpoint_folder, max_length)
    _check_network(checkpoint_folder, checkpoint)
    source = GraphSource(checkpoint.shape, checkpoint.weights)
    with replacing_folder(destination.resolve()) as folder:
        pair = write_generation_pair(source, formats.prefill, formats.decode, folder, formats.vocabulary)
        tokenizer = _copy_tokenizer(checkpoint, folder)
        generator = _described(checkpoint, pair, tokenizer, formats.named())
        (folder / GENERATOR_NAME).write_bytes(canonical_json(generator))
    return generator


def _formats(precision: GeneratorPrecision, block_size: int) -> _Formats:
    if precision is GeneratorPrecision.FP32:
        return _Formats(Float32Weights(), Float32Weights(), FloatVocabulary())
    return _Formats(Int8Dynamic(), Blocks(4, block_size), BlockVocabulary())


def _check_destination(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"{folder}: is no folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / GENERATOR_NAME).is_file():
        raise ExportError(f"{folder}: holds something else than a generator; name a new folder")


def _check_network(folder: Path, checkpoint: Checkpoint) -> None:
    shape = checkpoint.shape
    if shape.family is not Family.ERNIE:
        raise ExportError(f"{folder}: {shape.family.value} does not generate; take an Ernie4_5ForCausalLM checkpoint")
    if checkpoint.labels or shape.prefix:
        raise ExportError(f"{folder}: is a classifier; take an Ernie4_5ForCausalLM checkpoint")
    if checkpoint.tokenizer is not None:
        pieces = open_tokenizer(checkpoint, shape.max_length).get_vocab_size()
        if pieces > shape.vocabulary_size:
            raise ExportError(f"{checkpoint.tokenizer}: has {pieces} pieces, the network {shape.vocabulary_size}")


def _copy_tokenizer(checkpoint: Checkpoint, folder: Path) -> Path | None:
    if checkpoint.tokenizer is None:
        return None
    return Path(shutil.copyfile(checkpoint.tokenizer, folder / TOKENIZER_NAME))


def _described(
    checkpoint: Checkpoint, pair: GenerationPair, tokenizer: Path | None, precisions: Precisions
) -> Generator:
    shape, graphs = checkpoint.shape, (pair.prefill, pair.decode)
    weights = pair.decode
    entries = [_entry(Role.GRAPH, files.graph) for files in graphs]
    entries.append(_entry(Role.WEIGHTS, weights.weights, weights.borders))
    entries += [_entry(Role.TOKENIZER, tokenizer)] if tokenizer is not None else []
    return Generator(
        family=shape.family,
        layers=len(shape.layers),
        key_value_heads=tuple(layer.key_value_heads for layer in shape.layers),
        head_size=shape.head_size,
        max_length=shape.max_length,
        vocabulary_size=shape.vocabulary_size,
        precisions=precisions,
        prefill=pair.prefill.graph.name,
        decode=pair.decode.graph.name,
        tokenizer=tokenizer.name if tokenizer is not None else None,
        requires=Requirements(LEAST_ONNXRUNTIME, OPSET, _all_of(files.contrib_operators for files in graphs)),
        files=tuple(sorted(entries, key=lambda entry: entry.path)),
    )


def _entry(role: Role, path: Path, borders: tuple[int, ...] = ()) -> FileEntry:
    return file_entry(path.name, role, path.read_bytes(), borders)


def _all_of(operators: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted({name for names in operators for name in names}))
