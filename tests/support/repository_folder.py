"""A whole signed repository in a folder, made by the registry itself from tiny bundles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cloud_service.config import RegistrySettings
from cloud_service.registry.ceremony import init_repository
from cloud_service.registry.director import Director
from cloud_service.registry.keys import KeyFolder
from cloud_service.registry.publishing import Published, publish
from cloud_service.registry.repository import Repository
from cloud_service.registry.store import FolderStore
from shared.clock import Clock
from shared.update.assignment import Assignment, Trial
from shared.update.names import device_target, ring_target
from tests.support.tiny_bundle import LABELS, write_tiny_bundle


@dataclass
class RepositoryFolder:
    """`folder` is what is served (metadata/, targets/, chunks/); `keys` beside it; `bundles` what was published."""

    folder: Path
    repository: Repository
    bundles: dict[str, Path] = field(default_factory=dict)

    @property
    def keys(self) -> Path:
        return self.repository.keys.folder

    @property
    def director(self) -> Director:
        return Director(self.repository)

    @property
    def root(self) -> bytes:
        """What a device is given."""
        return self.repository.pinned_root()

    def publish_tiny(
        self,
        version: str,
        *,
        model: str = "tiny",
        threshold: float = 0.9,
        labels: Sequence[str] = LABELS,
        hardware: Sequence[str] = (),
    ) -> Published:
        """Write a tiny bundle beside the repository and publish it."""
        bundle = self.folder.parent / f"bundles-{self.folder.name}" / f"{model}-{version}"
        write_tiny_bundle(bundle, model=model, version=version, threshold=threshold, labels=labels)
        self.bundles[version] = bundle
        return publish(self.repository, bundle, hardware)

    def assignment(
        self,
        version: str,
        *,
        sequence: int = 1,
        model: str = "tiny",
        floor: int = 0,
        rollout: str = "",
        trial: Trial | None = None,
    ) -> Assignment:
        """One that gives everyone `version`, which is listed."""
        release = next(each for each in self.director.releases(model) if each.version == version)
        return Assignment(
            model, rollout or f"rollout-{sequence}", sequence, floor, (release.arm(),), trial=trial or Trial()
        )

    def assign(self, version: str, *, ring: str = "default", sequence: int = 1, model: str = "tiny") -> None:
        """Let a ring run `version`."""
        self.director.assign(ring_target(ring, model), self.assignment(version, sequence=sequence, model=model))

    def assign_device(self, device_id: str, version: str, *, sequence: int = 1, model: str = "tiny") -> None:
        """Let one device run `version`."""
        self.director.assign(device_target(device_id, model), self.assignment(version, sequence=sequence, model=model))


def make_repository(
    folder: Path,
    *,
    versions: Sequence[str] = ("1.0.0",),
    model: str = "tiny",
    assigned: str | None = None,
    ring: str = "default",
    threshold: int = 1,
    root_keys: int = 1,
    clock: Clock | None = None,
    settings: RegistrySettings | None = None,
) -> RepositoryFolder:
    """A repository at `folder`, its keys at `<folder>-keys`, with `versions` of a tiny model published.

    `assigned`: the version that `ring` is to run; None: nothing is assigned.
    """
    keys = KeyFolder(folder.with_name(f"{folder.name}-keys"))
    repository = Repository(FolderStore(folder), keys, settings or RegistrySettings(), clock)
    init_repository(repository, threshold=threshold, root_keys=root_keys)
    made = RepositoryFolder(folder, repository)
    for version in versions:
        made.publish_tiny(version, model=model)
    if assigned:
        made.assign(assigned, ring=ring, model=model)
    return made
