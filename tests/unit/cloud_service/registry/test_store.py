from __future__ import annotations

from pathlib import Path

import pytest

from cloud_service.registry.store import ArtifactStore, FolderStore
from shared.errors import RegistryError
from tests.support.bucket import HAS_OBSTORE, needs_obstore


def stores(folder: Path) -> list[ArtifactStore]:
    found: list[ArtifactStore] = [FolderStore(folder / "plain")]
    if HAS_OBSTORE:
        from obstore.store import LocalStore, MemoryStore

        from cloud_service.registry.object_store import BucketStore

        found.append(BucketStore(MemoryStore(), folder))
        found.append(BucketStore(LocalStore(folder / "bucket", mkdir=True), folder))
    return found


@pytest.fixture(params=range(3 if HAS_OBSTORE else 1), ids=("folder", "memory", "local bucket")[:3])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    return stores(tmp_path)[int(request.param)]


def test_what_was_put_is_there_and_replaced_as_a_whole(store: ArtifactStore) -> None:
    store.put("chunks/ab/one.zst", b"first")
    store.put("chunks/ab/one.zst", b"second")

    assert store.get("chunks/ab/one.zst") == b"second"
    assert store.exists("chunks/ab/one.zst")
    assert [(file.path, file.length) for file in store.list("chunks")] == [("chunks/ab/one.zst", 6)]


def test_what_is_not_there_is_none_and_taking_it_away_is_no_error(store: ArtifactStore) -> None:
    store.delete("targets/none.json")

    assert store.get("targets/none.json") is None
    assert not store.exists("targets/none.json")
    assert list(store.list("targets")) == []


def test_two_writers_of_one_new_file_do_not_both_succeed(store: ArtifactStore) -> None:
    store.put("metadata/2.snapshot.json", b"mine", only_new=True)

    with pytest.raises(RegistryError, match="another at the same time"):
        store.put("metadata/2.snapshot.json", b"theirs", only_new=True)
    assert store.get("metadata/2.snapshot.json") == b"mine"


def test_a_lock_keeps_others_out_until_it_is_let_go(store: ArtifactStore) -> None:
    with store.locked("signing", 1.0):
        with pytest.raises(RegistryError, match="changing the repository"), store.locked("signing", 0.1):
            pass
        with store.locked("content", 1.0):
            pass
    with store.locked("signing", 1.0):
        pass


def test_a_folder_that_cannot_be_written_is_said_in_plain_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")

    with pytest.raises(RegistryError, match="cannot be written"):
        FolderStore(tmp_path / "file").put("chunks/a.zst", b"data")


@needs_obstore
def test_another_machines_lock_keeps_this_one_out_of_the_bucket(tmp_path: Path) -> None:
    from obstore.store import MemoryStore

    from cloud_service.registry.object_store import BucketStore

    bucket = MemoryStore()
    with (
        BucketStore(bucket, tmp_path / "here").locked("signing", 1.0),
        pytest.raises(RegistryError, match="changing the repository"),
        BucketStore(bucket, tmp_path / "there").locked("signing", 0.1),
    ):
        pass
