"""The director: signs which release a ring, or one device, is to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tuf.api.metadata import TargetFile

from cloud_service.registry.catalogue import ListedRelease, find_release, listed_gates, listed_releases
from cloud_service.registry.change import Change
from cloud_service.registry.metadata import SignedState
from cloud_service.registry.repository import Repository
from shared.errors import RegistryError, UpdateRefused
from shared.update.assignment import Assignment, encode_assignment, parse_assignment
from shared.update.names import DIRECTOR_ROLE


class Director:
    """Assigns releases with the online keys. Calls block while files are written: run them in a worker thread."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def releases(self, model: str | None = None) -> list[ListedRelease]:
        """What may be assigned, by model and release number.

        Raises:
            RegistryError: the repository cannot be read.
        """
        return listed_releases(self._repository.state(), model)

    def assign(self, target_name: str, assignment: Assignment) -> None:
        """Let `target_name` (see `ring_target`, `device_target`) run what `assignment` says; signed when this returns.

        Raises:
            RegistryError: see `assign_many`.
        """
        self.assign_many({target_name: assignment})

    def assign_many(self, assignments: Mapping[str, Assignment]) -> None:
        """Several at once: devices see all of them or none. What is signed already stays, and is published with them.

        Raises:
            RegistryError: the name is none of a ring or device, the sequence is not above the one before, a release
                or gate is not listed as the assignment names it, a release is below the floor with no signed
                exception, too many devices have an assignment of their own, or an online key is not here.
        """
        with self._repository.changing() as change:
            listed = change.state.role(DIRECTOR_ROLE).targets
            for name, assignment in assignments.items():
                if name in listed and self._current(change.state, name) == assignment:
                    continue
                self._check(change, name, assignment)
                self._put(change, name, assignment)
            devices = sum(name.startswith("devices/") for name in change.role(DIRECTOR_ROLE).targets)
            if devices > (most := self._repository.settings.device_assignments):
                raise RegistryError(
                    f"{devices} devices would have an assignment of their own, more than {most}: use a ring for them"
                )

    def withdraw(self, *target_names: str) -> None:
        """Let these targets say nothing any more; no error for those that say nothing now.

        Raises:
            RegistryError: an online key is not here, or the store cannot be written.
        """
        with self._repository.changing() as change:
            for name in set(target_names) & set(change.role(DIRECTOR_ROLE).targets):
                change.edit(DIRECTOR_ROLE).targets.pop(name)

    def assignments(self) -> dict[str, Assignment]:
        """What is in force, by target name.

        Raises:
            RegistryError: the repository cannot be read.
        """
        state = self._repository.state()
        return {name: self._current(state, name) for name in state.role(DIRECTOR_ROLE).targets}

    def _current(self, state: SignedState, name: str) -> Assignment:
        try:
            return parse_assignment(self._repository.target(state, DIRECTOR_ROLE, name))
        except UpdateRefused as error:
            raise RegistryError(f"{name}: {error}") from error

    def _check(self, change: Change, name: str, assignment: Assignment) -> None:
        _check_name(name, assignment.model)
        if not assignment.arms:
            raise RegistryError(f"the assignment for {name} names no release")
        if name in change.state.role(DIRECTOR_ROLE).targets:
            before = self._current(change.state, name).sequence
            if assignment.sequence <= before:
                raise RegistryError(f"the assignment for {name} has sequence {assignment.sequence}, not above {before}")
        gates = {(gate.model, gate.digest) for gate in listed_gates(change)}
        for arm in assignment.arms:
            release = find_release(change, assignment.model, arm.version)
            if (arm.manifest_sha256, arm.release) != (release.manifest_sha256, release.release):
                raise RegistryError(f"{name}: {arm.version} is release {release.release} with another manifest")
            if arm.gate_digest and (assignment.model, arm.gate_digest) not in gates:
                raise RegistryError(f"{name}: gate {arm.gate_digest[:12]} of {assignment.model} is not listed")
            if arm.release < assignment.floor and not release.is_excepted:
                raise RegistryError(
                    f"{name}: {arm.version} is release {arm.release}, below the floor of {assignment.floor}; "
                    f"allow it with `cloud-service registry allow {assignment.model}@{arm.version}`"
                )

    def _put(self, change: Change, name: str, assignment: Assignment) -> None:
        """The versions before are kept listed by their name here: a rollback goes back to them."""
        versions = {arm.version for arm in assignment.arms}
        before = list(_rollback_versions(change.role(DIRECTOR_ROLE).targets.get(name)))
        if name in change.state.role(DIRECTOR_ROLE).targets:
            current = sorted({arm.version for arm in self._current(change.state, name).arms} - versions)
            before = current or before
        custom: dict[str, object] = {"rollback": before} if before else {}
        change.put_target(DIRECTOR_ROLE, name, encode_assignment(assignment), custom)


def assigned_releases(repository: Repository, view: SignedState) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """What assignments in force name: (model, version), those before included, and (model, gate digest).

    Raises:
        RegistryError: an assignment cannot be read.
    """
    releases: set[tuple[str, str]] = set()
    gates: set[tuple[str, str]] = set()
    for name, assignment in Director(repository).assignments().items():
        releases |= {(assignment.model, arm.version) for arm in assignment.arms}
        gates |= {(assignment.model, arm.gate_digest) for arm in assignment.arms}
        before = _rollback_versions(view.role(DIRECTOR_ROLE).targets.get(name))
        releases |= {(assignment.model, version) for version in before}
    return releases, gates


def _rollback_versions(target: TargetFile | None) -> Sequence[str]:
    found = (target.custom or {}).get("rollback", ()) if target else ()
    return [str(version) for version in found] if isinstance(found, list | tuple) else []


def _check_name(name: str, model: str) -> None:
    parts = name.split("/")
    if len(parts) != 3 or parts[0] not in ("rings", "devices") or parts[2] != f"{model}.json":
        raise RegistryError(f"{name!r} is no ring's or device's target for {model}")
