"""A network to a checkpoint's folder: what `save_pretrained` writes, and what transformers has no word for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from cloud_service.compression.checkpoints import config as keys
from cloud_service.compression.checkpoints import layout
from cloud_service.compression.checkpoints.layout import HEAD_WEIGHT, LM_HEAD, SEGMENTS, Naming
from cloud_service.compression.checkpoints.reading import TOKENIZER_NAME
from cloud_service.compression.checkpoints.shards import WEIGHTS_NAME, listed
from cloud_service.compression.durable import replace_durably, write_durably, writing
from cloud_service.compression.errors import CheckpointError
from cloud_service.compression.networks.shape import Family, NetworkShape, Pooling

_POOLINGS = {Family.ERNIE: (Pooling.LAST,), Family.BERT: (Pooling.MEAN, Pooling.POOLER)}

Arrays = Mapping[str, NDArray[np.float32]]


def write_checkpoint(
    folder: Path, shape: NetworkShape, weights: Arrays, labels: tuple[str, ...], tokenizer: Path | None
) -> None:
    """Write config.json, model.safetensors in float32 and, where given, tokenizer.json into `folder`.

    `weights` are under this package's names, as `read_checkpoint` gives them and reads them back bit for
    bit. transformers reads the folder too where the architecture is its own: uniform layers, of which a
    BERT's heads together are as wide as its states. Mean pooling and a prefix are kept under keys that
    transformers ignores, and so is a head on ERNIE's last token. config.json is written last, so a folder
    that has one is whole.

    Raises:
        CheckpointError: weights, labels and shape do not belong together.
        WriteError: a file cannot be written.
    """
    _check(shape, weights, labels)
    document = json.dumps(_document(shape, weights, labels), indent=2, ensure_ascii=False) + "\n"
    tokenizer_bytes = tokenizer.read_bytes() if tokenizer is not None else None
    folder.mkdir(parents=True, exist_ok=True)
    # An older config.json must not describe the new weights, should this be cut short.
    (folder / keys.CONFIG_NAME).unlink(missing_ok=True)
    _write_weights(folder / WEIGHTS_NAME, shape.family, weights)
    if tokenizer_bytes is not None:
        write_durably(folder / TOKENIZER_NAME, tokenizer_bytes)
    else:
        (folder / TOKENIZER_NAME).unlink(missing_ok=True)
    write_durably(folder / keys.CONFIG_NAME, document.encode())


def _check(shape: NetworkShape, weights: Arrays, labels: tuple[str, ...]) -> None:
    if shape.pooling not in _POOLINGS[shape.family]:
        raise CheckpointError(f"{shape.family.value} cannot have pooling {shape.pooling.value}")
    if shape.family is Family.BERT and any(layer.attention_heads != layer.key_value_heads for layer in shape.layers):
        raise CheckpointError("bert has as many key/value heads as attention heads")
    if shape.family is Family.BERT and shape.prefix:
        raise CheckpointError("bert has no prefix: what it computes of one depends on the text")
    if labels and (len(labels) < 2 or len(set(labels)) != len(labels)):
        raise CheckpointError("labels must be two or more, each named once")
    expected = layout.body_shapes(shape, _type_vocabulary_size(weights))
    if labels:
        expected |= layout.head_shapes(shape, len(labels))
    if shape.family is Family.ERNIE and LM_HEAD in weights:
        expected[LM_HEAD] = (shape.vocabulary_size, shape.hidden_size)
    unlike = [
        name
        for name in sorted(expected.keys() | weights.keys())
        if name not in expected or name not in weights or weights[name].shape != expected[name]
    ]
    if unlike:
        raise CheckpointError(f"missing, unexpected or not of the network's shape: {listed(unlike)}")


def _document(shape: NetworkShape, weights: Arrays, labels: tuple[str, ...]) -> dict[str, object]:
    first = shape.layers[0]
    ernie = shape.family is Family.ERNIE
    document: dict[str, object] = {
        "architectures": [_architecture(shape.family, HEAD_WEIGHT in weights)],
        "model_type": shape.family.value,
        "dtype": "float32",
        "vocab_size": shape.vocabulary_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": first.ffn_size,
        "num_hidden_layers": len(shape.layers),
        "num_attention_heads": first.attention_heads,
        "max_position_embeddings": shape.max_length,
        "tie_word_embeddings": LM_HEAD not in weights,
        "pad_token_id": 0,
    }
    document |= _ernie_part(shape) if ernie else _bert_part(shape, _type_vocabulary_size(weights))
    if len(set(shape.layers)) > 1:
        document[keys.LAYERS_KEY] = [vars(layer) for layer in shape.layers]
    if shape.prefix:
        document[keys.PREFIX_KEY] = list(shape.prefix)
    if labels:
        document["id2label"] = {str(index): label for index, label in enumerate(labels)}
        document["label2id"] = {label: index for index, label in enumerate(labels)}
    return document


def _architecture(family: Family, has_head: bool) -> str:
    base = "Ernie4_5" if family is Family.ERNIE else "Bert"
    if has_head:
        return base + keys.CLASSIFIER_SUFFIX
    return base + ("ForCausalLM" if family is Family.ERNIE else "Model")


def _ernie_part(shape: NetworkShape) -> dict[str, object]:
    return {
        "head_dim": shape.head_size,
        "num_key_value_heads": shape.layers[0].key_value_heads,
        "hidden_act": "silu",
        "use_bias": False,
        "rms_norm_eps": shape.norm_epsilon,
        # transformers 4 reads the first, 5 the second.
        "rope_theta": shape.rope_theta,
        "rope_parameters": {"rope_theta": shape.rope_theta, "rope_type": "default"},
    }


def _bert_part(shape: NetworkShape, type_vocabulary_size: int) -> dict[str, object]:
    part: dict[str, object] = {
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "layer_norm_eps": shape.norm_epsilon,
        "type_vocab_size": type_vocabulary_size,
        keys.POOLING_KEY: shape.pooling.value,
    }
    if shape.head_size * shape.layers[0].attention_heads != shape.hidden_size:
        part[keys.HEAD_SIZE_KEY] = shape.head_size
    return part


def _type_vocabulary_size(weights: Arrays) -> int:
    """How many token types BERT's embeddings have; 0 where there are none."""
    return len(weights[SEGMENTS]) if SEGMENTS in weights else 0


def _write_weights(path: Path, family: Family, weights: Arrays) -> None:
    headless = family is Family.BERT and HEAD_WEIGHT not in weights
    naming = Naming(family, prefixed=not headless)
    partial = path.with_name(path.name + ".partial")
    stored = {naming.stored(name): np.ascontiguousarray(value, np.float32) for name, value in sorted(weights.items())}
    # transformers refuses files that do not say that they are PyTorch's.
    with writing(partial):
        save_file(stored, partial, metadata={"format": "pt"})
        replace_durably(partial, path)
