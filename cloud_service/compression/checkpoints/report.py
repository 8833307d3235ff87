"""What was imported, in a few lines for a terminal."""

from __future__ import annotations

from cloud_service.compression.checkpoints.reading import Checkpoint
from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling

_FAMILIES = {Family.ERNIE: "ERNIE 4.5, causal", Family.BERT: "BERT, encoder"}
_POOLINGS = {
    Pooling.LAST: "the last token's state",
    Pooling.MEAN: "the mean of all tokens' states",
    Pooling.POOLER: "BERT's pooler over the first token",
}
_LABELS_SHOWN = 8


def describe(checkpoint: Checkpoint) -> str:
    """Several lines: what the network is, what lay on disk, and what can be done with it next."""
    shape, stored = checkpoint.shape, checkpoint.stored
    parameters = sum(weight.size for weight in checkpoint.weights.values())
    shards = "one file" if stored.shard_count == 1 else f"{stored.shard_count} files"
    lines = {
        "family": f"{_FAMILIES[shape.family]}; a text is read by {_POOLINGS[shape.pooling]}",
        "layers": _layers(shape.layers),
        "sizes": _sizes(shape),
        "parameters": f"{parameters:,}",
        "stored": f"{stored.size_bytes:,} bytes in {shards}, {stored.tensor_count} tensors {', '.join(stored.dtypes)}",
        "labels": _labels(checkpoint.labels),
        "tokenizer": str(checkpoint.tokenizer) if checkpoint.tokenizer else "no tokenizer.json beside it",
        "next": _next(checkpoint),
    }
    return "\n".join(f"{name + ':':<12}{text}" for name, text in lines.items())


def _layers(layers: tuple[LayerShape, ...]) -> str:
    def of(name: str) -> str:
        values = [getattr(layer, name) for layer in layers]
        return f"{values[0]}" if len(set(values)) == 1 else f"{min(values)} to {max(values)}"

    return (
        f"{len(layers)} of {of('attention_heads')} heads ({of('key_value_heads')} key/value), "
        f"feed-forward {of('ffn_size')}"
    )


def _sizes(shape: NetworkShape) -> str:
    return (
        f"hidden {shape.hidden_size}, head {shape.head_size}, vocabulary {shape.vocabulary_size:,}, "
        f"up to {shape.max_length:,} tokens{_prefix(shape)}"
    )


def _prefix(shape: NetworkShape) -> str:
    return f", of which a prefix is {len(shape.prefix):,}" if shape.prefix else ""


def _labels(labels: tuple[str, ...]) -> str:
    if not labels:
        return "none; it has no trained label head"
    more = ", ..." if len(labels) > _LABELS_SHOWN else ""
    return f"{len(labels)} ({', '.join(labels[:_LABELS_SHOWN])}{more})"


def _next(checkpoint: Checkpoint) -> str:
    if checkpoint.tokenizer is None:
        return "put the network's tokenizer.json beside it; without one it cannot be packed for a device"
    if checkpoint.labels:
        return "prune, quantise and export it as it is, or train it further on labelled texts"
    if checkpoint.shape.family is Family.ERNIE:
        return "train a label head on labelled texts, or score labels by their first token behind a prompt"
    return "train a label head on labelled texts"
