from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from cloud_service.config import RegistrySettings
from cloud_service.registry.catalogue import find_release, listed_gates, listed_releases
from cloud_service.registry.cleaning import retire
from cloud_service.registry.keys import KeyFolder
from cloud_service.registry.publishing import publish, publish_gate
from cloud_service.registry.repository import Repository
from cloud_service.registry.resigner import Resigner
from cloud_service.registry.verification import verify
from shared.bundle import read_bundle, replace_gate
from shared.errors import BundleDigestMismatch, InputError, RegistryError
from shared.gate import Gate
from shared.update.names import GATES_ROLE, gate_target, manifest_target
from tests.support.repository_folder import RepositoryFolder, make_repository
from tests.support.tiny_bundle import write_tiny_bundle


@pytest.fixture
def made(tmp_path: Path) -> RepositoryFolder:
    return make_repository(tmp_path / "repository")


def versions(made: RepositoryFolder, model: str = "tiny") -> list[tuple[str, int]]:
    found = listed_releases(made.repository.state(), model)
    return [(release.version, release.release) for release in found]


def recalibrated(bundle: Path, times: int) -> Gate:
    """Another gate for the same model; written into the bundle."""
    read = read_bundle(bundle)
    assert read.gate is not None
    gate = dataclasses.replace(read.gate, temperature=1.0 + times / 100)
    replace_gate(read, gate)
    return gate


def test_a_published_bundle_is_whole_to_a_fresh_client(made: RepositoryFolder) -> None:
    state = made.repository.state()
    release = find_release(state, "tiny", "1.0.0")
    gate = read_bundle(made.bundles["1.0.0"]).gate

    assert verify(made.repository) == []
    assert gate is not None and release.gates == (gate.digest,)
    assert gate_target("tiny", gate.digest) in state.role(GATES_ROLE).targets
    assert "gate.json" not in made.repository.target(state, "releases", manifest_target("tiny", "1.0.0")).decode()


def test_the_next_version_stores_only_what_changed(made: RepositoryFolder) -> None:
    again = made.publish_tiny("1.1.0", labels=("card", "cash", "loan"))
    other = made.publish_tiny("1.2.0", labels=("card", "cash", "fees"))

    assert (again.chunks.new, again.chunks.shared) == (0, 4)
    assert other.chunks.new > 0 and other.chunks.shared > 0
    assert versions(made) == [("1.0.0", 1), ("1.1.0", 2), ("1.2.0", 3)]


def test_models_are_numbered_apart(made: RepositoryFolder) -> None:
    made.publish_tiny("1.0.0", model="other")

    assert versions(made, "other") == [("1.0.0", 1)]
    assert len(listed_releases(made.repository.state())) == 2


def test_the_same_bundle_again_changes_nothing(made: RepositoryFolder) -> None:
    before = made.repository.state().role("releases").version
    again = publish(made.repository, made.bundles["1.0.0"])

    assert again.was_there and again.release == 1
    assert made.repository.state().role("releases").version == before


def test_other_content_under_a_published_version_is_refused_even_after_it_was_retired(made: RepositoryFolder) -> None:
    other = made.folder.parent / "other"
    write_tiny_bundle(other, version="1.0.0", labels=("card", "cash", "fees"))
    with pytest.raises(RegistryError, match="give the bundle another version"):
        publish(made.repository, other)
    retire(made.repository, "tiny", "1.0.0")

    with pytest.raises(RegistryError, match="give the bundle another version"):
        publish(made.repository, other)


def test_a_retired_release_comes_back_under_its_own_number_and_numbers_never_fall(made: RepositoryFolder) -> None:
    made.publish_tiny("2.0.0")
    retire(made.repository, "tiny", "1.0.0")
    retire(made.repository, "tiny", "2.0.0")
    made.publish_tiny("3.0.0")
    publish(made.repository, made.bundles["1.0.0"])

    assert versions(made) == [("1.0.0", 1), ("3.0.0", 3)]
    assert verify(made.repository) == []


def test_a_damaged_bundle_is_not_published(made: RepositoryFolder, tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "damaged", version="2.0.0")
    graph = tmp_path / "damaged" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")

    with pytest.raises(BundleDigestMismatch):
        publish(made.repository, tmp_path / "damaged")
    assert versions(made) == [("1.0.0", 1)]


def test_hardware_is_signed_and_must_be_a_name(made: RepositoryFolder, tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "arm", version="2.0.0")
    with pytest.raises(InputError):
        publish(made.repository, tmp_path / "arm", ["two words"])
    publish(made.repository, tmp_path / "arm", ["rpi5", "jetson"])

    assert find_release(made.repository.state(), "tiny", "2.0.0").hardware == ("rpi5", "jetson")
    with pytest.raises(RegistryError, match="rpi5, jetson"):
        publish(made.repository, tmp_path / "arm")


def test_a_new_gate_travels_alone_and_becomes_the_releases_newest(made: RepositoryFolder) -> None:
    before = made.repository.state()
    gate = recalibrated(made.bundles["1.0.0"], 1)
    with pytest.raises(RegistryError, match="--gate-only"):
        publish(made.repository, made.bundles["1.0.0"])
    done = publish_gate(made.repository, made.bundles["1.0.0"])

    after = made.repository.state()
    assert done.gate_digest == gate.digest and 0 < done.gate_bytes < 2000
    assert find_release(after, "tiny", "1.0.0").gates[0] == gate.digest
    assert after.role("releases").version == before.role("releases").version
    assert verify(made.repository) == []


def test_a_gate_is_published_only_for_a_release_of_the_same_content(made: RepositoryFolder, tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "unknown", version="9.0.0")
    write_tiny_bundle(tmp_path / "other", version="1.0.0", labels=("card", "cash", "fees"))

    with pytest.raises(RegistryError, match=r"9\.0\.0 of tiny is not listed"):
        publish_gate(made.repository, tmp_path / "unknown")
    with pytest.raises(RegistryError, match="other content"):
        publish_gate(made.repository, tmp_path / "other")


def test_lists_stay_short_and_never_lose_what_is_assigned_or_was_before(tmp_path: Path) -> None:
    made = make_repository(tmp_path / "repository", settings=RegistrySettings(live_releases=4, live_gates=5))
    made.assign("1.0.0")
    made.publish_tiny("1.1.0")
    made.assign("1.1.0", sequence=2)
    for minor in range(2, 12):
        made.publish_tiny(f"1.{minor}.0")

    assert [version for version, _ in versions(made)] == ["1.0.0", "1.1.0", "1.10.0", "1.11.0"]
    for times in range(1, 9):
        recalibrated(made.bundles["1.11.0"], times)
        publish_gate(made.repository, made.bundles["1.11.0"])
    gates = listed_gates(made.repository.state())
    assert len(gates) == 5
    assert {version for gate in gates for version in gate.versions} == {"1.0.0", "1.1.0", "1.10.0", "1.11.0"}
    assert verify(made.repository) == []


def test_where_all_listed_releases_are_in_use_no_more_are_published(tmp_path: Path) -> None:
    made = make_repository(tmp_path / "repository", settings=RegistrySettings(live_releases=2, live_gates=8))
    made.publish_tiny("2.0.0")
    made.assign("1.0.0", ring="first")
    made.assign("2.0.0", ring="second")

    with pytest.raises(RegistryError, match="in use"):
        made.publish_tiny("3.0.0")
    assert verify(made.repository) == []


def test_what_is_published_without_the_online_keys_is_taken_up_by_their_holder(made: RepositoryFolder) -> None:
    releasing = KeyFolder(made.folder.parent / "releasing")
    shutil.copytree(made.keys / "offline", releasing.folder / "offline")
    shutil.copy(made.keys / "root.json", releasing.folder / "root.json")
    elsewhere = Repository(made.repository.store, releasing, made.repository.settings)
    write_tiny_bundle(made.folder.parent / "new", version="2.0.0")

    assert publish(elsewhere, made.folder.parent / "new").is_staged
    assert any("not signed into the snapshot" in problem for problem in verify(made.repository))
    Resigner(made.repository).sign()
    assert verify(made.repository) == []
    assert versions(made) == [("1.0.0", 1), ("2.0.0", 2)]
