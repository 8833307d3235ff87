"""A bundle is used as its manifest says or not at all."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.bundle import (
    MANIFEST_NAME,
    Bundle,
    BundleDraft,
    GraphSpec,
    Tier,
    check_signature,
    read_bundle,
    write_bundle,
)
from shared.bundle.manifest import Role, TensorSpec
from shared.bundle.writer import MAX_CHUNK_BYTES, file_entry
from shared.errors import (
    BundleDigestMismatch,
    BundleFileMissing,
    BundleFormatTooNew,
    BundleGraphMismatch,
    BundleMalformed,
)
from tests.support.sudden_death import is_killed_at_event
from tests.support.tiny_bundle import LABELS, write_tiny_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    write_tiny_bundle(folder)
    return folder


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / MANIFEST_NAME
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def test_a_written_bundle_reads_back_with_gate_and_golden_set(folder: Path) -> None:
    bundle = read_bundle(folder)
    assert bundle.manifest.labels == LABELS
    assert bundle.gate is not None and bundle.gate.threshold() == 0.9
    assert [item.label for item in bundle.golden.items] == list(LABELS)


def test_the_same_content_gives_the_same_digest(folder: Path, tmp_path: Path) -> None:
    again = write_tiny_bundle(tmp_path / "again")
    assert again.model_digest == read_bundle(folder).identity.digest


def test_another_gate_leaves_the_model_digest_alone(folder: Path, tmp_path: Path) -> None:
    other = write_tiny_bundle(tmp_path / "other", threshold=0.7)
    assert other.model_digest == read_bundle(folder).identity.digest
    assert other != read_bundle(folder).manifest


def test_an_empty_folder_is_said_to_hold_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleFileMissing, match="no bundle"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "gate.json", "golden.json", "MODEL_CARD.md"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleFileMissing, match=name):
        read_bundle(folder)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "gate.json", "golden.json", "MODEL_CARD.md"])
def test_one_flipped_bit_is_noticed_in_every_file(folder: Path, name: str) -> None:
    path = folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleDigestMismatch, match=name):
        read_bundle(folder)


def test_a_truncated_file_is_noticed_by_its_length(folder: Path) -> None:
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleDigestMismatch, match="bytes"):
        read_bundle(folder)


def test_an_unknown_field_means_a_newer_format(folder: Path) -> None:
    edit_manifest(folder, lambda document: document["graph"].update(sparse=True))
    with pytest.raises(BundleFormatTooNew, match="sparse"):
        read_bundle(folder)


def test_a_higher_format_number_means_a_newer_format(folder: Path) -> None:
    edit_manifest(folder, lambda document: document.update(format=2))
    with pytest.raises(BundleFormatTooNew, match="format 2"):
        read_bundle(folder)


def drop_labels(document: dict[str, Any]) -> None:
    del document["labels"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop_labels, "labels"),
        (lambda document: document.update(labels=["one"]), "at least two labels"),
        (lambda document: document.update(labels=["a", "a", "b"]), "each once"),
        (lambda document: document.update(labels=["a", "b\n"]), "control character"),
        (lambda document: document.update(labels=["a", "b" * 257]), "256 characters"),
        (lambda document: document.update(model="a/b"), "model 'a/b'"),
        (lambda document: document.update(tier="sky"), "tier"),
        (lambda document: document["files"].pop(0), "MODEL_CARD|model.onnx|used but not|golden"),
        (lambda document: document["files"].append(document["files"][0]), "twice"),
        (lambda document: document["files"][0].update(path="../outside"), "outside the bundle"),
        (lambda document: document["files"][0].update(path="/etc/passwd"), "outside the bundle"),
        (lambda document: document["files"][0]["chunks"].pop(), "add up"),
        (lambda document: document["preprocessing"].update(max_tokens=0), "max_tokens"),
        (lambda document: document["preprocessing"].update(max_tokens="64"), "max_tokens"),
        (lambda document: document["preprocessing"].update(normalization="none"), "normalization"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    def without_card(document: dict[str, Any]) -> None:
        document["files"] = [entry for entry in document["files"] if entry["role"] != "card"]
        document["files"].sort(key=lambda entry: entry["role"] != "golden")
        change(document)

    edit_manifest(folder, without_card)
    with pytest.raises(BundleMalformed, match=said):
        read_bundle(folder)


def test_a_manifest_that_is_not_json_is_refused(folder: Path) -> None:
    (folder / MANIFEST_NAME).write_bytes(b"\x00\x01")
    with pytest.raises(BundleMalformed):
        read_bundle(folder)


def test_a_link_out_of_the_bundle_is_refused(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.onnx"
    shutil.move(folder / "model.onnx", outside)
    (folder / "model.onnx").symlink_to(outside)
    with pytest.raises(BundleMalformed, match="link"):
        read_bundle(folder)


def test_a_gate_for_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "other", labels=("x", "y"))
    stolen = (tmp_path / "other" / "gate.json").read_bytes()
    (folder / "gate.json").write_bytes(stolen)

    def vouch(document: dict[str, Any]) -> None:
        entry = file_entry("gate.json", Role.GATE, stolen)
        for item in document["files"]:
            if item["role"] == "gate":
                item.update(length=entry.length, sha256=entry.sha256)
                item["chunks"] = [{"length": entry.length, "sha256": entry.sha256}]

    edit_manifest(folder, vouch)
    with pytest.raises(BundleDigestMismatch, match="another model"):
        read_bundle(folder)


def test_a_full_bundle_brings_no_gate(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "full", tier=Tier.FULL)
    assert read_bundle(tmp_path / "full").gate is None


def test_a_bundle_is_replaced_whole(folder: Path) -> None:
    write_tiny_bundle(folder, version="2.0.0")
    assert read_bundle(folder).identity.version == "2.0.0"
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def copy_as(bundle: Bundle, version: str, folder: Path) -> None:
    """Write a bundle like `bundle` to `folder`, with a gate for its new digest where it brings one."""
    given = bundle.manifest
    apart = (Role.GATE, Role.GOLDEN)
    draft = BundleDraft(
        model=given.model,
        version=version,
        tier=given.tier,
        labels=given.labels,
        preprocessing=given.preprocessing,
        graph=given.graph,
        requires=given.requires,
        files={entry.path: (entry.role, bundle.path / entry.path) for entry in given.files if entry.role not in apart},
        golden=bundle.golden,
    )
    digest = draft.manifest().model_digest
    gate = None if bundle.gate is None else dataclasses.replace(bundle.gate, model_digest=digest)
    write_bundle(draft, gate, folder)


def version_in(folder: Path) -> str:
    return read_bundle(folder).manifest.version


def test_a_kill_at_any_moment_leaves_the_old_bundle_or_the_new_one_whole(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "source")
    source, folder = read_bundle(tmp_path / "source"), tmp_path / "bundles" / "tiny"
    retired, survivors = folder.with_name(".tiny.retired"), []
    copy_as(source, "0", folder)
    for event in itertools.count():
        if not is_killed_at_event(event, lambda: copy_as(source, "new", folder)):
            break
        left = folder if folder.exists() else retired
        survivors.append((left.name, version_in(left).replace(str(event), "old")))
        copy_as(source, str(event + 1), folder)
        assert version_in(folder) == str(event + 1)
        assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
    assert version_in(folder) == "new"
    in_turn = [("tiny", "old"), (".tiny.retired", "old"), ("tiny", "new")]
    assert [one for one, _ in itertools.groupby(survivors)] == in_turn


def test_a_long_tensor_is_cut_further_and_so_is_a_long_file_without_borders() -> None:
    data = bytes(3 * MAX_CHUNK_BYTES)
    cut = file_entry("weights", Role.WEIGHTS, data, borders=(100, 2 * MAX_CHUNK_BYTES))

    lengths = [100, MAX_CHUNK_BYTES, MAX_CHUNK_BYTES - 100, MAX_CHUNK_BYTES]
    assert [chunk.length for chunk in cut.chunks] == lengths
    assert [chunk.length for chunk in file_entry("file", Role.CARD, data + b"1").chunks] == [MAX_CHUNK_BYTES] * 3 + [1]
    assert file_entry("empty", Role.CARD, b"").chunks == ()


def test_chunks_are_cut_at_the_borders_given() -> None:
    entry = file_entry("weights", Role.WEIGHTS, b"abcdefgh", [0, 3, 5, 8, 99])
    assert [chunk.length for chunk in entry.chunks] == [3, 2, 3]


IDS = TensorSpec("input_ids", "tensor(int64)", ("batch", "sequence"))
LOGITS = TensorSpec("logits", "tensor(float)", ("batch", 3))


@pytest.mark.parametrize(
    ("inputs", "outputs", "labels", "said"),
    [
        ((), (LOGITS,), 3, "inputs"),
        ((TensorSpec("ids", "tensor(int64)", ("b", "s")),), (LOGITS,), 3, "inputs"),
        ((TensorSpec("input_ids", "tensor(int32)", ("b", "s")),), (LOGITS,), 3, "int32"),
        ((TensorSpec("input_ids", "tensor(int64)", ("s",)),), (LOGITS,), 3, "rank 1"),
        ((IDS,), (LOGITS,), 4, "3 logits for 4 labels"),
    ],
)
def test_a_graph_that_does_not_fit_its_manifest_is_refused(
    folder: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], labels: int, said: str
) -> None:
    with pytest.raises(BundleGraphMismatch, match=said):
        check_signature(folder, GraphSpec("model.onnx", (IDS,), (LOGITS,)), inputs, outputs, labels)


def test_a_newer_format_is_said_to_be_one_even_where_fields_have_gone(folder: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document.update(format=2)
        del document["graph"]

    edit_manifest(folder, change)
    with pytest.raises(BundleFormatTooNew, match="format 2"):
        read_bundle(folder)


def test_a_file_that_the_manifest_does_not_name_is_refused(folder: Path) -> None:
    (folder / "other.data").write_bytes(b"weights that nobody vouches for")
    with pytest.raises(BundleMalformed, match=r"other.data.*not named"):
        read_bundle(folder)
