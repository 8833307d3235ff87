"""A prompt that all texts share is computed once: bundles take the text, and answer as to the whole prompt."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from cloud_service.compression.checkpoints.labels import label_scoring_head
from cloud_service.compression.checkpoints.reading import read_checkpoint
from cloud_service.compression.checkpoints.writing import write_checkpoint
from cloud_service.compression.cli import add_model_commands
from cloud_service.compression.evaluation import compute_logits
from cloud_service.compression.graphs.session import GraphSession
from cloud_service.compression.networks.build import classifier_of
from cloud_service.compression.networks.shape import LayerShape
from cloud_service.compression.quantizing import MenuRecord
from shared.bundle import Bundle, read_bundle
from shared.documents import read_document
from shared.text import TextEncoder
from tests.support.random_ernie import GROUPED, generator_source, random_generator

LABELS = ("card", "rate", "transfer")
PHRASES = ("where is my {}", "tell me about the {} please", "I have a question on a {}", "{} number 12 is wrong", "{}?")
BEFORE, AFTER = "Read the customer's question and say its subject.\nQuestion:", "\nSubject:"
MAX_LENGTH = 48
UNSEEN = ("please help with the card", "what is the exchange rate", "a transfer of mine, 33!", "我的卡 🙂")
CONFIG = f"""
name = "prompted"
seed = 3
work_dir = "work"
bundles_dir = "bundles"
[data]
train = "train.csv"
max_length = {MAX_LENGTH}
[full]
checkpoint = "checkpoint"
prompt = {f"{BEFORE} {{text}}{AFTER}"!r}
label_words = {{ card = " card", rate = " rate", transfer = " transfer" }}
[vocabulary]
size = 300
[prune]
keep_ratio = 0.75
ffn_keep_ratio = 0.5
layers = 2
[edge.training]
epochs = 1
learning_rate = 1e-4
label_weight = 0.2
[tuning]
objective = "bytes"
tolerance = 1.0
max_trials = 4
choices = ["fp32", "int8-dynamic"]
[calibration]
alphas = [0.05, 0.2]
"""


@dataclass(frozen=True)
class Compressed:
    """What one run left, and the tokenizer that it began with."""

    folder: Path
    full: Bundle
    edge: Bundle
    tokenizer: Tokenizer

    def whole_ids(self, text: str) -> list[int]:
        """The whole prompt, read by the checkpoint's own tokenizer."""
        return self.tokenizer.encode(f"{BEFORE} {text}{AFTER}").ids


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Compressed:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("prompted")
    rows = [f'"{PHRASES[i % 5].format(label)} {i}",{label}' for i in range(40) for label in LABELS]
    (folder / "train.csv").write_text("text,category\n" + "\n".join(rows), encoding="utf-8")
    tokenizer = byte_level([*rows, BEFORE, AFTER])
    tokenizer.save(str(folder / "tokenizer.json"))
    shape = dataclasses.replace(
        GROUPED, vocabulary_size=tokenizer.get_vocab_size(), hidden_size=64, layers=(LayerShape(4, 2, 96),) * 3
    )
    source = generator_source(random_generator(shape), shape)
    write_checkpoint(folder / "checkpoint", shape, dict(source.weights), (), folder / "tokenizer.json")
    (folder / "models.toml").write_text(CONFIG, encoding="utf-8")
    assert run_command(folder / "models.toml") == 0
    bundles = folder / "bundles"
    return Compressed(folder, read_bundle(bundles / "prompted-full"), read_bundle(bundles / "prompted-edge"), tokenizer)


def byte_level(corpus: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def run_command(config: Path, step: str = "compress") -> int:
    parser = argparse.ArgumentParser()
    add_model_commands(parser.add_subparsers())
    arguments = parser.parse_args(["model", step, str(config), "--quiet", "--threads", "1"])
    code: int = arguments.handler(arguments)
    return code


def shipped_logits(bundle: Bundle, sequences: list[list[int]]) -> NDArray[np.float32]:
    return GraphSession(bundle.graph_path).run_each(sequences)


def spread(logits: NDArray[np.float32]) -> float:
    return float(logits.max() - logits.min())


def whole_logits(checkpoint: Path, sequences: list[list[int]]) -> NDArray[np.float32]:
    """FP32 in torch, without a prefix: `sequences` are whole prompts."""
    read = read_checkpoint(checkpoint)
    weights = {name: torch.from_numpy(value) for name, value in read.weights.items()}
    return compute_logits(classifier_of(read.shape.with_prefix(()), weights), sequences)


def test_the_full_bundle_answers_as_the_language_model_to_the_whole_prompt(compressed: Compressed) -> None:
    encoder = TextEncoder.of(compressed.full)
    found = shipped_logits(compressed.full, [encoder.encode(text).tolist() for text in UNSEEN])
    checkpoint = read_checkpoint(compressed.folder / "checkpoint")
    words = [compressed.tokenizer.encode(f" {label}").ids for label in compressed.full.manifest.labels]
    weight, bias = label_scoring_head(checkpoint, words)
    weights = checkpoint.weights | {"head.weight": weight, "head.bias": bias}
    model = classifier_of(checkpoint.shape, {name: torch.from_numpy(value) for name, value in weights.items()})
    expected = compute_logits(model, [compressed.whole_ids(text) for text in UNSEEN])
    np.testing.assert_allclose(found, expected, atol=0.02 * spread(expected))


def test_the_edge_bundle_answers_as_its_network_to_the_whole_prompt(compressed: Compressed) -> None:
    (folder,) = compressed.folder.glob("work/edge-*/checkpoint")
    prefix = list(read_checkpoint(folder).shape.prefix)
    texts = [TextEncoder.of(compressed.edge).encode(text).tolist() for text in UNSEEN]
    found = shipped_logits(compressed.edge, texts)
    expected = whole_logits(folder, [prefix + text for text in texts])
    np.testing.assert_allclose(found, expected, atol=0.1 * spread(expected))


def test_the_prefix_is_the_prompts_begin_in_either_vocabulary(compressed: Compressed) -> None:
    begin = compressed.tokenizer.encode(BEFORE).tokens
    for stage, bundle in (("full", compressed.full), ("edge", compressed.edge)):
        (folder,) = compressed.folder.glob(f"work/{stage}-*/checkpoint")
        pieces = Tokenizer.from_file(str(bundle.tokenizer_path))
        assert [pieces.id_to_token(token) for token in read_checkpoint(folder).shape.prefix] == begin
        given = pieces.encode("where is my card").tokens
        assert "".join(given) == "ĠwhereĠisĠmyĠcardĊSubject:"
    assert compressed.edge.tokenizer_path.stat().st_size < compressed.full.tokenizer_path.stat().st_size


@pytest.mark.parametrize("tier", ["full", "edge"])
def test_an_overlong_text_is_cut_to_what_the_prompt_leaves(compressed: Compressed, tier: str) -> None:
    bundle: Bundle = getattr(compressed, tier)
    (folder,) = compressed.folder.glob(f"work/{tier}-*/checkpoint")
    prefix = list(read_checkpoint(folder).shape.prefix)
    ids = TextEncoder.of(bundle).encode("where is my card " * 50).tolist()
    assert len(ids) == bundle.manifest.preprocessing.max_tokens == MAX_LENGTH - len(prefix)
    others = [TextEncoder.of(bundle).encode(text).tolist() for text in UNSEEN]
    expected = whole_logits(folder, [prefix + text for text in (ids, *others)])
    np.testing.assert_allclose(shipped_logits(bundle, [ids]), expected[:1], atol=0.1 * spread(expected))


def test_no_precision_failed_and_the_card_tells_of_the_prompt(compressed: Compressed) -> None:
    (menu,) = compressed.folder.glob("work/precision-*/menu-*.json")
    assert [row.name for row in read_document(MenuRecord, menu.read_bytes()).rows if row.failure is not None] == []
    length = MAX_LENGTH - compressed.edge.manifest.preprocessing.max_tokens
    card = (compressed.edge.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"the {length} tokens with which every prompt begins" in card


def test_training_begins_with_what_the_prompt_scores(compressed: Compressed) -> None:
    training = "[full.training]\nepochs = 1\nlearning_rate = 1e-9\nhead_learning_rate = 1e-9\n[vocabulary]"
    config = compressed.folder / "trained.toml"
    text = CONFIG.replace("[vocabulary]", training).replace('"work"', '"trained"')
    config.write_text(text, encoding="utf-8")
    assert run_command(config, "train") == 0
    (trained,) = compressed.folder.glob("trained/full-*/checkpoint")
    (untrained,) = compressed.folder.glob("work/full-*/checkpoint")
    texts = [compressed.whole_ids(text) for text in UNSEEN]
    np.testing.assert_allclose(whole_logits(trained, texts), whole_logits(untrained, texts), atol=1e-3)
