from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from cloud_service.config import RegistrySettings
from cloud_service.registry.cleaning import retire
from cloud_service.registry.director import Director
from cloud_service.registry.exceptions import allow, withdraw_exception
from cloud_service.registry.repository import Repository, target_path
from cloud_service.registry.resigner import Resigner
from cloud_service.registry.store import FolderStore
from cloud_service.registry.verification import verify
from shared.errors import RegistryError
from shared.update.names import device_target, ring_target
from tests.support.dying_store import DyingStore, WriterDied
from tests.support.repository_folder import RepositoryFolder, make_repository

RING, OTHER = ring_target("canary", "tiny"), ring_target("other", "tiny")


@pytest.fixture
def made(tmp_path: Path) -> RepositoryFolder:
    return make_repository(tmp_path / "repository", versions=("1.0.0", "2.0.0"))


def test_an_assignment_is_signed_and_read_back(made: RepositoryFolder) -> None:
    assignment = made.assignment("2.0.0", floor=1)
    made.director.assign(RING, assignment)

    assert made.director.assignments() == {RING: assignment}
    assert verify(made.repository) == []


def test_several_assignments_are_one_change(made: RepositoryFolder) -> None:
    before = made.repository.state()
    targets = {ring_target(ring, "tiny"): made.assignment("1.0.0") for ring in ("one", "two", "three")}
    made.director.assign_many(targets)

    after = made.repository.state()
    assert after.role("director").version == before.role("director").version + 1
    assert set(made.director.assignments()) == set(targets)


def test_one_bad_assignment_among_several_changes_nothing(made: RepositoryFolder) -> None:
    good, bad = made.assignment("1.0.0"), dataclasses.replace(made.assignment("1.0.0"), arms=())

    with pytest.raises(RegistryError, match="names no release"):
        made.director.assign_many({RING: good, OTHER: bad})
    assert made.director.assignments() == {}


def test_a_withdrawn_assignment_is_gone(made: RepositoryFolder) -> None:
    made.director.assign(RING, made.assignment("1.0.0"))
    made.director.withdraw(RING, ring_target("never", "tiny"))

    assert made.director.assignments() == {}
    assert verify(made.repository) == []


def test_an_older_or_equal_decision_does_not_replace_a_newer_one(made: RepositoryFolder) -> None:
    made.director.assign(RING, made.assignment("1.0.0", sequence=5))

    for sequence in (4, 5):
        with pytest.raises(RegistryError, match="not above 5"):
            made.director.assign(RING, made.assignment("2.0.0", sequence=sequence))
    made.director.assign(RING, made.assignment("2.0.0", sequence=6))


@pytest.mark.parametrize("name", ["models/tiny/1.0.0.json", "rings/canary/other.json", "rings/tiny.json", "rings/a/b"])
def test_only_rings_and_devices_are_assigned_to(made: RepositoryFolder, name: str) -> None:
    with pytest.raises(RegistryError, match="no ring's or device's target"):
        made.director.assign(name, made.assignment("1.0.0"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": "9.0.0"}, "not listed"),
        ({"manifest_sha256": "0" * 64}, "another manifest"),
        ({"release": 7}, "another manifest"),
        ({"gate_digest": "0" * 64}, "gate 000000000000 of tiny is not listed"),
    ],
)
def test_what_devices_would_refuse_is_not_signed(
    made: RepositoryFolder, change: dict[str, str | int], complaint: str
) -> None:
    assignment = made.assignment("1.0.0")
    arm = dataclasses.replace(assignment.arms[0], **change)  # type: ignore[arg-type]

    with pytest.raises(RegistryError, match=complaint):
        made.director.assign(RING, dataclasses.replace(assignment, arms=(arm,)))
    assert made.director.assignments() == {}


def test_below_the_floor_only_a_signed_exception_leads(made: RepositoryFolder) -> None:
    below = made.assignment("1.0.0", floor=2)
    with pytest.raises(RegistryError, match=r"registry allow tiny@1\.0\.0"):
        made.director.assign(RING, below)
    allow(made.repository, "tiny", "1.0.0", "2.0.0 loses money")
    made.director.assign(RING, below)
    assert verify(made.repository) == []

    withdraw_exception(made.repository, "tiny", "1.0.0")
    with pytest.raises(RegistryError, match="below the floor"):
        made.director.assign(RING, dataclasses.replace(below, sequence=2))


@pytest.mark.parametrize("reason", ["", "  ", "two\nlines"])
def test_an_exception_says_why(made: RepositoryFolder, reason: str) -> None:
    with pytest.raises(RegistryError, match="reason"):
        allow(made.repository, "tiny", "1.0.0", reason)


def file_of(made: RepositoryFolder, name: str) -> Path:
    """Where the content of an assignment lies."""
    listed = made.repository.state().role("director").targets[name]
    return made.folder / target_path(name, listed.hashes["sha256"])


@pytest.fixture(params=["cut off", "gone", "other bytes", "no file"])
def damaged(made: RepositoryFolder, request: pytest.FixtureRequest) -> RepositoryFolder:
    """`RING` and another ring run 1.0.0 by decision 5, and the file of `RING` cannot be read any more."""
    made.director.assign_many({name: made.assignment("1.0.0", sequence=5) for name in (RING, OTHER)})
    file = file_of(made, RING)
    if request.param in ("gone", "no file"):
        file.unlink()
    if request.param == "no file":
        file.mkdir()
    if request.param in ("cut off", "other bytes"):
        file.write_bytes(file.read_bytes()[:-9] if request.param == "cut off" else b"{}")
    return made


def test_a_damaged_assignment_hides_no_other_and_is_told(damaged: RepositoryFolder) -> None:
    in_force = damaged.director.in_force()

    assert set(in_force.assignments) == {OTHER} == set(damaged.director.assignments())
    assert "next assignment for it writes it anew" in in_force.unreadable[RING]
    assert [warning for warning in Resigner(damaged.repository).sign() if "rings/canary/" in warning]


def test_beside_a_damaged_assignment_another_ring_goes_on(damaged: RepositoryFolder) -> None:
    after = damaged.assignment("2.0.0", sequence=6)
    damaged.director.assign(OTHER, after)

    assert damaged.director.assignments() == {OTHER: after}
    assert damaged.publish_tiny("3.0.0").version == "3.0.0"


def test_a_new_assignment_puts_a_damaged_one_right(damaged: RepositoryFolder) -> None:
    after = damaged.assignment("2.0.0", sequence=6)
    damaged.director.assign(RING, after)

    assert damaged.director.assignments()[RING] == after
    assert verify(damaged.repository) == []


def test_a_damaged_assignment_that_is_told_again_is_the_one_that_was_signed(damaged: RepositoryFolder) -> None:
    if file_of(damaged, RING).is_dir():
        file_of(damaged, RING).rmdir()
    before = damaged.repository.state().role("director").version
    damaged.director.assign(RING, damaged.assignment("1.0.0", sequence=5))

    assert damaged.director.assignments()[RING] == damaged.assignment("1.0.0", sequence=5)
    assert damaged.repository.state().role("director").version == before
    assert verify(damaged.repository) == []


@pytest.mark.parametrize("sequence", [4, 5])
def test_damage_opens_no_way_back_to_an_older_decision(damaged: RepositoryFolder, sequence: int) -> None:
    with pytest.raises(RegistryError, match="not above 5"):
        damaged.director.assign(RING, damaged.assignment("2.0.0", sequence=sequence))
    assert RING not in damaged.director.assignments()


def test_what_a_damaged_assignment_may_name_is_not_taken_away(damaged: RepositoryFolder) -> None:
    with pytest.raises(RegistryError, match="next assignment for it writes it anew"):
        retire(damaged.repository, "tiny", "2.0.0")


def test_a_damaged_assignment_can_be_withdrawn(damaged: RepositoryFolder) -> None:
    damaged.director.withdraw(RING)

    assert damaged.director.in_force().unreadable == {}
    assert verify(damaged.repository) == []


def test_devices_with_an_assignment_of_their_own_are_few(tmp_path: Path) -> None:
    made = make_repository(tmp_path / "repository", settings=RegistrySettings(device_assignments=2))
    made.assign_device("one", "1.0.0")
    made.assign_device("two", "1.0.0")

    with pytest.raises(RegistryError, match="use a ring"):
        made.assign_device("three", "1.0.0")
    assert set(made.director.assignments()) == {device_target("one", "tiny"), device_target("two", "tiny")}


def test_what_a_killed_writer_had_signed_is_published_when_it_is_told_again(made: RepositoryFolder) -> None:
    assignment = made.assignment("2.0.0")
    counting = DyingStore(FolderStore(copied(made, "counted")))
    Director(Repository(counting, made.repository.keys, made.repository.settings)).assign(RING, assignment)
    for dies_at in range(counting.changes):
        store = FolderStore(copied(made, f"dies-at-{dies_at}"))
        repository = Repository(store, made.repository.keys, made.repository.settings)
        with pytest.raises(WriterDied):
            Director(Repository(DyingStore(store, dies_at), made.repository.keys, made.repository.settings)).assign(
                RING, assignment
            )
        Director(repository).assign(RING, assignment)
        assert verify(repository) == []
        assert Director(repository).assignments() == {RING: assignment}


def copied(made: RepositoryFolder, name: str) -> Path:
    """The repository once more, as it is now."""
    return Path(shutil.copytree(made.folder, made.folder.parent / name))
