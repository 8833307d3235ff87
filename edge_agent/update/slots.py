"""One model's places on the device: slots "a" and "b", and the bundle that the configuration names, never written."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_agent.update import machine
from edge_agent.update.disk import Disk, disk_errors
from edge_agent.update.journal import Journal
from edge_agent.update.machine import FACTORY, SLOT_A, SLOT_B, Installed, UpdateState
from shared.bundle import MANIFEST_NAME, Manifest, Role, read_bundle
from shared.documents import DocumentError, read_document, sha256
from shared.errors import TandemError, UpdateError
from shared.update.release import manifest_bytes, without_gate
from shared.update.report import InstalledRelease

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """What to load at the agent's start: the bundle in `folder`, which is `release`, from `slot`."""

    slot: str
    folder: Path
    release: InstalledRelease


class ModelSlots:
    """One model's slots and saved state, in the folder `updates`/<model>. Blocking; used by one thread at a time.

    At the agent's start: `start`, load what it says, and `ready`; where loading raises, `start_again` says what to load
    instead. At its end `stop`.
    """

    def __init__(self, updates: Path, factory: Path, disk: Disk, variant: str = "") -> None:
        """`factory` is the bundle that the configuration names, run there as `variant`.

        Raises:
            BundleError: there is no bundle in `factory`.
        """
        manifest = _manifest_of(factory)
        self.model = manifest.model
        self.root = updates / manifest.model
        self._factory_folder = factory
        self._factory = installed_of(manifest, 0, variant, is_proven=True)
        self._disk = disk
        self._journal = Journal(self.root, disk)
        self.state = self._journal.load(manifest.model)

    @property
    def places(self) -> Mapping[str, Installed]:
        """What lies whole in each slot, by slot."""
        labelled = self.state.slots.get(FACTORY)
        is_same = labelled is not None and labelled.content == self._factory.content
        return {**self.state.slots, FACTORY: labelled if labelled is not None and is_same else self._factory}

    def folder(self, slot: str) -> Path:
        """Where the bundle of `slot` lies."""
        return self._factory_folder if slot == FACTORY else self.root / slot

    def start(self) -> Start:
        """The agent starts. What cannot be saved now (a read-only disk) is no reason not to answer."""
        self.hold(machine.started(self.state))
        return self._chosen()

    def start_again(self, error: TandemError) -> Start:
        """What to load instead, as what `start` said could not be loaded.

        Raises:
            TandemError: `error` itself, where nothing else is left.
        """
        failed = self.state.running_slot
        _log.error("model %s: slot %s cannot be loaded: %s", self.model, failed, error)
        after = machine.could_not_start(self.state, str(error))
        if after.running_slot == failed:
            raise error
        self.hold(after)
        return self._chosen()

    def ready(self) -> None:
        """What was started answers."""
        self.hold(machine.ready(self.state))

    def stop(self) -> None:
        """The agent ends in good order."""
        self.hold(machine.stopped(self.state))

    def save(self, state: UpdateState) -> None:
        """`state` is the newest from now on.

        Raises:
            NoRoom, UpdateError: it was not saved; the one before stands.
        """
        self.state = self._journal.save(state)

    def hold(self, state: UpdateState) -> None:
        """As `save`, but where it cannot be saved it counts until the agent ends."""
        try:
            self.save(state)
        except UpdateError as error:
            _log.error("model %s: %s", self.model, error)
            self.state = state

    def empty(self, slot: str) -> None:
        """Remove what lies in `slot`, which is not in use.

        Raises:
            UpdateError: it cannot be.
        """
        self.save(machine.emptied(self.state, slot))
        with disk_errors(f"to empty slot {slot}"):
            self._disk.remove_tree(self.folder(slot))

    def install(self, staged: Path, slot: str, installed: Installed) -> None:
        """Give the whole, synced bundle in the folder `staged` the place of what lies in `slot`.

        Raises:
            UpdateError: it cannot be; the slot may be empty.
        """
        self.empty(slot)
        with disk_errors(f"to put the release into slot {slot}"):
            self._disk.rename(staged, self.folder(slot))
            self._disk.sync(self.root)
        self.save(machine.staged(self.state, installed))

    @property
    def bundles(self) -> tuple[Path, ...]:
        """Every folder on the device that may hold chunks of a release."""
        return self.root / SLOT_A, self.root / SLOT_B, self._factory_folder

    def _chosen(self) -> Start:
        slot = self.state.running_slot
        place = self.places.get(slot)
        if place is None:
            return self.start_again(UpdateError(f"nothing is known of slot {slot}"))
        return Start(slot, self.folder(slot), place.release)


def installed_of(manifest: Manifest, release: int, variant: str, *, is_proven: bool = False) -> Installed:
    """What `manifest` (with its gate) is as an installed bundle."""
    gate = manifest.file(Role.GATE)
    found = InstalledRelease(manifest.version, manifest.model_digest, gate.sha256 if gate else "", release, variant)
    return Installed(found, sha256(manifest_bytes(without_gate(manifest))), is_proven)


def _manifest_of(folder: Path) -> Manifest:
    """The manifest of the bundle in `folder`, whose files are verified where it is loaded."""
    try:
        return read_document(Manifest, (folder / MANIFEST_NAME).read_bytes())
    except (OSError, DocumentError):
        return read_bundle(folder).manifest
