"""Whatever moment a writer dies at, devices go on, and the next writer ends what was begun."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tuf.ngclient import Updater

from cloud_service.registry.ceremony import revoke, rotate
from cloud_service.registry.director import Director
from cloud_service.registry.keys import KeyFolder
from cloud_service.registry.publishing import publish
from cloud_service.registry.repository import Repository
from cloud_service.registry.resigner import Resigner
from cloud_service.registry.store import FolderStore
from cloud_service.registry.verification import StoreFetcher, verify
from shared.update.names import manifest_target, ring_target
from tests.support.dying_store import DyingStore, WriterDied
from tests.support.repository_folder import RepositoryFolder, make_repository
from tests.support.tiny_bundle import write_tiny_bundle


@pytest.fixture
def made(tmp_path: Path) -> RepositoryFolder:
    made = make_repository(tmp_path / "repository", assigned="1.0.0", threshold=2, root_keys=2)
    write_tiny_bundle(tmp_path / "new", version="2.0.0", labels=("card", "cash", "fees"))
    return made


def publish_new(repository: Repository) -> None:
    publish(repository, repository.keys.folder.parents[1] / "new")


def assign_again(repository: Repository) -> None:
    director = Director(repository)
    name, before = ring_target("default", "tiny"), director.assignments()[ring_target("default", "tiny")]
    director.assign(name, type(before)(before.model, "next", before.sequence + 1, 0, before.arms))


def rotated(role: str) -> Callable[[Repository], None]:
    def exchange(repository: Repository) -> None:
        rotate(repository, role)

    exchange.__name__ = f"rotate_{role}"
    return exchange


def revoke_releasing(repository: Repository) -> None:
    delegations = repository.state().role("targets")
    revoke(repository, delegations.get_delegated_role("releases").keyids[0])


CHANGES = [
    publish_new,
    assign_again,
    revoke_releasing,
    *(rotated(role) for role in ("root", "targets", "gates", "director", "snapshot", "timestamp")),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: str(change.__name__))
def test_a_writer_that_dies_at_any_write_leaves_a_repository_that_devices_believe(
    made: RepositoryFolder, change: Callable[[Repository], None], tmp_path: Path
) -> None:
    old_device = tmp_path / "old-device"
    read_assigned(made.repository, made.root, old_device)
    whole_run = DyingStore(made.repository.store)
    change(Repository(whole_run, copied_keys(made, made.folder, tmp_path / "whole"), made.repository.settings))
    shutil.rmtree(made.folder)
    assert whole_run.changes >= 2

    for dies_at in range(whole_run.changes):
        folder, keys = tmp_path / f"{dies_at}" / "repository", KeyFolder(tmp_path / f"{dies_at}" / "keys")
        shutil.copytree(tmp_path / "whole" / "before", folder)
        shutil.copytree(made.keys, keys.folder)
        with pytest.raises(WriterDied):
            change(Repository(DyingStore(FolderStore(folder), dies_at), keys, made.repository.settings))
        survivor = Repository(FolderStore(folder), KeyFolder(keys.folder), made.repository.settings)
        for device in (old_device, tmp_path / "new-device"):
            here = tmp_path / f"{dies_at}" / device.name
            if device.exists():
                shutil.copytree(device, here)
            read_assigned(survivor, made.root, here)
        Resigner(survivor).sign()
        assert verify(survivor) == []
        change(survivor)
        assert verify(survivor) == []


def copied_keys(made: RepositoryFolder, folder: Path, to: Path) -> KeyFolder:
    """Keys to change with, and the repository put aside as it was before."""
    shutil.copytree(folder, to / "before")
    shutil.copytree(made.keys, to / "keys")
    return KeyFolder(to / "keys")


def read_assigned(repository: Repository, root: bytes, folder: Path) -> None:
    """What a device does: refresh, read its assignment and the manifest that it names."""
    (folder / "targets").mkdir(parents=True, exist_ok=True)
    updater = Updater(
        metadata_dir=str(folder / "metadata"),
        metadata_base_url="store://repository/metadata/",
        target_dir=str(folder / "targets"),
        target_base_url="store://repository/targets/",
        fetcher=StoreFetcher(repository.store),
        bootstrap=root,
    )
    updater.refresh()
    for name in (ring_target("default", "tiny"), manifest_target("tiny", "1.0.0")):
        info = updater.get_targetinfo(name)
        assert info is not None
        updater.download_target(info)
