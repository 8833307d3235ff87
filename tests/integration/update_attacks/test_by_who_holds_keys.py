"""Attacks on updates: The Update Framework's list and Uptane's; here those of who holds some of the keys.

Each comes in ten variants or more. Nothing that was not vouched for may leave the trusted repository, and the device
says in plain words what is wrong. See https://theupdateframework.io/docs/security/ and
https://uptane.org/docs/2.1.0/standard/uptane-standard, "Threat model and attack strategies".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, TargetFile, Targets

from shared.documents import sha256
from shared.update.assignment import Arm
from shared.update.names import (
    DIRECTOR_ROLE,
    GATES_ROLE,
    RELEASES_ROLE,
    device_target,
    gate_target,
    manifest_target,
    ring_target,
)
from shared.update.release import manifest_bytes
from tests.support.hostile_repository import (
    GATE_DOCUMENT,
    MODEL,
    RING,
    HostileRepository,
    served_path,
    tiny_manifest,
)
from tests.support.hostile_roles import SIGNED, second_release, signed_role
from tests.support.trusting_device import (
    DELEGATED,
    DEVICE_ID,
    HARDWARE,
    TrustingDevice,
    refused,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("is_damaged", [False, True], ids=["with its metadata", "without its metadata"])
@pytest.mark.parametrize("role", [*SIGNED, "snapshot", "timestamp"])
async def test_rollback_by_who_holds_the_online_keys(
    repository: HostileRepository, device: TrustingDevice, role: str, is_damaged: bool
) -> None:
    for _ in range(3):
        repository.publish(("targets", *DELEGATED))
    await device.look()
    if role not in ("snapshot", "timestamp"):
        repository.snapshot.version += 1
    if role != "timestamp":
        repository.timestamp.version += 1
    signed_role(repository, role).version -= 2
    repository.publish(())
    if is_damaged:
        for file in (device.folder / "metadata").glob("*.json"):
            file.unlink()
        device.restart()
    await refused(device, "older than version", "another version than they must be")


EVIL = tiny_manifest(66)


def hand_on(delegator: Targets, name: str, signer: CryptoSigner, paths: Iterable[str]) -> None:
    delegator.delegations = delegator.delegations or Delegations({}, {})
    assert delegator.delegations.roles is not None
    delegator.delegations.roles[name] = DelegatedRole(name, [], 1, False, list(paths))
    delegator.add_key(signer.public_key, name)


@pytest.mark.parametrize("way", ["lists it", "hands it on to a new role", "hands it on to a role of the same name"])
@pytest.mark.parametrize("role", ["director", "gates", "exceptions"])
@pytest.mark.parametrize("is_listed_too", [False, True], ids=["not listed", "of another content"])
async def test_extraneous_dependencies(
    repository: HostileRepository, device: TrustingDevice, role: str, way: str, is_listed_too: bool
) -> None:
    """One who may sign other things brings in a release that the releasing keys do not know."""
    if is_listed_too:
        repository.release(66, replace(EVIL, labels=("honest", "other")))
    data = manifest_bytes(EVIL)
    path = manifest_target(MODEL, EVIL.version)
    evil = Targets(expires=repository.targets.expires)
    evil.targets[path] = TargetFile.from_data(path, data, ["sha256"])
    evil.targets[path].unrecognized_fields["custom"] = {"release": 66, "hardware": []}
    repository.files[served_path(path, data)] = data
    if way == "lists it":
        repository.delegated[role].targets[path] = evil.targets[path]
    else:
        name = "evil" if "new" in way else RELEASES_ROLE
        signer = CryptoSigner.generate_ed25519()
        hand_on(repository.delegated[role], name, signer, ["*/*/*"])
        evil.version = 66
        repository.delegated[name], repository.signers[name] = evil, [signer]
    repository.assign(Arm(EVIL.version, sha256(data), sha256(GATE_DOCUMENT), 66))
    repository.publish(())
    repository.publish((DIRECTOR_ROLE,) if way == "lists it" else ())
    repository.timestamp.version += 1
    repository.snapshot.version += 1
    repository.publish_snapshot()
    await refused(device, "do not vouch for", "name different contents", "lack the signatures", "not be used")


def _the_manifest_of_another_release(repository: HostileRepository) -> None:
    honest = repository.release(2)
    repository.release(3)
    repository.assign(replace(honest, version="1.3.0"))


def _the_number_of_another_release(repository: HostileRepository) -> None:
    repository.assign(replace(repository.release(2), release=7))


def _a_version_that_was_never_released(repository: HostileRepository) -> None:
    repository.assign(replace(repository.release(2), version="9.9.9"))


def _a_digest_that_was_never_released(repository: HostileRepository) -> None:
    repository.assign(replace(repository.release(2), manifest_sha256="0" * 64))


def _no_digest(repository: HostileRepository) -> None:
    repository.assign(replace(repository.release(2), manifest_sha256=""))


def _another_models_assignment(repository: HostileRepository) -> None:
    repository.assign(repository.release(2), model="intents")


def _another_models_manifest(repository: HostileRepository) -> None:
    repository.assign(repository.release(2, replace(tiny_manifest(2), model="intents")))


def _another_versions_manifest(repository: HostileRepository) -> None:
    data = manifest_bytes(tiny_manifest(3))
    facts: dict[str, object] = {"release": 2, "hardware": []}
    repository.list_target(RELEASES_ROLE, manifest_target(MODEL, "1.2.0"), data, facts)
    repository.assign(Arm("1.2.0", sha256(data), sha256(GATE_DOCUMENT), 2))


def _a_gate_that_was_never_released(repository: HostileRepository) -> None:
    repository.assign(replace(repository.release(2), gate_digest="0" * 64))


def _a_gate_of_another_content(repository: HostileRepository) -> None:
    digest = sha256(b"another gate")
    repository.list_target(GATES_ROLE, gate_target(MODEL, digest), zstandard.compress(GATE_DOCUMENT))
    repository.assign(replace(repository.release(2), gate_digest=digest))


def _a_release_without_facts(repository: HostileRepository) -> None:
    data = manifest_bytes(tiny_manifest(2))
    repository.list_target(RELEASES_ROLE, manifest_target(MODEL, "1.2.0"), data)
    repository.assign(Arm("1.2.0", sha256(data), sha256(GATE_DOCUMENT), 2))


def _a_devices_own_assignment_for_another_model(repository: HostileRepository) -> None:
    repository.assign(repository.release(2), path=device_target(DEVICE_ID, MODEL), model="intents")


WRONG_SOFTWARE = (
    _the_manifest_of_another_release,
    _the_number_of_another_release,
    _a_version_that_was_never_released,
    _a_digest_that_was_never_released,
    _no_digest,
    _another_models_assignment,
    _another_models_manifest,
    _another_versions_manifest,
    _a_gate_that_was_never_released,
    _a_gate_of_another_content,
    _a_release_without_facts,
    _a_devices_own_assignment_for_another_model,
)


WRONG_SOFTWARE_IS = ("different", "call", "do not vouch", "is for the model", "describes", "another gate", "facts")


@pytest.mark.parametrize("wrong", WRONG_SOFTWARE)
async def test_wrong_software(
    repository: HostileRepository, device: TrustingDevice, wrong: Callable[[HostileRepository], None]
) -> None:
    wrong(repository)
    repository.publish(DELEGATED)
    await refused(device, *WRONG_SOFTWARE_IS)


def _sign_next_root(repository: HostileRepository, signers: Iterable[CryptoSigner]) -> None:
    repository.root.version += 1
    repository.files[f"metadata/{repository.root.version}.root.json"] = repository.sign(repository.root, signers)


@pytest.mark.parametrize("stolen", range(3))
@pytest.mark.parametrize("own", range(3))
async def test_one_stolen_root_key_makes_no_root(
    repository: HostileRepository, device: TrustingDevice, stolen: int, own: int
) -> None:
    strangers = [CryptoSigner.generate_ed25519() for _ in range(own)]
    thief = repository.signers["root"][stolen]
    for stranger in strangers:
        repository.root.add_key(stranger.public_key, "root")
        repository.root.add_key(stranger.public_key, "timestamp")
    repository.root.roles["root"].threshold = 1
    _sign_next_root(repository, (thief, *strangers))
    await refused(device, "lack the signatures")


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp"])
async def test_one_of_two_keys_signs_no_top_level_role(
    repository: HostileRepository, device: TrustingDevice, role: str
) -> None:
    repository.root.add_key(CryptoSigner.generate_ed25519().public_key, role)
    repository.root.roles[role].threshold = 2
    _sign_next_root(repository, repository.signers["root"])
    repository.publish(("targets",))
    await refused(device, "lack the signatures")


@pytest.mark.parametrize("role", [RELEASES_ROLE, GATES_ROLE, DIRECTOR_ROLE])
async def test_one_of_two_keys_signs_no_delegated_role(
    repository: HostileRepository, device: TrustingDevice, role: str
) -> None:
    repository.targets.add_key(CryptoSigner.generate_ed25519().public_key, role)
    assert repository.targets.delegations is not None and repository.targets.delegations.roles is not None
    repository.targets.delegations.roles[role].threshold = 2
    second_release(repository)
    repository.publish(("targets", *DELEGATED))
    await refused(device, "lack the signatures")


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp"])
async def test_a_key_that_was_taken_out_signs_nothing_more(
    repository: HostileRepository, device: TrustingDevice, role: str
) -> None:
    stolen = list(repository.signers[role])
    repository.rotate(role)
    repository.signers[role] = stolen
    repository.publish(("targets",))
    await refused(device, "lack the signatures")


@pytest.mark.parametrize("version", [10**3, 2**31, 2**63, 2**80])
@pytest.mark.parametrize("role", ["timestamp", "snapshot", *SIGNED[:-1]])
async def test_fast_forward_ends_with_new_keys(
    repository: HostileRepository, device: TrustingDevice, role: str, version: int
) -> None:
    signed_role(repository, role).version = version
    repository.timestamp.version += 1
    repository.snapshot.version += role != "snapshot"
    repository.publish(())
    await device.look()
    signed_role(repository, role).version = 5
    repository.timestamp.version += 1
    repository.snapshot.version += role != "snapshot"
    repository.publish(())
    await refused(device, "older than version", "another version than they must be")
    repository.rotate("timestamp", "snapshot")
    second_release(repository)
    device.restart()
    assert (await device.look()).manifest.version == "1.2.0"


OTHER_HARDWARE = ("pi-4", "pi", "pi-55", "PI-5", " pi-5", "pi-5 ", "*", "", "orin", "pi-5\n", "all")


@pytest.mark.parametrize("hardware", OTHER_HARDWARE)
async def test_a_release_for_other_hardware(
    repository: HostileRepository, device: TrustingDevice, hardware: str
) -> None:
    repository.assign(repository.release(2, hardware=(hardware,)))
    repository.publish(DELEGATED)
    await refused(device, f"this device is {HARDWARE}")


@pytest.mark.parametrize("hardware", OTHER_HARDWARE)
async def test_an_assignment_for_other_hardware(
    repository: HostileRepository, device: TrustingDevice, hardware: str
) -> None:
    repository.assign(repository.release(2, hardware=(HARDWARE,)), hardware=(hardware, "another"))
    repository.publish(DELEGATED)
    await refused(device, f"this device is {HARDWARE}")


async def test_a_device_that_does_not_say_what_it_is_takes_only_what_is_for_all(
    repository: HostileRepository, tmp_path: Path
) -> None:
    unnamed = TrustingDevice(tmp_path / "unnamed", repository, hardware="")
    assert await unnamed.look()
    repository.assign(repository.release(2, hardware=(HARDWARE,)))
    repository.publish(DELEGATED)
    await refused(unnamed, "this device is unnamed")


@pytest.mark.parametrize("number", range(1, 11))
async def test_the_director_alone_brings_back_no_release_below_the_floor(
    repository: HostileRepository, device: TrustingDevice, number: int
) -> None:
    arms = {each: repository.release(each) for each in range(1, 12)}
    repository.assign(arms[11], floor=11)
    repository.publish(DELEGATED)
    await device.look()
    repository.assign(arms[number], floor=0)
    repository.publish()
    device.restart()
    await refused(device, f"release {number}, below 11")


@pytest.mark.parametrize("seed", range(10))
async def test_the_releasing_keys_alone_bring_nothing_onto_a_device(
    repository: HostileRepository, device: TrustingDevice, seed: int
) -> None:
    """They replace what the director named, under its own name, and list assignments of their own."""
    before = await device.look()
    evil = replace(tiny_manifest(1), labels=(f"evil {seed}", "other"))
    repository.release(1 + seed, evil)
    path = ring_target(RING, MODEL)
    repository.delegated[RELEASES_ROLE].targets[path] = TargetFile.from_data(path, b"{}", ["sha256"])
    repository.publish((RELEASES_ROLE,))
    assert before.assignment == await device.trusted.assignment(RING, MODEL)
    await refused(device, "name different contents")
