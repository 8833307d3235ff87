"""How much, and how long, a repository may ask of a device before its files are refused."""

from __future__ import annotations

from dataclasses import dataclass

from tuf.ngclient import UpdaterConfig

MAX_ROOT_ROTATIONS = 1024
"""From the pinned root to the newest; each new one is signed by the keys of the one before."""


@dataclass(frozen=True)
class UpdateLimits:
    """Bounds on what is believed to be small, in bytes and seconds.

    `patience_s` is what any file may take, however slow the link; beyond it each `least_bytes_per_s` received buys
    another second (slow retrieval). `longest_s` bounds all files of one refresh or one target together. A refresh is
    good for `refresh_holds_s`: later questions begin with a new one.
    """

    root_bytes: int = 64 * 1024
    timestamp_bytes: int = 16 * 1024
    snapshot_bytes: int = 128 * 1024
    role_bytes: int = 512 * 1024
    assignment_bytes: int = 64 * 1024
    manifest_bytes: int = 8 * 1024 * 1024
    packed_gate_bytes: int = 1024 * 1024
    gate_bytes: int = 4 * 1024 * 1024
    files_in_bundle: int = 1000
    target_bytes: int = 256 * 1024 * 1024
    targets_kept: int = 32
    patience_s: float = 30.0
    least_bytes_per_s: float = 256.0
    longest_s: float = 300.0
    refresh_holds_s: float = 900.0

    @property
    def metadata_bytes(self) -> int:
        """The most of any metadata file, whatever length other metadata state for it."""
        return max(self.root_bytes, self.timestamp_bytes, self.snapshot_bytes, self.role_bytes)

    def updater_config(self, max_delegations: int) -> UpdaterConfig:
        """As python-tuf takes them. `max_delegations`: how many delegated roles one look-up may visit."""
        return UpdaterConfig(
            max_root_rotations=MAX_ROOT_ROTATIONS,
            max_delegations=max_delegations,
            root_max_length=self.root_bytes,
            timestamp_max_length=self.timestamp_bytes,
            snapshot_max_length=self.snapshot_bytes,
            targets_max_length=self.role_bytes,
        )
