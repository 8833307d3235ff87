"""A checkpoint as save_pretrained writes it becomes, by one command, a folder that generates."""

from __future__ import annotations

import argparse
from pathlib import Path

import onnx
import pytest
import torch
from tokenizers import Tokenizer, models

from cloud_service.compression.cli import add_model_commands
from cloud_service.compression.generator import GENERATOR_NAME, Generator
from cloud_service.compression.graphs.generation_session import GenerationSession, generate_greedily
from cloud_service.compression.networks.shape import Family
from shared.documents import read_document, sha256
from tests.support.full_disk import fill, small_disk
from tests.support.random_ernie import GROUPED, MAX_LENGTH, VOCABULARY, random_generator
from tests.support.tiny_compression import write_tiny_checkpoint

PROMPT = [7, 42, 3, 199, 250]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    random_generator().save_pretrained(folder)
    write_tokenizer(folder, VOCABULARY)
    return folder


def write_tokenizer(folder: Path, pieces: int) -> None:
    vocabulary = {f"piece{number}": number for number in range(pieces)}
    Tokenizer(models.WordLevel(vocabulary, unk_token="piece0")).save(str(folder / "tokenizer.json"))


def run(checkpoint: Path, out: Path, *options: str) -> int:
    parser = argparse.ArgumentParser()
    add_model_commands(parser.add_subparsers())
    arguments = parser.parse_args(["model", "generator", str(checkpoint), "--out", str(out), *options])
    code: int = arguments.handler(arguments)
    return code


def described(out: Path) -> Generator:
    return read_document(Generator, (out / GENERATOR_NAME).read_bytes())


def generated(out: Path, count: int) -> list[int]:
    generator = described(out)
    prefill, decode = (GenerationSession(out / file) for file in (generator.prefill, generator.decode))
    return generate_greedily(PROMPT, count, prefill, decode)


def test_the_command_writes_a_folder_that_generates(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "generator"
    assert run(checkpoint, out) == 0
    assert capsys.readouterr().out.startswith(f"generator: {out}, ")
    tokens = generated(out, 20)
    assert len(tokens) == 20 and all(0 <= token < VOCABULARY for token in tokens)


def test_in_fp32_it_says_what_transformers_says(checkpoint: Path, tmp_path: Path) -> None:
    assert run(checkpoint, tmp_path / "generator", "--precision", "fp32") == 0
    output = random_generator().generate(torch.tensor([PROMPT]), max_new_tokens=64, do_sample=False)
    assert generated(tmp_path / "generator", 64) == output[0, len(PROMPT) :].tolist()


def test_generator_json_tells_the_network_its_precisions_and_every_file(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "generator"
    assert run(checkpoint, out, "--block-size", "64") == 0
    found = described(out)
    assert (found.family, found.layers, found.key_value_heads) == (Family.ERNIE, 3, (2, 2, 2))
    sizes = (found.head_size, found.max_length, found.vocabulary_size)
    assert sizes == (GROUPED.head_size, MAX_LENGTH, VOCABULARY)
    named = (found.precisions.prefill, found.precisions.decode, found.precisions.vocabulary)
    assert named == ("int8-dynamic", "int4-blocks-64", "int4-blocks-32")
    assert {entry.path: entry.sha256 for entry in found.files} == {
        path.name: sha256(path.read_bytes()) for path in out.iterdir() if path.name != GENERATOR_NAME
    }
    assert [entry.path for entry in found.files] == ["decode.onnx", "model.onnx.data", "prefill.onnx", "tokenizer.json"]
    (opset,) = (
        one.version for one in onnx.load(out / found.decode, load_external_data=False).opset_import if not one.domain
    )
    assert found.requires.opset == opset
    assert {"com.microsoft.GroupQueryAttention", "com.microsoft.MatMulNBits"} <= set(found.requires.contrib_operators)


def test_the_same_checkpoint_gives_the_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        assert run(checkpoint, tmp_path / name) == 0
    one, other = ((tmp_path / name / GENERATOR_NAME).read_bytes() for name in ("one", "other"))
    assert one == other


def test_a_generator_is_replaced_whole(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "generator"
    assert run(checkpoint, out, "--precision", "fp32") == 0
    assert run(checkpoint, out, "--max-length", "48") == 0
    assert described(out).precisions.decode == "int4-blocks-128" and described(out).max_length == 48
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "generator"]


def test_without_a_tokenizer_it_says_that_it_takes_token_ids_alone(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint / "tokenizer.json").unlink()
    assert run(checkpoint, tmp_path / "generator") == 0
    printed = capsys.readouterr().out
    assert "no tokenizer.json" in printed and printed.count("\n") == 1
    assert described(tmp_path / "generator").tokenizer is None


def test_a_bert_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny_checkpoint(tmp_path / "bert", Family.BERT)
    refused(tmp_path / "bert", tmp_path / "generator", capsys, "bert does not generate")


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(tmp_path / "nowhere", tmp_path / "generator", capsys, "is not a folder")


def test_a_tokenizer_of_another_network_is_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tokenizer(checkpoint, VOCABULARY + 1)
    refused(checkpoint, tmp_path / "generator", capsys, "has 301 pieces, the network 300")


def test_blocks_that_onnxruntime_does_not_know_are_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(checkpoint, tmp_path / "generator", capsys, "no blocks of 100", "--block-size", "100")


def test_a_folder_that_holds_something_else_is_left_alone(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").touch()
    fail(checkpoint, tmp_path / "thesis", capsys, "holds something else than a generator")
    assert (tmp_path / "thesis" / "chapter1.txt").is_file()


def test_a_full_disk_is_told_and_leaves_the_older_generator(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", 4 << 20) as disk:
        out = disk / "generator"
        assert run(checkpoint, out) == 0
        before = generated(out, 8)
        fill(disk, 100_000)
        fail(checkpoint, out, capsys, "No space left on device")
        assert generated(out, 8) == before
        assert not list(disk.glob(".*"))


def refused(checkpoint: Path, out: Path, capsys: pytest.CaptureFixture[str], said: str, *options: str) -> None:
    fail(checkpoint, out, capsys, said, *options)
    assert not list(out.parent.glob("*generator*"))


def fail(checkpoint: Path, out: Path, capsys: pytest.CaptureFixture[str], said: str, *options: str) -> None:
    capsys.readouterr()
    assert run(checkpoint, out, *options) == 1
    message = capsys.readouterr().err
    assert message.startswith("cloud-service model generator: ") and said in message and message.count("\n") == 1
