"""The director: signs which release a ring, or one device, is to run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import TargetFile

from cloud_service.registry.catalogue import ListedRelease, find_release, listed_gates, listed_releases
from cloud_service.registry.change import Change
from cloud_service.registry.metadata import SignedState
from cloud_service.registry.repository import Repository, target_path
from shared.errors import RegistryError, UpdateRefused
from shared.update.assignment import Assignment, encode_assignment, parse_assignment
from shared.update.names import DIRECTOR_ROLE

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InForce:
    """What is signed, by target name: what could be read, and why the rest could not."""

    assignments: Mapping[str, Assignment]
    unreadable: Mapping[str, str]


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

        What stands for other targets need not be readable. A target whose own file is damaged takes the next assignment
        as any other does; the sequence before is then known from the signed list.

        Raises:
            RegistryError: the name is none of a ring or device, the sequence is not above the one before, a release
                or gate is not listed as the assignment names it, a release is below the floor with no signed
                exception, too many devices have an assignment of their own, or an online key is not here.
        """
        with self._repository.changing() as change:
            for name, assignment in assignments.items():
                if not self._stands(change.state, name, assignment):
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

    def assignments(self) -> Mapping[str, Assignment]:
        """What is in force, by target name, as far as it can be read; see `in_force`.

        Raises:
            RegistryError: the repository cannot be read.
        """
        return self.in_force().assignments

    def in_force(self) -> InForce:
        """All that is signed. One damaged file hides nothing of the others.

        Raises:
            RegistryError: the repository cannot be read.
        """
        state = self._repository.state()
        found: dict[str, Assignment] = {}
        unreadable: dict[str, str] = {}
        for name in state.role(DIRECTOR_ROLE).targets:
            try:
                found[name] = self._current(state, name)
            except RegistryError as error:
                unreadable[name] = f"{error}; the next assignment for it writes it anew"
        return InForce(found, unreadable)

    def _current(self, state: SignedState, name: str) -> Assignment:
        try:
            return parse_assignment(self._repository.target(state, DIRECTOR_ROLE, name))
        except UpdateRefused as error:
            raise RegistryError(f"{name}: {error}") from error

    def _readable(self, state: SignedState, name: str) -> Assignment | None:
        if name not in state.role(DIRECTOR_ROLE).targets:
            return None
        try:
            return self._current(state, name)
        except RegistryError as error:
            _log.warning("what %s says now cannot be read: %s", name, error)
            return None

    def _stands(self, state: SignedState, name: str, assignment: Assignment) -> bool:
        """Whether this is signed already; a damaged file of it is put right, by the digest that was signed."""
        if (target := state.role(DIRECTOR_ROLE).targets.get(name)) is None:
            return False
        if (current := self._readable(state, name)) is not None:
            return current == assignment
        data = encode_assignment(assignment)
        try:
            target.verify_length_and_hashes(data)
        except LengthOrHashMismatchError:
            return False
        self._repository.store.put(target_path(name, target.hashes["sha256"]), data)
        return True

    def _check(self, change: Change, name: str, assignment: Assignment) -> None:
        _check_name(name, assignment.model)
        if not assignment.arms:
            raise RegistryError(f"the assignment for {name} names no release")
        before = self._sequence_before(change.state, name)
        if before is not None and assignment.sequence <= before:
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

    def _sequence_before(self, state: SignedState, name: str) -> int | None:
        """Of what is signed; the list itself tells it too, for files that are damaged."""
        if (current := self._readable(state, name)) is not None:
            return current.sequence
        target = state.role(DIRECTOR_ROLE).targets.get(name)
        told = (target.custom or {}).get("sequence") if target else None
        return told if isinstance(told, int) else None

    def _put(self, change: Change, name: str, assignment: Assignment) -> None:
        """The versions before are kept listed by their name here: a rollback goes back to them."""
        before = list(_rollback_versions(change.role(DIRECTOR_ROLE).targets.get(name)))
        if (current := self._readable(change.state, name)) is not None:
            versions = {arm.version for arm in assignment.arms}
            before = sorted({arm.version for arm in current.arms} - versions) or before
        custom: dict[str, object] = {"sequence": assignment.sequence}
        if before:
            custom["rollback"] = before
        change.put_target(DIRECTOR_ROLE, name, encode_assignment(assignment), custom)


def assigned_releases(repository: Repository, view: SignedState) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """What assignments in force name: (model, version), those before included, and (model, gate digest).

    Raises:
        RegistryError: an assignment cannot be read, so that nobody knows what it names.
    """
    releases: set[tuple[str, str]] = set()
    gates: set[tuple[str, str]] = set()
    in_force = Director(repository).in_force()
    if in_force.unreadable:
        raise RegistryError("; ".join(in_force.unreadable.values()))
    for name, assignment in in_force.assignments.items():
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
