from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from cloud_service.registry.ceremony import ROLES, init_repository, renew, revoke, rotate
from cloud_service.registry.keys import KeyFolder
from cloud_service.registry.repository import Repository
from cloud_service.registry.store import FolderStore
from cloud_service.registry.verification import verify
from shared.errors import RegistryError
from tests.support.dying_store import DyingStore, WriterDied
from tests.support.repository_folder import RepositoryFolder, make_repository


@pytest.fixture
def made(tmp_path: Path) -> RepositoryFolder:
    return make_repository(tmp_path / "repository", assigned="1.0.0", threshold=2, root_keys=3)


def reopened(made: RepositoryFolder) -> Repository:
    return Repository(made.repository.store, KeyFolder(made.keys), made.repository.settings)


def keyids(made: RepositoryFolder, role: str) -> list[str]:
    state = made.repository.state()
    delegator = state.root.signed if role in ("root", "targets", "snapshot", "timestamp") else state.role("targets")
    return list(delegator.get_delegated_role(role).keyids)


def test_root_needs_its_threshold_and_offline_keys_lie_apart_from_online_ones(made: RepositoryFolder) -> None:
    root = made.repository.state().root.signed.roles["root"]

    assert (root.threshold, len(root.keyids)) == (2, 3)
    offline = {path.name.split("-")[0] for path in (made.keys / "offline").iterdir()}
    online = {path.name.split("-")[0] for path in (made.keys / "online").iterdir()}
    assert offline == {"root", "targets", "releases"} and online == {"director", "publishing"}
    assert verify(made.repository) == []


def test_keys_are_not_made_over_keys(made: RepositoryFolder) -> None:
    with pytest.raises(RegistryError, match="nothing was changed"):
        init_repository(made.repository, threshold=1, root_keys=1)


@pytest.mark.parametrize(("threshold", "keys"), [(0, 1), (3, 2), (1, 99)])
def test_a_threshold_that_cannot_be_reached_is_refused(tmp_path: Path, threshold: int, keys: int) -> None:
    with pytest.raises(RegistryError, match="threshold"):
        make_repository(tmp_path / "repository", versions=(), threshold=threshold, root_keys=keys)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_that_got_new_keys_is_believed_by_devices_with_the_old_root(made: RepositoryFolder, role: str) -> None:
    old_root, before = made.root, keyids(made, role)
    rotate(made.repository, role)

    assert set(before).isdisjoint(keyids(made, role)) and len(before) == len(keyids(made, role))
    assert verify(reopened(made)) == []
    (made.keys / "root.json").write_bytes(old_root)
    assert verify(reopened(made)) == []
    made.assign("1.0.0", sequence=2)
    made.publish_tiny("2.0.0")
    assert verify(reopened(made)) == []


def test_a_revoked_key_signs_nothing_any_more_and_a_new_one_takes_each_of_its_places(made: RepositoryFolder) -> None:
    stolen = keyids(made, "gates")[0]
    roles = revoke(made.repository, stolen[:12])

    assert sorted(roles) == ["exceptions", "gates", "releases"]
    assert all(stolen not in keyids(made, role) for role in ROLES)
    assert KeyFolder(made.keys).find(stolen) is None
    assert verify(reopened(made)) == []


def test_a_lost_root_key_is_revoked_by_the_others(made: RepositoryFolder) -> None:
    lost = keyids(made, "root")[0]
    path = KeyFolder(made.keys).find(lost)
    assert path is not None
    path.unlink()

    assert revoke(reopened(made), lost) == ["root"]
    assert lost not in keyids(made, "root")
    assert verify(reopened(made)) == []


def test_a_new_root_without_the_threshold_of_the_old_is_refused_and_nothing_has_changed(made: RepositoryFolder) -> None:
    for keyid in keyids(made, "root")[:2]:
        (KeyFolder(made.keys).find(keyid) or made.keys).unlink()
    before = sorted(path.name for path in made.keys.rglob("o*line/*.pem"))

    with pytest.raises(RegistryError, match=r"2 of 3 keys.*bring the key files"):
        rotate(reopened(made), "timestamp")
    assert verify(reopened(made)) == []
    assert sorted(path.name for path in made.keys.rglob("o*line/*.pem")) == before


def test_without_the_offline_keys_the_online_ones_still_assign_and_nothing_else_changes(made: RepositoryFolder) -> None:
    shutil.rmtree(made.keys / "offline")
    made = RepositoryFolder(made.folder, reopened(made), made.bundles)

    made.assign("1.0.0", sequence=2)
    for change in (lambda: made.publish_tiny("2.0.0"), lambda: rotate(made.repository, "director")):
        with pytest.raises(RegistryError, match="bring the key files"):
            change()
    assert renew(made.repository) == []
    assert verify(made.repository) == []


@pytest.mark.parametrize("role", ["releases", "targets", "snapshot", "root"])
def test_keys_are_there_for_all_that_was_signed_wherever_a_full_disk_stops_a_rotation(
    made: RepositoryFolder, role: str
) -> None:
    for fails_at in range(12):
        folder = made.folder.parent / f"{role}-{fails_at}"
        shutil.copytree(made.folder, folder)
        shutil.copytree(made.keys, folder / "keys")
        store, keys = FolderStore(folder), KeyFolder(folder / "keys")
        with suppress(RegistryError):
            rotate(Repository(FullStore(store, fails_at), keys, made.repository.settings), role)
        repository = Repository(store, KeyFolder(folder / "keys"), made.repository.settings)
        with repository.changing() as change:
            change.renews_snapshot = True
            change.edit("targets")
            change.edit("releases")
        assert verify(repository) == []


class FullStore(DyingStore):
    """Its disk is full from one write on."""

    def _count(self) -> None:
        try:
            super()._count()
        except WriterDied:
            raise RegistryError("no space left on device") from None


def test_an_unknown_role_or_key_is_said(made: RepositoryFolder) -> None:
    with pytest.raises(RegistryError, match="none of root, targets"):
        rotate(made.repository, "policy")
    with pytest.raises(RegistryError, match="0 keys begin"):
        revoke(made.repository, "zzzz")


def test_renewed_offline_roles_hold_for_their_whole_time_again(made: RepositoryFolder) -> None:
    before = made.repository.state()
    renewed = renew(made.repository)
    after = made.repository.state()

    assert sorted(renewed) == ["exceptions", "gates", "releases", "root", "targets"]
    assert after.root.signed.version == before.root.signed.version + 1
    assert after.role("releases").version == before.role("releases").version + 1
    assert verify(reopened(made)) == []
