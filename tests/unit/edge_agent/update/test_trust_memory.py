"""What a device keeps on its disk, damaged in every way: it heals, and what was seen before does not come back."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.update.trust_memory import SeenRole, TrustMemory, load_memory, save_memory
from edge_agent.update.tuf_client import MEMORY_NAME
from shared.errors import NoRoom, UpdateRefused
from tests.support.full_disk import fill, make_room, small_disk
from tests.support.hostile_repository import HostileRepository
from tests.support.trusting_device import DELEGATED, TrustingDevice, honest_repository

pytestmark = pytest.mark.anyio
Damage = Callable[[Path, random.Random], object]


def _torn(file: Path, chance: random.Random) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: chance.randrange(len(data))])


def _one_bit_flipped(file: Path, chance: random.Random) -> None:
    data = bytearray(file.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    file.write_bytes(data)


def _zeros(file: Path, _: random.Random) -> None:
    file.write_bytes(bytes(len(file.read_bytes())))


def _deep(file: Path, _: random.Random) -> None:
    file.write_bytes(b"[" * 50_000)


def _a_folder_instead(file: Path, _: random.Random) -> None:
    file.unlink()
    file.mkdir()


def _a_link_to_nowhere(file: Path, _: random.Random) -> None:
    file.unlink()
    file.symlink_to("nowhere")


DAMAGES: tuple[Damage, ...] = (_torn, _one_bit_flipped, _zeros, _deep, _a_folder_instead, _a_link_to_nowhere)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("seed", range(3))
async def test_damaged_metadata_are_fetched_anew(tmp_path: Path, damage: Damage, seed: int) -> None:
    repository = honest_repository()
    repository.rotate("timestamp")
    repository.publish(DELEGATED)
    device = TrustingDevice(tmp_path / "trust", repository)
    before = await device.look()
    chance = random.Random(seed)
    for file in sorted(path for path in (device.folder / "metadata").rglob("*.json") if path.is_file()):
        damage(file, chance)
    device.restart()
    assert await device.look() == before


@pytest.mark.parametrize("name", ["metadata", "metadata/root_history", "targets", f"metadata/{MEMORY_NAME}"])
async def test_whatever_is_lost_is_fetched_anew(tmp_path: Path, name: str) -> None:
    repository = honest_repository()
    device = TrustingDevice(tmp_path / "trust", repository)
    before = await device.look()
    lost = device.folder / name
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    device.restart()
    assert await device.look() == before


async def test_without_its_metadata_a_device_still_takes_none_that_are_older(tmp_path: Path) -> None:
    repository = honest_repository()
    old = dict(repository.files)
    repository.publish(DELEGATED)
    device = TrustingDevice(tmp_path / "trust", repository)
    await device.look()
    for file in (device.folder / "metadata").glob("*.json"):
        file.unlink()
    device.source.files = old
    device.restart()
    with pytest.raises(UpdateRefused, match="older than version 3 seen before"):
        await device.look()


async def test_without_its_metadata_a_device_still_takes_no_older_root(tmp_path: Path) -> None:
    repository = honest_repository()
    old = dict(repository.files)
    repository.rotate("timestamp", "snapshot", "targets")
    repository.publish(DELEGATED)
    device = TrustingDevice(tmp_path / "trust", repository)
    await device.look()
    shutil.rmtree(device.folder / "metadata" / "root_history")
    device.source.files = old
    device.restart()
    with pytest.raises(UpdateRefused, match="root is version 1, older than version 2"):
        await device.look()


async def test_what_a_killed_process_left_half_written_is_swept_away(tmp_path: Path) -> None:
    device = TrustingDevice(tmp_path / "trust", honest_repository())
    (device.folder / "metadata").mkdir(parents=True)
    (device.folder / "metadata" / "tmpabc123").write_bytes(b"half")
    await device.look()
    assert not (device.folder / "metadata" / "tmpabc123").exists()


async def test_small_targets_do_not_fill_the_disk(tmp_path: Path) -> None:
    repository = honest_repository()
    device = TrustingDevice(tmp_path / "trust", repository)
    for number in range(2, 45):
        repository.assign(repository.release(number))
        repository.publish(DELEGATED)
        await device.look()
    assert len(list((device.folder / "targets").iterdir())) <= device.limits.targets_kept


async def test_on_a_full_disk_nothing_is_lost_and_it_goes_on_when_there_is_room(tmp_path: Path) -> None:
    repository = honest_repository()
    with small_disk(tmp_path / "disk", 600_000) as disk:
        device = TrustingDevice(disk / "trust", repository)
        await device.look()
        repository.assign(repository.release(2))
        repository.publish(DELEGATED)
        fill(disk, 0)
        with pytest.raises(NoRoom, match="cannot be kept"):
            await device.look()
        make_room(disk)
        assert (await device.look()).manifest.version == "1.2.0"


async def test_a_file_system_that_made_folders_of_files_is_put_right(tmp_path: Path) -> None:
    device = TrustingDevice(tmp_path / "trust", honest_repository())
    before = await device.look()
    for file in [path for path in device.folder.rglob("*") if path.is_file()]:
        _a_folder_instead(file, random.Random(0))
        (file / "stranger").write_bytes(b"?")
    device.restart()
    assert await device.look() == before


def test_a_damaged_memory_is_no_memory(tmp_path: Path) -> None:
    memory = TrustMemory(5.0, 1, SeenRole("keys", 7), SeenRole("keys", 8), {"director": 9}, {"banking77": 3})
    file = tmp_path / MEMORY_NAME
    save_memory(file, memory)
    assert load_memory(file) == memory
    whole = file.read_bytes()
    for seed in range(50):
        damage = random.Random(seed).choice((_torn, _one_bit_flipped, _zeros))
        damage(file, random.Random(seed))
        assert load_memory(file) == TrustMemory()
        file.write_bytes(whole)


async def test_versions_are_forgotten_with_the_keys_that_signed_them(tmp_path: Path) -> None:
    repository = HostileRepository(honest_repository().now.timestamp())
    repository.timestamp.version = repository.snapshot.version = 2**31
    repository.assign(repository.release(1))
    repository.publish(DELEGATED)
    device = TrustingDevice(tmp_path / "trust", repository)
    await device.look()
    repository.timestamp.version = repository.snapshot.version = 10
    repository.rotate("timestamp", "snapshot")
    repository.publish(DELEGATED)
    device.restart()
    assert await device.look()
