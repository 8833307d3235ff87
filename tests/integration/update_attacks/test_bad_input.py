"""What malformed files, bombs, climbing paths and wrong clocks do to a device that looks for updates: nothing.

Each comes in ten variants or more, and the device says in plain words what is wrong.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import zstandard

from shared.bundle.manifest import Chunk, FileEntry, Role
from shared.documents import sha256
from shared.errors import UpdateError
from shared.update.names import DIRECTOR_ROLE, GATES_ROLE, gate_target
from tests.support.hostile_repository import MODEL, HostileRepository, tiny_manifest
from tests.support.trusting_device import DAY_S, DELEGATED, TrustingDevice, refused

pytestmark = pytest.mark.anyio


MALFORMED: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "no bytes": lambda data, chance: b"",
    "noise": lambda data, chance: chance.randbytes(300),
    "cut off": lambda data, chance: data[: chance.randrange(1, len(data))],
    "not a mapping": lambda data, chance: b"[]",
    "nothing in it": lambda data, chance: b"{}",
    "deep": lambda data, chance: b'{"signed":' + b"[" * 15_000,
    "no text": lambda data, chance: b"\xff\xfe" + data,
    "no signatures": lambda data, chance: json.dumps({**json.loads(data), "signatures": []}).encode(),
    "odd signatures": lambda data, chance: json.dumps({**json.loads(data), "signatures": 7}).encode(),
    "one bit": lambda data, chance: _with_one_bit_flipped(data, chance),
    "another role": lambda data, chance: data.replace(b'"_type":"', b'"_type":"x'),
    "a number too long": lambda data, chance: data.replace(b'"version":', b'"version":' + b"9" * 5000),
    "no date": lambda data, chance: data.replace(b'"expires":"2', b'"expires":"x'),
}


def _with_one_bit_flipped(data: bytes, chance: random.Random) -> bytes:
    place = data.index(b'"signed"') + chance.randrange(20, 200)
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize("way", MALFORMED)
@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", DIRECTOR_ROLE])
async def test_malformed_metadata(repository: HostileRepository, device: TrustingDevice, role: str, way: str) -> None:
    repository.rotate("timestamp")
    repository.publish()
    name = {"timestamp": "timestamp.json", "root": "2.root.json"}.get(role, f".{role}.json")
    device.source.files = {
        path: MALFORMED[way](data, random.Random(path)) if path.endswith(name) else data
        for path, data in repository.files.items()
    }
    await refused(device, "cannot be used", "not what was signed", "lack the signatures", "bytes, more than")


@pytest.mark.parametrize("megabytes", [5, 8, 16, 32, 64, 128, 256, 512, 1024, 4096])
async def test_a_gate_that_unpacks_without_end(
    repository: HostileRepository, device: TrustingDevice, megabytes: int
) -> None:
    packer = zstandard.ZstdCompressor(level=19).compressobj(size=megabytes << 20 if megabytes % 3 else -1)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(min(megabytes, 24)))
    packed += b"" if megabytes > 24 else packer.flush()
    digest = sha256(b"bomb")
    repository.list_target(GATES_ROLE, gate_target(MODEL, digest), packed)
    repository.assign(replace(repository.release(2), gate_digest=digest))
    repository.publish(DELEGATED)
    await refused(device, "unpacks to more than", "cannot be unpacked")


CLIMBING = ("../out", "a/../../out", "/etc/passwd", "..", "a\\..\\out")
MISLEADING = ("./a", "a//b", "a/", "bundle.json", "gate.json", "a\0b", "")


@pytest.mark.parametrize("path", [*CLIMBING, *MISLEADING])
async def test_a_file_that_would_lie_outside_the_slot(
    repository: HostileRepository, device: TrustingDevice, path: str
) -> None:
    honest = tiny_manifest(2)
    digest = sha256(b"")
    stranger = FileEntry(path, Role.CARD, 1, digest, (Chunk(1, digest),))
    repository.assign(repository.release(2, replace(honest, files=(*honest.files, stranger))))
    repository.publish(DELEGATED)
    await refused(device, "outside the bundle", "which no bundle has")


@pytest.mark.parametrize(
    "digest",
    ["", "../" * 20 + "etc", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "/" * 64, "é" * 64, " " * 64, "0" * 64 + "\n"],
)
async def test_a_chunk_whose_digest_is_a_path(
    repository: HostileRepository, device: TrustingDevice, digest: str
) -> None:
    honest = tiny_manifest(2)
    entry = replace(honest.files[0], chunks=(Chunk(10, digest),))
    repository.assign(repository.release(2, replace(honest, files=(entry, *honest.files[1:]))))
    repository.publish(DELEGATED)
    await refused(device, "a digest of")


@pytest.mark.parametrize("name", ["..", "../../x", "/", "a/b", "", "x" * 65, "ä", "a b", "a\nb", "."])
async def test_an_assignment_that_names_a_path(
    repository: HostileRepository, device: TrustingDevice, name: str
) -> None:
    honest = repository.release(2)
    for arm in (replace(honest, version=name), replace(honest, gate_digest=name)):
        repository.assign(arm)
        repository.publish(DELEGATED)
        await refused(device, "cannot be read", "names what cannot be")


@pytest.mark.parametrize("clock_unix_s", [0.0, 1.0, -1.0, 3600.0, 86_400.0, 1e9, 1.5e9, -1e9, 0.5, 1.7e9])
async def test_a_clock_in_the_past_lets_nothing_expired_in_and_locks_nothing_out(
    repository: HostileRepository, device: TrustingDevice, clock_unix_s: float
) -> None:
    device.clock.jump(clock_unix_s - device.clock.unix_s() - 20 * DAY_S)
    device.clock.advance(20 * DAY_S)
    assert await device.look()
    device.clock.jump(repository.now.timestamp() + 20 * DAY_S - device.clock.unix_s())
    assert await device.look()
    device.clock.jump(clock_unix_s - device.clock.unix_s())
    device.restart()
    assert await device.look()
    repository.timestamp.expires = repository.now.replace(day=20)
    repository.timestamp.version += 1
    repository.publish_timestamp()
    await refused(device, "the signed metadata have expired")


@pytest.mark.parametrize("days_late", [0.001, 1, 2, 7, 30, 100, 365, 1000, 10_000, 1e12])
async def test_where_everything_has_expired_nothing_is_taken_until_it_is_signed_again(
    repository: HostileRepository, device: TrustingDevice, days_late: float
) -> None:
    await device.look()
    late_s = (30 + days_late) * DAY_S
    device.clock.jump(late_s)
    await refused(device, "the signed metadata have expired")
    device.clock.jump(-late_s)
    assert await device.look()


async def test_every_refusal_is_one_of_updates(repository: HostileRepository, device: TrustingDevice) -> None:
    """Whatever single file is replaced by noise, an update ends as an `UpdateError` or is not touched by it."""
    for path in sorted(repository.files):
        device.source.files = {**repository.files, path: random.Random(path).randbytes(500)}
        device.restart()
        try:
            taken = await device.look()
        except UpdateError:
            continue
        assert taken.manifest == tiny_manifest(1)
