from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloud_service.delivery.bucket_files import BucketFiles
from cloud_service.delivery.files import FilePart, FolderFiles, RepositoryFiles
from shared.clock import SystemClock
from shared.update.names import chunk_path
from tests.support.bucket import HAS_OBSTORE, needs_obstore
from tests.support.fake_clock import FakeClock
from tests.support.tiny_s3 import TinyS3, open_s3, s3_at, serving_s3

KB, MB = 1 << 10, 1 << 20
CHUNK, LONG, EMPTY = chunk_path("a" * 64), chunk_path("b" * 64), "targets/models/m/empty.json"
TIMESTAMP = "metadata/timestamp.json"


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    drawn = random.Random(3)
    return {CHUNK: drawn.randbytes(MB), LONG: drawn.randbytes(9 * MB + 5), EMPTY: b"", TIMESTAMP: b"{}"}


@pytest.fixture
def folder(tmp_path: Path, contents: dict[str, bytes]) -> Path:
    for path, data in contents.items():
        (tmp_path / "repository" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "repository" / path).write_bytes(data)
    return tmp_path / "repository"


@pytest.fixture
def s3(folder: Path) -> Iterator[TinyS3]:
    with serving_s3(folder) as server:
        yield server


def in_folder(folder: Path, server: TinyS3) -> RepositoryFiles:
    return FolderFiles(folder)


def in_memory(folder: Path, server: TinyS3) -> RepositoryFiles:
    from obstore.store import MemoryStore

    store = MemoryStore()
    for file in folder.rglob("*"):
        if file.is_file():
            store.put(file.relative_to(folder).as_posix(), file.read_bytes())
    return BucketFiles(store, SystemClock())


def in_local_bucket(folder: Path, server: TinyS3) -> RepositoryFiles:
    from obstore.store import LocalStore

    return BucketFiles(LocalStore(folder), SystemClock())


def in_s3(folder: Path, server: TinyS3) -> RepositoryFiles:
    return BucketFiles(open_s3(server), SystemClock())


PLACES: list[Callable[[Path, TinyS3], RepositoryFiles]] = [in_folder]
if HAS_OBSTORE:
    PLACES += [in_memory, in_local_bucket, in_s3]


@pytest.fixture(params=PLACES, ids=[place.__name__ for place in PLACES])
def files(request: pytest.FixtureRequest, folder: Path, s3: TinyS3) -> RepositoryFiles:
    made: RepositoryFiles = request.param(folder, s3)
    return made


def test_any_piece_of_a_file_is_read(files: RepositoryFiles, contents: dict[str, bytes]) -> None:
    whole = contents[LONG]
    for offset in (0, 1, 4 * MB - 10, 4 * MB, 8 * MB + 7, 9 * MB + 4):
        for length in (1, 256 * KB, 5 * MB, 20 * MB):
            assert files.read(LONG, offset, length) == FilePart(whole[offset : offset + length], len(whole))


def test_at_the_end_and_beyond_there_is_nothing(files: RepositoryFiles, contents: dict[str, bytes]) -> None:
    for path, data in contents.items():
        for begin in (len(data), len(data) + 1, len(data) + 4 * MB, (1 << 63) - 1, (1 << 64) - 1):
            assert files.read(path, begin, 4096) == FilePart(b"", len(data))


def test_what_is_no_file_of_the_repository_is_not_found(files: RepositoryFiles, folder: Path) -> None:
    (folder.parent / "secret").write_text("s")
    (folder / "locks").mkdir()
    (folder / "locks" / "x").write_text("held")
    unknown = ("metadata/9.root.json", chunk_path("c" * 64))
    for path in (*unknown, "../secret", "metadata/../../secret", "/etc/passwd", "locks/x", ""):
        with pytest.raises(FileNotFoundError):
            files.read(path, 0, 4096)


@needs_obstore
def test_all_blocks_of_a_chunk_are_one_request_to_the_bucket(s3: TinyS3, contents: dict[str, bytes]) -> None:
    files = BucketFiles(open_s3(s3), FakeClock())
    for _ in range(3):
        blocks = [files.read(CHUNK, offset, 256 * KB).data for offset in range(0, MB, 256 * KB)]
        assert b"".join(blocks) == contents[CHUNK]
    assert s3.asked == [f"GET {CHUNK}"]


@needs_obstore
def test_many_who_want_the_same_at_once_are_one_request_to_the_bucket(s3: TinyS3, contents: dict[str, bytes]) -> None:
    files = BucketFiles(open_s3(s3), SystemClock())
    with ThreadPoolExecutor(16) as threads:
        got = list(threads.map(lambda number: files.read(CHUNK, number % 4 * 256 * KB, 256 * KB).data, range(64)))
    assert got == [contents[CHUNK][number % 4 * 256 * KB :][: 256 * KB] for number in range(64)]
    assert s3.asked == [f"GET {CHUNK}"]


@needs_obstore
def test_metadata_are_never_old(s3: TinyS3) -> None:
    files = BucketFiles(open_s3(s3), FakeClock())
    for number in range(5):
        data = f'{{"version": {number}}}'.encode()
        (s3.folder / TIMESTAMP).write_bytes(data)
        assert files.read(TIMESTAMP, 0, 4096) == FilePart(data, len(data))
    assert s3.asked == [f"GET {TIMESTAMP}"] * 5


@needs_obstore
def test_what_was_damaged_in_the_bucket_is_served_right_a_minute_after_it_was_put_right(s3: TinyS3) -> None:
    clock = FakeClock()
    files = BucketFiles(open_s3(s3), clock)
    right = (s3.folder / CHUNK).read_bytes()
    (s3.folder / CHUNK).write_bytes(b"damaged")
    assert files.read(CHUNK, 0, 4096).data == b"damaged"
    (s3.folder / CHUNK).write_bytes(right)
    clock.advance(61.0)
    assert files.read(CHUNK, 0, 4096) == FilePart(right[:4096], len(right))


@needs_obstore
def test_of_what_was_read_only_so_much_is_kept(s3: TinyS3) -> None:
    files = BucketFiles(open_s3(s3), FakeClock(), most_kept_bytes=5 * MB)
    for path, offset in ((CHUNK, 0), (LONG, 0), (CHUNK, 9), (LONG, 4 * MB), (CHUNK, 0), (LONG, 4 * MB), (LONG, 0)):
        files.read(path, offset, 4096)
    assert s3.asked == [f"GET {path}" for path in (CHUNK, LONG, LONG, LONG)]


@needs_obstore
def test_a_bucket_that_cannot_be_reached_is_no_missing_file() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    files = BucketFiles(s3_at(f"http://127.0.0.1:{port}"), SystemClock(), "s3://fleet")
    for path in (TIMESTAMP, CHUNK):
        with pytest.raises(OSError, match=r"^s3://fleet does not give [^\n]*$") as raised:
            files.read(path, 0, 4096)
        assert not isinstance(raised.value, FileNotFoundError)
