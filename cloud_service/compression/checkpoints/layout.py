"""Which tensors a network has, under this package's names and under those of `save_pretrained`.

Here a body's tensors begin with `body.`, a label head is `head.weight` and `head.bias`, and an untied
language-model head is `lm_head.weight`; matrices are [out, in].
"""

from __future__ import annotations

from dataclasses import dataclass

from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling

POSITIONS = "body.embeddings.position_embeddings.weight"
SEGMENTS = "body.embeddings.token_type_embeddings.weight"
LM_HEAD = "lm_head.weight"
HEAD_WEIGHT = "head.weight"
HEAD_BIAS = "head.bias"
EMBEDDINGS = {
    Family.ERNIE: "body.embed_tokens.weight",
    Family.BERT: "body.embeddings.word_embeddings.weight",
}

TensorShapes = dict[str, tuple[int, ...]]

_BODY = {Family.ERNIE: "model.", Family.BERT: "bert."}
_HEAD = {Family.ERNIE: "score.", Family.BERT: "classifier."}
_BUFFERS = ("position_ids", "token_type_ids", "rotary_emb.inv_freq")
# The names that BERT's first checkpoints, converted from TensorFlow, gave to a norm's parts.
_FIRST_NORM_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


@dataclass(frozen=True)
class Naming:
    """How one checkpoint names its tensors. `prefixed`: its body's names have transformers' prefix."""

    family: Family
    prefixed: bool

    @classmethod
    def of(cls, family: Family, stored: list[str]) -> Naming:
        """The naming that a checkpoint with these tensors uses."""
        return cls(family, any(name.startswith(_BODY[family]) for name in stored))

    def canonical(self, stored: str) -> str:
        """This package's name of a stored tensor; a name that fits nowhere stays as it is."""
        head, prefix = _HEAD[self.family], _BODY[self.family] if self.prefixed else ""
        if stored.startswith(head):
            return "head." + stored.removeprefix(head)
        if stored == LM_HEAD or not stored.startswith(prefix):
            return stored
        name = "body." + stored.removeprefix(prefix)
        for first, later in _FIRST_NORM_NAMES.items() if self.family is Family.BERT else ():
            name = name.removesuffix(first) + later if name.endswith(first) else name
        return name

    def stored(self, canonical: str) -> str:
        """What `save_pretrained` calls the tensor."""
        if canonical.startswith("head."):
            return _HEAD[self.family] + canonical.removeprefix("head.")
        if canonical.startswith("body."):
            return (_BODY[self.family] if self.prefixed else "") + canonical.removeprefix("body.")
        return canonical


def is_left_out(stored: str, shape: NetworkShape) -> bool:
    """Whether a stored tensor plays no part: a buffer, BERT's pretraining heads, a pooler that is not read."""
    if stored.endswith(_BUFFERS):
        return True
    if shape.family is Family.ERNIE:
        return False
    pooler = stored.removeprefix(_BODY[Family.BERT]).startswith("pooler.")
    return stored.startswith("cls.") or (pooler and shape.pooling is not Pooling.POOLER)


def body_shapes(shape: NetworkShape, type_vocabulary_size: int) -> TensorShapes:
    """Every tensor of the body, by name; `type_vocabulary_size` is BERT's number of token types."""
    if shape.family is Family.ERNIE:
        return _ernie_shapes(shape)
    return _bert_shapes(shape, type_vocabulary_size)


def head_shapes(shape: NetworkShape, labels: int) -> TensorShapes:
    """The label head's tensors."""
    return {HEAD_WEIGHT: (labels, shape.hidden_size), HEAD_BIAS: (labels,)}


def _ernie_shapes(shape: NetworkShape) -> TensorShapes:
    hidden = shape.hidden_size
    shapes: TensorShapes = {"body.embed_tokens.weight": (shape.vocabulary_size, hidden), "body.norm.weight": (hidden,)}
    for index, layer in enumerate(shape.layers):
        query, key = layer.attention_heads * shape.head_size, layer.key_value_heads * shape.head_size
        parts: TensorShapes = {
            "self_attn.q_proj": (query, hidden),
            "self_attn.k_proj": (key, hidden),
            "self_attn.v_proj": (key, hidden),
            "self_attn.o_proj": (hidden, query),
            "mlp.gate_proj": (layer.ffn_size, hidden),
            "mlp.up_proj": (layer.ffn_size, hidden),
            "mlp.down_proj": (hidden, layer.ffn_size),
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
        }
        shapes.update({f"body.layers.{index}.{name}.weight": size for name, size in parts.items()})
    return shapes


def _bert_shapes(shape: NetworkShape, type_vocabulary_size: int) -> TensorShapes:
    hidden = shape.hidden_size
    shapes: TensorShapes = {
        "body.embeddings.word_embeddings.weight": (shape.vocabulary_size, hidden),
        POSITIONS: (shape.max_length, hidden),
        SEGMENTS: (type_vocabulary_size, hidden),
    } | _with_bias("body.embeddings.LayerNorm", (hidden,))
    for index, layer in enumerate(shape.layers):
        shapes |= _bert_layer_shapes(f"body.encoder.layer.{index}", layer, hidden, shape.head_size)
    if shape.pooling is Pooling.POOLER:
        shapes |= _with_bias("body.pooler.dense", (hidden, hidden))
    return shapes


def _bert_layer_shapes(name: str, layer: LayerShape, hidden: int, head_size: int) -> TensorShapes:
    attention = layer.attention_heads * head_size
    shapes: TensorShapes = {}
    for part in ("query", "key", "value"):
        shapes |= _with_bias(f"{name}.attention.self.{part}", (attention, hidden))
    shapes |= _with_bias(f"{name}.attention.output.dense", (hidden, attention))
    shapes |= _with_bias(f"{name}.attention.output.LayerNorm", (hidden,))
    shapes |= _with_bias(f"{name}.intermediate.dense", (layer.ffn_size, hidden))
    shapes |= _with_bias(f"{name}.output.dense", (hidden, layer.ffn_size))
    return shapes | _with_bias(f"{name}.output.LayerNorm", (hidden,))


def _with_bias(name: str, weight: tuple[int, ...]) -> TensorShapes:
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}
