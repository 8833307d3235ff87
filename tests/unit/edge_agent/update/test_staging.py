from __future__ import annotations

import os
from dataclasses import replace

import onnx
import pytest
import zstandard
from onnx import TensorProto, helper

from edge_agent.update.chunks import most_compressed_bytes
from edge_agent.update.content import MAX_CHUNK_BYTES, check_graphs, check_manifest
from edge_agent.update.staging import DiskBudget
from shared.bundle import Chunk, FileEntry, Manifest, Role
from shared.bundle.writer import file_entry
from shared.documents import sha256
from shared.errors import UpdateRefused
from shared.update.names import chunk_path
from shared.update.report import ErrorKind, Phase, UpdateReport
from tests.support.fake_update_disk import LittleDisk
from tests.support.full_disk import fill, make_room, small_disk
from tests.support.tiny_bundle import LABELS, tiny_graph, write_tiny_bundle
from tests.unit.edge_agent.update.conftest import Fleet

DIGEST = "0" * 64


def is_refused(report: UpdateReport) -> bool:
    return report.error_kind is ErrorKind.REFUSED


@pytest.mark.parametrize(
    "path",
    [
        "../gate.json",
        "/etc/passwd",
        "a/../../b",
        "a//b",
        "./model.onnx",
        "a\\..\\b",
        "",
        ".",
        "..",
        "bundle.json",
        "BUNDLE.json",
        "a\0b",
        "a\nb",
        "tokenizer.json/below",
        "model.ONNX",
        "/".join("abcdefghi"),
        ".hidden",
    ],
)
def test_a_path_that_is_none_in_a_slot_is_refused(fleet: Fleet, path: str) -> None:
    manifest, _ = fleet.registry.manifests[fleet.registry.arms["2.0.0"].manifest_sha256]
    check_manifest(manifest)
    evil = FileEntry(path, Role.CARD, 1, DIGEST, (Chunk(1, DIGEST),))
    with pytest.raises(UpdateRefused):
        check_manifest(replace(manifest, files=(*manifest.files, evil)))


@pytest.mark.parametrize(
    "entry",
    [
        FileEntry("x", Role.CARD, 2, DIGEST, (Chunk(1, DIGEST),)),
        FileEntry("x", Role.CARD, 0, DIGEST, (Chunk(-1, DIGEST), Chunk(1, DIGEST))),
        FileEntry("x", Role.CARD, 1, DIGEST, (Chunk(1, "../" + "0" * 61),)),
        FileEntry("x", Role.CARD, 1, "0" * 63, (Chunk(1, DIGEST),)),
        FileEntry("x", Role.CARD, MAX_CHUNK_BYTES + 1, DIGEST, (Chunk(MAX_CHUNK_BYTES + 1, DIGEST),)),
        FileEntry("x", Role.CARD, 70_000, DIGEST, (Chunk(1, DIGEST),) * 70_000),
    ],
)
def test_chunks_that_cannot_be_are_refused(fleet: Fleet, entry: FileEntry) -> None:
    manifest, _ = fleet.registry.manifests[fleet.registry.arms["2.0.0"].manifest_sha256]
    with pytest.raises(UpdateRefused):
        check_manifest(replace(manifest, files=(entry,)))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "sent",
    [
        zstandard.compress(b"\0" * (16 << 20)),
        zstandard.compress(b"other bytes"),
        zstandard.compress(b"x" * 600)[:9],
        b"no zstd at all",
        b"",
    ],
    ids=["bomb", "other bytes", "cut off", "not compressed", "empty"],
)
async def test_a_chunk_that_is_not_what_the_release_says_is_refused_and_the_good_one_taken_later(
    fleet: Fleet, sent: bytes
) -> None:
    registry = fleet.registry
    registry.assign(registry.arms["2.0.0"], sequence=1)
    device = fleet.device()
    device.boot()
    good = dict(registry.chunks)
    registry.chunks.update(dict.fromkeys(good, sent))
    report = await device.update_until(is_refused)
    assert "chunk" in report.error
    assert report.active.version == "1.0.0"
    registry.chunks.update(good)
    assert (await device.update_to("2.0.0")).error == ""


def signed_release(fleet: Fleet, files: dict[str, bytes], graph: onnx.ModelProto | None = None) -> Manifest:
    """A release 7.0.0 with more files, all of it vouched for and assigned."""
    folder, registry = fleet.folder / "7.0.0", fleet.registry
    write_tiny_bundle(folder, version="7.0.0", graph=graph)
    arm = registry.publish(folder, 7)
    bare, _ = registry.manifests[arm.manifest_sha256]
    added = tuple(file_entry(path, Role.CARD, data) for path, data in files.items())
    for path, data in files.items():
        registry.chunks[chunk_path(sha256(data))] = zstandard.compress(data)
        assert path
    changed = replace(bare, files=(*bare.files, *added))
    registry.assign(registry.publish_manifest(changed, arm.gate_digest, 7), sequence=1)
    return changed


def graph_with_external_data(location: str) -> onnx.ModelProto:
    """The tiny graph, one of whose tensors says that its data lie at `location`, in a branch of an If."""
    model = tiny_graph(LABELS)
    tensor = TensorProto(name="outside", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["out"], value=tensor)],
        "branch",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1])],
    )
    model.graph.node.append(helper.make_node("If", ["said"], ["unused"], then_branch=branch, else_branch=branch))
    return model


@pytest.mark.anyio
@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../factory/model.onnx", "weights.bin", "sub/../../weights.bin", "..\\weights", ""]
)
async def test_a_graph_that_reads_files_outside_its_release_is_refused(fleet: Fleet, location: str) -> None:
    signed_release(fleet, {}, graph_with_external_data(location))
    device = fleet.device()
    device.boot()
    report = await device.update_until(is_refused)
    assert report.phase is Phase.ROLLED_BACK
    assert "no file of the release" in report.error
    assert not list(device.slots.root.glob("staging-*"))
    assert "load 7.0.0" not in device.host.events


def test_a_graph_may_read_the_files_of_its_release_wherever_it_names_them(fleet: Fleet) -> None:
    folder = fleet.folder / "graphs"
    folder.mkdir()
    manifest, _ = fleet.registry.manifests[fleet.registry.arms["2.0.0"].manifest_sha256]
    onnx.save(graph_with_external_data("tokenizer.json"), str(folder / "model.onnx"))
    check_graphs(folder, manifest)
    sparse = tiny_graph(LABELS)
    values = TensorProto(name="v", data_type=TensorProto.FLOAT, dims=[1])
    values.external_data.add(key="location", value="elsewhere")
    sparse.graph.sparse_initializer.add().values.CopyFrom(values)
    function = tiny_graph(LABELS)
    node = function.functions.add().node.add(op_type="Constant")
    node.attribute.add(name="value").t.CopyFrom(values)
    for model in (sparse, function):
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(UpdateRefused, match="elsewhere"):
            check_graphs(folder, manifest)


@pytest.mark.parametrize("data", [b"", b"\x0b", b"\x3a\xff\xff\xff\x7f", b"\xff" * 20, b"\x3a\x02\x0a\x7f"])
def test_what_is_no_onnx_file_is_refused(fleet: Fleet, data: bytes) -> None:
    manifest, _ = fleet.registry.manifests[fleet.registry.arms["2.0.0"].manifest_sha256]
    (fleet.folder / "model.onnx").write_bytes(data)
    with pytest.raises(UpdateRefused, match="no ONNX file"):
        check_graphs(fleet.folder, manifest)


@pytest.mark.anyio
async def test_a_disk_without_room_is_said_before_anything_is_written(fleet: Fleet, little_disk: LittleDisk) -> None:
    fleet.registry.assign(fleet.registry.arms["2.0.0"], sequence=1)
    little_disk.free = 1000
    device = fleet.device(disk=little_disk)
    device.boot()
    report = await device.update_until(lambda one: one.error_kind is ErrorKind.NO_ROOM)
    assert "not free" in report.error
    assert device.source.asked == []
    assert not list(device.slots.root.glob("staging-*"))
    little_disk.free = 1 << 30
    await device.update_to("2.0.0")


@pytest.mark.anyio
async def test_slots_take_no_more_than_they_may(fleet: Fleet) -> None:
    fleet.registry.assign(fleet.registry.arms["2.0.0"], sequence=1)
    device = fleet.device(budget=DiskBudget(reserve_bytes=0, most_bytes=1000))
    device.boot()
    report = await device.update_until(lambda one: one.error_kind is ErrorKind.NO_ROOM)
    assert "slots at most: 1000" in report.error


@pytest.mark.anyio
async def test_where_room_is_short_the_idle_slot_is_given_up_for_the_new_release(fleet: Fleet) -> None:
    registry = fleet.registry
    for sequence, version in enumerate(("2.0.0", "3.0.0"), start=1):
        registry.assign(registry.arms[version], sequence=sequence)
        device = fleet.device()
        device.boot()
        await device.update_to(version)
    signed_release(fleet, {})
    taken = sum(path.lstat().st_blocks * 512 for path in device.slots.root.rglob("*"))
    device = fleet.device(budget=DiskBudget(reserve_bytes=0, most_bytes=taken))
    device.boot()
    await device.update_to("7.0.0")
    assert device.bundle_in("a").manifest.version == "7.0.0"
    assert device.bundle_in("b").manifest.version == "3.0.0"


@pytest.mark.anyio
async def test_a_disk_that_fills_up_on_the_way_leaves_the_old_bundle_and_goes_on_when_there_is_room(
    fleet: Fleet,
) -> None:
    signed_release(fleet, {"large": os.urandom(400_000)})
    with small_disk(fleet.folder / "updates", 2_000_000) as disk:
        device = fleet.device()
        device.boot()
        device.source.before_each = lambda: fill(disk, 40_000) if len(device.source.asked) < 3 else None
        report = await device.update_until(lambda one: one.error_kind is ErrorKind.NO_ROOM)
        assert report.active.version == "1.0.0"
        assert fleet.device().boot().manifest.version == "1.0.0"
        make_room(disk)
        device.source.before_each = lambda: None
        await device.update_to("7.0.0")


@pytest.mark.anyio
async def test_a_disk_that_cannot_be_written_is_said_and_the_old_bundle_goes_on(fleet: Fleet) -> None:
    fleet.registry.assign(fleet.registry.arms["2.0.0"], sequence=1)
    (fleet.folder / "updates").write_text("a file where a folder is wanted")
    device = fleet.device()
    assert device.boot().manifest.version == "1.0.0"
    report = await device.update_until(lambda one: bool(one.error))
    assert (report.active.version, "failed" in report.error) == ("1.0.0", True)


@pytest.mark.anyio
async def test_a_link_in_the_staging_folder_is_not_followed(fleet: Fleet) -> None:
    registry = fleet.registry
    registry.assign(registry.arms["2.0.0"], sequence=1)
    device = fleet.device()
    device.boot()
    device.source.fails_after = 1
    await device.update_until(lambda one: one.error_kind is ErrorKind.FETCH)
    victim = fleet.folder / "victim"
    victim.write_bytes(b"mine")
    (staging,) = device.slots.root.glob("staging-*")
    (staging / "model.onnx").unlink()
    (staging / "model.onnx").symlink_to(victim)
    again = fleet.device()
    again.boot()
    await again.update_until(lambda one: bool(one.error))
    assert victim.read_bytes() == b"mine"


def test_no_honest_chunk_is_longer_than_is_asked_for() -> None:
    for length in (1, 100, 70_000, 300_000):
        assert len(zstandard.compress(os.urandom(length), 19)) <= most_compressed_bytes(length)
