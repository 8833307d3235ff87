"""The perplexity of a generator's graphs beside FP32's: a small ERNIE-4.5, trained here on BANKING77's questions.

Each text runs alone, after a begin token. Of whole texts every token is foreseen from those before it. Of second
halves the first half is the prompt, as in a request: INT8 reads it and foresees one token, and decoding, told each
token of the text in turn, foresees the others from that cache.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from torch.nn import functional
from transformers import Ernie4_5ForCausalLM

from cloud_service.compression.dataset import dataset_folder, read_texts
from cloud_service.compression.encoding import TokenBatch, encode_texts, pad_batch, shuffled_batches
from cloud_service.compression.errors import DatasetError
from cloud_service.compression.graphs.blocks import Blocks
from cloud_service.compression.graphs.formats import Float32Weights, Int8Dynamic
from cloud_service.compression.graphs.generation import write_generation_graph, write_generation_pair
from cloud_service.compression.graphs.generation_session import GenerationSession
from cloud_service.compression.graphs.vocabulary import BlockVocabulary
from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling
from tests.bench.report import Figure, finish
from tests.support.random_ernie import generator_source, random_generator

SHAPE = NetworkShape(
    family=Family.ERNIE,
    vocabulary_size=4000,
    max_length=128,
    hidden_size=256,
    head_size=32,
    layers=(LayerShape(attention_heads=8, key_value_heads=2, ffn_size=768),) * 4,
    norm_epsilon=1e-5,
    pooling=Pooling.LAST,
    rope_theta=500_000.0,
)
EPOCHS, BATCH_SIZE, PEAK_RATE, THREADS = 3, 32, 2e-3, 2
DECODING = {
    "4-bit blocks of 128": (Blocks(4, 128), BlockVocabulary()),
    "4-bit blocks of 64": (Blocks(4, 64), BlockVocabulary()),
    "4-bit blocks of 32": (Blocks(4, 32), BlockVocabulary()),
    "4-bit blocks of 128 but the vocabulary in INT8": (Blocks(4, 128), BlockVocabulary(8, 128)),
    "INT8 blocks of 128": (Blocks(8, 128), BlockVocabulary(8, 128)),
}
TORCH = "PyTorch FP32"

Tokens = Sequence[int]
Foresee = Callable[[Tokens, int], NDArray[np.float32]]
"""Logits of every token of a text but the first few, of which it is told how many: [tokens left, vocabulary]."""


def main() -> None:
    try:
        questions = dataset_folder("banking77")
    except DatasetError as error:
        sys.exit(str(error))
    train, test = (read_texts(questions / file, "text") for file in ("train.csv", "test.csv"))
    tokenizer = trained_tokenizer(train)
    torch.set_num_threads(THREADS)
    model = trained_model(encode_texts(tokenizer, train))
    with tempfile.TemporaryDirectory() as folder:
        finish(measure(model, encode_texts(tokenizer, test), Path(folder)), __doc__ or "")


def trained_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Byte pairs of these texts; every text begins with token 0."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=SHAPE.vocabulary_size, special_tokens=["<s>"], initial_alphabet=alphabet),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.enable_truncation(SHAPE.max_length)
    return tokenizer


def trained_model(texts: Sequence[list[int]]) -> Ernie4_5ForCausalLM:
    """A language model of the texts, by AdamW at a rate that rises, then falls."""
    config = random_generator(SHAPE).config
    torch.manual_seed(0)
    model = Ernie4_5ForCausalLM(config)
    lengths = [len(text) for text in texts]
    random = np.random.default_rng(0)
    batches = [rows for _ in range(EPOCHS) for rows in shuffled_batches(lengths, BATCH_SIZE, random)]
    optimizer = torch.optim.AdamW(model.parameters(), PEAK_RATE, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=len(batches), pct_start=0.1)
    for rows in batches:
        optimizer.zero_grad()
        batch_loss(model, pad_batch([texts[row] for row in rows])).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.train(False)
    return model


def batch_loss(model: Ernie4_5ForCausalLM, batch: TokenBatch) -> torch.Tensor:
    """The mean negative log-likelihood, in nats, of every token but each text's first and padding."""
    logits = model(batch.input_ids[:, :-1], use_cache=False).logits
    given = batch.attention_mask()[:, 1:].bool()
    return functional.cross_entropy(logits[given], batch.input_ids[:, 1:][given])


def measure(model: Ernie4_5ForCausalLM, texts: Sequence[Tokens], folder: Path) -> list[Figure]:
    """Perplexities of whole texts and of second halves, then the pairs' disk."""
    source = generator_source(model, SHAPE)
    reference = write_generation_graph(source, Float32Weights(), folder / "fp32", last_token_only=False)
    whole = {TORCH: by_torch(model), "FP32 graph": at_once(GenerationSession(reference.graph))}
    halves = dict(whole)
    disk = []
    fp32_bytes = sum(4 * parameter.numel() for parameter in model.parameters())
    for name, (form, vocabulary) in DECODING.items():
        pair = write_generation_pair(source, Int8Dynamic(), form, folder / name, vocabulary)
        prefill, decode = (GenerationSession(files.graph) for files in (pair.prefill, pair.decode))
        whole[f"decoding in {name}"] = after_prompt(decode, decode)
        halves[f"INT8 prompt, decoding in {name}"] = after_prompt(prefill, decode)
        share = 100 * sum(path.stat().st_size for path in (folder / name).iterdir()) / fp32_bytes
        disk.append(Figure.of(f"disk of FP32, INT8 prompt, decoding in {name}", [share], "%"))
    whole["INT8 prompt and vocabulary"] = by_prompts(prefill)
    return [
        *beside_torch("whole texts", whole, [(text, 1) for text in texts]),
        *beside_torch("second halves", halves, [(text, len(text) // 2) for text in texts]),
        *disk,
    ]


def by_torch(model: Ernie4_5ForCausalLM) -> Foresee:
    @torch.inference_mode()
    def foresee(text: Tokens, given: int) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = model(torch.tensor([text[:-1]]), use_cache=False).logits[0].numpy()
        return logits[given - 1 :]

    return foresee


def at_once(session: GenerationSession) -> Foresee:
    """A graph that gives the logits of every token."""
    return lambda text, given: session.logits_of_each(text[:-1])[given - 1 :]


def by_prompts(prefill: GenerationSession) -> Foresee:
    """Each token from all before it as a prompt: the ranges of INT8 are those of the tokens that a prompt has."""
    return lambda text, given: np.concatenate([prefill.start([text[:end]])[0] for end in range(given, len(text))])


def after_prompt(prefill: GenerationSession, decode: GenerationSession) -> Foresee:
    """The given tokens as a prompt, and each of the others by one step of decoding."""

    def foresee(text: Tokens, given: int) -> NDArray[np.float32]:
        logits, cache = prefill.start([text[:given]])
        rows = [logits]
        for token in text[given:-1]:
            logits, cache = decode.proceed(np.array([[token]], np.int64), cache)
            rows.append(logits)
        return np.concatenate(rows)

    return foresee


def beside_torch(what: str, ways: dict[str, Foresee], texts: Sequence[tuple[Tokens, int]]) -> list[Figure]:
    """The perplexity of each way, and by how much it is above PyTorch's."""
    found = {name: perplexity(foresee, texts) for name, foresee in ways.items()}
    figures = [Figure.of(f"perplexity of {what}, {name}", [value], "") for name, value in found.items()]
    for name, value in found.items():
        if name != TORCH:
            above = 100 * (value / found[TORCH] - 1)
            figures.append(Figure.of(f"perplexity of {what}, {name}, above {TORCH}", [above], "%"))
    return figures


def perplexity(foresee: Foresee, texts: Sequence[tuple[Tokens, int]]) -> float:
    """exp of the mean negative log-likelihood, in nats, of all tokens that are foreseen."""
    losses = []
    for text, given in texts:
        logits = torch.from_numpy(foresee(text, given)).double()
        losses.append(functional.cross_entropy(logits, torch.tensor(text[given:]), reduction="none"))
    return float(torch.cat(losses).mean().exp())


if __name__ == "__main__":
    main()
