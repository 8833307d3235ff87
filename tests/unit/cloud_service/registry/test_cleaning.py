from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from cloud_service.config import RegistrySettings
from cloud_service.registry.cleaning import collect, retire
from cloud_service.registry.publishing import publish
from cloud_service.registry.repository import CONTENT_LOCK, Repository
from cloud_service.registry.store import FolderStore
from cloud_service.registry.verification import verify
from shared.errors import RegistryError
from tests.support.dying_store import DyingStore, WriterDied
from tests.support.repository_folder import RepositoryFolder, make_repository

OTHER = ("card", "cash", "fees")


@pytest.fixture
def made(tmp_path: Path) -> RepositoryFolder:
    return make_repository(tmp_path / "repository", settings=RegistrySettings(kept_hours=0))


def files(made: RepositoryFolder, folder: str) -> set[str]:
    return {file.path for file in made.repository.store.list(folder)}


def test_the_files_of_a_retired_release_go_and_all_others_stay(made: RepositoryFolder) -> None:
    kept = files(made, "chunks") | files(made, "targets")
    made.publish_tiny("2.0.0", labels=OTHER)
    made.assign("1.0.0")
    retire(made.repository, "tiny", "2.0.0")
    swept = collect(made.repository)

    left = files(made, "chunks") | {path for path in files(made, "targets") if "/rings/" not in path}
    assert swept.files > 0 and left == kept
    assert verify(made.repository) == []


def test_nothing_that_a_listed_release_needs_is_taken_away(made: RepositoryFolder) -> None:
    made.publish_tiny("2.0.0", labels=OTHER)
    collect(made.repository)

    assert verify(made.repository) == []
    assert collect(made.repository).files == 0


def test_what_nothing_names_any_more_stays_for_devices_on_their_way(tmp_path: Path) -> None:
    made = make_repository(tmp_path / "repository", settings=RegistrySettings(kept_hours=1))
    before = files(made, "metadata")
    made.publish_tiny("2.0.0", labels=OTHER)
    retire(made.repository, "tiny", "2.0.0")
    swept = collect(made.repository)

    assert swept.files == 0 and swept.kept_for_now > 0
    assert before <= files(made, "metadata")


def test_what_a_killed_writer_left_unfinished_goes_at_once(tmp_path: Path) -> None:
    made = make_repository(tmp_path / "repository", settings=RegistrySettings(kept_hours=1))
    (made.folder / "chunks" / "ab").mkdir()
    (made.folder / "chunks" / "ab" / ".abc.zst.1234.part").write_bytes(b"half")

    assert collect(made.repository).files == 1
    assert not (made.folder / "chunks" / "ab" / ".abc.zst.1234.part").exists()


def test_an_assigned_release_is_not_retired(made: RepositoryFolder) -> None:
    made.assign("1.0.0")

    with pytest.raises(RegistryError, match="rings/default/tiny"):
        retire(made.repository, "tiny", "1.0.0")


def test_a_release_that_a_rollback_leads_to_is_not_retired_by_mistake(made: RepositoryFolder) -> None:
    made.publish_tiny("2.0.0", labels=OTHER)
    made.assign("1.0.0")
    made.assign("2.0.0", sequence=2)

    with pytest.raises(RegistryError, match="a rollback leads to it"):
        retire(made.repository, "tiny", "1.0.0")
    retire(made.repository, "tiny", "1.0.0", closes_way_back=True)
    assert [each.version for each in made.director.releases()] == ["2.0.0"]


def test_no_sweep_while_another_publishes(made: RepositoryFolder) -> None:
    """The lock of a process that is at it; `publish` holds the same one."""
    elsewhere = Repository(_ImpatientStore(made), made.repository.keys, made.repository.settings)
    with (
        made.repository.store.locked(CONTENT_LOCK, 1.0),
        pytest.raises(RegistryError, match="another process is changing the repository"),
    ):
        collect(elsewhere)


def test_a_sweep_killed_at_any_point_leaves_a_whole_repository_that_can_be_swept_again(made: RepositoryFolder) -> None:
    made.publish_tiny("2.0.0", labels=OTHER)
    retire(made.repository, "tiny", "2.0.0")
    whole_run = DyingStore(FolderStore(copied(made, "counted")))
    collect(Repository(whole_run, made.repository.keys, made.repository.settings))
    assert whole_run.changes > 5

    for dies_at in range(whole_run.changes):
        store = FolderStore(copied(made, f"dies-at-{dies_at}"))
        repository = Repository(store, made.repository.keys, made.repository.settings)
        with pytest.raises(WriterDied):
            collect(Repository(DyingStore(store, dies_at), made.repository.keys, made.repository.settings))
        assert verify(repository) == []
        publish(repository, made.bundles["2.0.0"])
        collect(repository)
        assert verify(repository) == []


def copied(made: RepositoryFolder, name: str) -> Path:
    """The repository once more, as it is now."""
    return Path(shutil.copytree(made.folder, made.folder.parent / name))


class _ImpatientStore(DyingStore):
    def __init__(self, made: RepositoryFolder) -> None:
        super().__init__(made.repository.store)

    def locked(self, name: str, wait_s: float) -> AbstractContextManager[None]:
        return super().locked(name, 0.1)
