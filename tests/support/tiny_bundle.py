"""A tiny real bundle: an ONNX graph that adds up what each word says for each label.

"card" is sure of the label card, "card cash" is torn between two labels, and words it does not know say nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from shared.bundle import (
    BundleDraft,
    GoldenItem,
    GoldenSet,
    GraphSpec,
    Manifest,
    Preprocessing,
    Requirements,
    Role,
    TensorSpec,
    Tier,
    write_bundle,
)
from shared.gate import Certificate, CertifiedThreshold, Gate, Risk, Score

LABELS = ("card", "cash", "loan")
SURE_LOGIT = 6.0


def write_tiny_bundle(
    folder: Path,
    *,
    tier: Tier = Tier.EDGE,
    model: str = "tiny",
    version: str = "1.0.0",
    labels: Sequence[str] = LABELS,
    threshold: float | None = 0.9,
    max_tokens: int = 16,
    graph: onnx.ModelProto | None = None,
) -> Manifest:
    """Write a bundle to `folder`; an edge bundle brings a gate that keeps where max probability ≥ `threshold`.

    `graph` replaces the usual graph, for bundles that are wrong on purpose.
    """
    with tempfile.TemporaryDirectory() as work:
        draft = _draft(Path(work), tier, model, version, tuple(labels), max_tokens, graph)
        gate = tiny_gate(draft.manifest().model_digest, threshold) if tier is Tier.EDGE else None
        return write_bundle(draft, gate, folder)


def tiny_gate(model_digest: str, threshold: float | None) -> Gate:
    """A gate certified at alpha 5% with `threshold`, and at 20% with a looser one."""
    reason = "" if threshold is not None else "no threshold reaches 5%"
    steps = (
        CertifiedThreshold(0.05, threshold, 900, 18, 0.04, 0.1, reason),
        CertifiedThreshold(0.2, 0.4, 990, 90, 0.12, 0.01),
    )
    certificate = Certificate(Risk.KEPT_ERROR, 0.1, 1000, steps, "made up for tests", "0" * 64, "0")
    return Gate(model_digest, "0" * 64, Score.MAX_PROBABILITY, 1.0, {Risk.KEPT_ERROR: 0.05}, (certificate,))


def tiny_graph(labels: Sequence[str]) -> onnx.ModelProto:
    """logits[b, l] = Σ over tokens t of mask[b, t] · table[ids[b, t], l]."""
    table = np.zeros((len(labels) + 1, len(labels)), np.float32)
    table[1:] = np.eye(len(labels), dtype=np.float32) * SURE_LOGIT
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["said"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last_axis"], ["mask_column"]),
        helper.make_node("Mul", ["said", "mask_column"], ["counted"]),
        helper.make_node("ReduceSum", ["counted", "token_axis"], ["logits"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in _INPUTS],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(labels)])],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([-1]), "last_axis"),
            numpy_helper.from_array(np.array([1]), "token_axis"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


_INPUTS = ("input_ids", "attention_mask")


def _draft(
    work: Path,
    tier: Tier,
    model: str,
    version: str,
    labels: tuple[str, ...],
    max_tokens: int,
    graph: onnx.ModelProto | None,
) -> BundleDraft:
    onnx.save_model(graph or tiny_graph(labels), str(work / "model.onnx"))
    _tokenizer(labels).save(str(work / "tokenizer.json"))
    (work / "MODEL_CARD.md").write_text("# Tiny\n\nFor tests.\n", encoding="utf-8")
    batch_and_sequence: tuple[int | str, ...] = ("batch", "sequence")
    sure = float(np.exp(SURE_LOGIT) / (np.exp(SURE_LOGIT) + len(labels) - 1))
    return BundleDraft(
        model=model,
        version=version,
        tier=tier,
        labels=labels,
        preprocessing=Preprocessing("tokenizer.json", max_tokens),
        graph=GraphSpec(
            "model.onnx",
            tuple(TensorSpec(name, "tensor(int64)", batch_and_sequence) for name in _INPUTS),
            (TensorSpec("logits", "tensor(float)", ("batch", len(labels))),),
        ),
        requires=Requirements("1.23.2", 17),
        files={
            "model.onnx": (Role.GRAPH, work / "model.onnx"),
            "tokenizer.json": (Role.TOKENIZER, work / "tokenizer.json"),
            "MODEL_CARD.md": (Role.CARD, work / "MODEL_CARD.md"),
        },
        golden=GoldenSet(tuple(GoldenItem(label, label, sure) for label in labels), 1e-3),
    )


def _tokenizer(labels: Sequence[str]) -> Tokenizer:
    vocabulary = {"[UNK]": 0} | {label: number for number, label in enumerate(labels, start=1)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer
