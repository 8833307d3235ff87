"""What a checkpoint's config.json says, as far as this package can compute it; the rest is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cloud_service.compression.checkpoints.fields import Fields, as_fields, read_fields
from cloud_service.compression.errors import CheckpointError
from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling

CONFIG_NAME = "config.json"
LAYERS_KEY = "tandem_layers"
HEAD_SIZE_KEY = "tandem_head_size"
POOLING_KEY = "tandem_pooling"
PREFIX_KEY = "tandem_prefix"
CLASSIFIER_SUFFIX = "ForSequenceClassification"

_SENTENCE_POOLING = Path("1_Pooling") / CONFIG_NAME
_ERNIE_ROPE_THETA = 500_000.0
_MOST_LAYERS = 1024
_ARCHITECTURES = {
    # The second name is that of the code which ERNIE's own repositories carried before transformers had it.
    "Ernie4_5ForCausalLM": Family.ERNIE,
    "Ernie4_5_ForCausalLM": Family.ERNIE,
    "Ernie4_5Model": Family.ERNIE,
    "Ernie4_5ForSequenceClassification": Family.ERNIE,
    "BertModel": Family.BERT,
    "BertForSequenceClassification": Family.BERT,
    "BertForMaskedLM": Family.BERT,
    "BertForPreTraining": Family.BERT,
}
_Accepted = Mapping[str, tuple[object, ...]]
_ANY_FAMILY: dict[str, tuple[object, ...]] = {
    "quantization_config": (),
    "problem_type": ("single_label_classification",),
    "pruned_heads": ({},),
}
_OF_FAMILY: Mapping[Family, dict[str, tuple[object, ...]]] = {
    Family.ERNIE: {"use_bias": (False,), "hidden_act": ("silu",), "compression_ratio": (1,)},
    Family.BERT: {
        "hidden_act": ("gelu",),
        "position_embedding_type": ("absolute",),
        "is_decoder": (False,),
        "add_cross_attention": (False,),
    },
}


@dataclass(frozen=True)
class StoredConfig:
    """A config.json, read.

    `shape.max_length` is what the network was built for. `pooling_stated` is false where nothing says
    how the states of a text are pooled and `shape.pooling` is the family's habit. `classifies`: the
    architecture's name promises a label head. `labels` is empty where config.json has none.
    """

    shape: NetworkShape
    pooling_stated: bool
    tied: bool
    classifies: bool
    labels: tuple[str, ...]
    type_vocabulary_size: int


def read_config(folder: Path) -> StoredConfig:
    """Read config.json, and 1_Pooling/config.json of sentence-transformers where it is there.

    Raises:
        CheckpointError: it cannot be read, or has an architecture or option that is not supported.
    """
    fields = read_fields(folder / CONFIG_NAME)
    family, classifies = _architecture(fields)
    for name, accepted in (_ANY_FAMILY | _OF_FAMILY[family]).items():
        _require(fields, name, accepted)
    pooling = _stated_pooling(fields, folder, family, classifies)
    return StoredConfig(
        shape=_shape(fields, family, pooling or Pooling.POOLER),
        pooling_stated=pooling is not None,
        tied=fields.flag("tie_word_embeddings", True),
        classifies=classifies,
        labels=_labels(fields),
        type_vocabulary_size=fields.integer("type_vocab_size", 2) if family is Family.BERT else 0,
    )


def _architecture(fields: Fields) -> tuple[Family, bool]:
    """The family, and whether the architecture has a label head."""
    names = fields.items("architectures")
    if not names and fields.values.get("model_type") in {family.value for family in Family}:
        return Family(fields.values["model_type"]), False
    name = str(names[0]) if len(names) == 1 else str(names)
    if name not in _ARCHITECTURES:
        known = ", ".join(_ARCHITECTURES)
        raise CheckpointError(f"{fields.source}: architectures {name} is not supported; these are: {known}")
    family = _ARCHITECTURES[name]
    _require(fields, "model_type", (family.value,))
    return family, name.endswith(CLASSIFIER_SUFFIX)


def _require(fields: Fields, name: str, accepted: tuple[object, ...]) -> None:
    if fields.has(name) and fields.values[name] not in accepted:
        only = " or ".join(repr(value) for value in accepted)
        supported = f"only {only} is" if accepted else "it must be absent"
        raise CheckpointError(f"{fields.source}: {name} {fields.values[name]!r} is not supported; {supported}")


def _shape(fields: Fields, family: Family, pooling: Pooling) -> NetworkShape:
    heads = fields.integer("num_attention_heads")
    hidden = fields.integer("hidden_size")
    ernie = family is Family.ERNIE
    head_size = _head_size(fields, hidden, heads, ernie)
    shape = NetworkShape(
        family=family,
        vocabulary_size=fields.integer("vocab_size"),
        max_length=fields.integer("max_position_embeddings"),
        hidden_size=hidden,
        head_size=head_size,
        layers=_layers(fields, heads, fields.integer("num_key_value_heads", heads) if ernie else heads),
        norm_epsilon=fields.number("rms_norm_eps", 1e-5) if ernie else fields.number("layer_norm_eps", 1e-12),
        pooling=pooling,
        rope_theta=_rope_theta(fields) if ernie else 0.0,
    )
    return shape.with_prefix(_prefix(fields, shape))


def _prefix(fields: Fields, shape: NetworkShape) -> tuple[int, ...]:
    stored = fields.items(PREFIX_KEY)
    prefix = tuple(token for token in stored if isinstance(token, int) and not isinstance(token, bool))
    if len(prefix) != len(stored) or not all(0 <= token < shape.vocabulary_size for token in prefix):
        raise CheckpointError(f"{fields.source}: {PREFIX_KEY} must be ids from 0 to {shape.vocabulary_size - 1}")
    if len(prefix) >= shape.max_length:
        left = f"which leaves none of {shape.max_length} for a text"
        raise CheckpointError(f"{fields.source}: {PREFIX_KEY} has {len(prefix)} tokens, {left}")
    if prefix and shape.family is not Family.ERNIE:
        raise CheckpointError(f"{fields.source}: {PREFIX_KEY} is not supported in {shape.family.value}")
    return prefix


def _head_size(fields: Fields, hidden: int, heads: int, ernie: bool) -> int:
    key = "head_dim" if ernie else HEAD_SIZE_KEY
    if not fields.has(key) and hidden % heads:
        raise CheckpointError(f"{fields.source}: hidden_size {hidden} is no multiple of num_attention_heads {heads}")
    size = fields.integer(key, hidden // heads or None)
    if ernie and size % 2:
        raise CheckpointError(f"{fields.source}: head_dim {size} is odd; rotary embedding turns pairs")
    return size


def _layers(fields: Fields, heads: int, key_value_heads: int) -> tuple[LayerShape, ...]:
    count = fields.integer("num_hidden_layers", most=_MOST_LAYERS)
    layers = (LayerShape(heads, key_value_heads, fields.integer("intermediate_size")),) * count
    if fields.has(LAYERS_KEY):
        layers = tuple(
            _layer(as_fields(f"{fields.source}: {LAYERS_KEY}[{index}]", item))
            for index, item in enumerate(fields.items(LAYERS_KEY))
        )
    if len(layers) != count:
        raise CheckpointError(f"{fields.source}: {LAYERS_KEY} has {len(layers)} layers, num_hidden_layers is {count}")
    for layer in layers:
        if layer.attention_heads % layer.key_value_heads:
            raise CheckpointError(
                f"{fields.source}: {layer.attention_heads} attention heads cannot share "
                f"num_key_value_heads {layer.key_value_heads} equally"
            )
    return layers


def _layer(fields: Fields) -> LayerShape:
    return LayerShape(fields.integer("attention_heads"), fields.integer("key_value_heads"), fields.integer("ffn_size"))


def _rope_theta(fields: Fields) -> float:
    """The rotary base, from transformers 5's `rope_parameters` or the older `rope_theta`."""
    for name in ("rope_scaling", "rope_parameters"):
        if fields.has(name):
            _check_plain_rope(fields.inner(name))
    if fields.has("rope_parameters"):
        return fields.inner("rope_parameters").number("rope_theta", fields.number("rope_theta", _ERNIE_ROPE_THETA))
    return fields.number("rope_theta", _ERNIE_ROPE_THETA)


def _check_plain_rope(rope: Fields) -> None:
    accepted: _Accepted = {"rope_type": ("default",), "type": ("default",), "partial_rotary_factor": (1,)}
    for name in rope.values:
        if name != "rope_theta":
            _require(rope, name, accepted.get(name, ()))


def _stated_pooling(fields: Fields, folder: Path, family: Family, classifies: bool) -> Pooling | None:
    if family is Family.ERNIE:
        return Pooling.LAST
    if fields.has(POOLING_KEY):
        _require(fields, POOLING_KEY, (Pooling.MEAN.value, Pooling.POOLER.value))
        return Pooling(fields.values[POOLING_KEY])
    if classifies:
        return Pooling.POOLER
    if (folder / _SENTENCE_POOLING).exists():
        return _sentence_pooling(read_fields(folder / _SENTENCE_POOLING))
    return None


def _sentence_pooling(fields: Fields) -> Pooling:
    modes = [name for name, value in fields.values.items() if name.startswith("pooling_mode_") and value is True]
    if isinstance(fields.values.get("pooling_mode"), str):
        modes.append(f"pooling_mode {fields.values['pooling_mode']}")
    if modes not in (["pooling_mode_mean_tokens"], ["pooling_mode mean"]):
        raise CheckpointError(f"{fields.source}: {', '.join(modes) or 'no pooling'} is not supported; only mean is")
    return Pooling.MEAN


def _labels(fields: Fields) -> tuple[str, ...]:
    if not fields.has("id2label"):
        return ()
    stored = fields.inner("id2label")
    labels = [stored.values.get(str(index)) for index in range(len(stored.values))]
    names = tuple(label for label in labels if isinstance(label, str) and label)
    if len(names) != len(labels):
        raise CheckpointError(f"{stored.source} must name labels 0 to {len(labels) - 1}")
    if len(set(names)) != len(names):
        raise CheckpointError(f"{stored.source} names a label twice")
    return names
