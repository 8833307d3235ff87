"""The gates that devices run, as their bundles bring them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cloud_service.watch.records import KnownGate
from shared.bundle.reader import read_bundle
from shared.errors import BundleError, ConfigurationError


def read_gates(bundles: Iterable[Path]) -> tuple[KnownGate, ...]:
    """The gates of these bundles, verified.

    Raises:
        ConfigurationError: a bundle cannot be used, or brings no gate.
    """
    return tuple(_read_gate(path) for path in bundles)


def _read_gate(path: Path) -> KnownGate:
    try:
        bundle = read_bundle(path)
    except BundleError as error:
        raise ConfigurationError(f"fleet.edge_bundles: {error}") from error
    if bundle.gate is None:
        raise ConfigurationError(f"fleet.edge_bundles: the bundle {path} brings no gate")
    labels = tuple(bundle.manifest.labels)
    return KnownGate(bundle.gate.digest, bundle.identity.name, bundle.identity.version, bundle.gate, labels)
