"""`python -m tests.support.fake_update_process FOLDER VERSION`: an agent's life that ends once VERSION is committed.

FOLDER holds the bundles by version, 1.0.0 the factory's. The chunks come slowly, so that a kill meets every phase.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import anyio

from tests.support.fake_update_device import FakeDevice
from tests.support.fake_update_peers import FakeRegistry

_CHUNK_S = 0.01


def registry_of(folder: Path, version: str) -> FakeRegistry:
    """All bundles of `folder` published, and `version` assigned."""
    registry = FakeRegistry()
    for number, bundle in enumerate(sorted(folder.glob("?.0.0")), start=1):
        registry.publish(bundle, number)
    registry.assign(registry.arms[version], sequence=int(version[0]))
    return registry


def main() -> None:
    folder, version = Path(sys.argv[1]), sys.argv[2]
    device = FakeDevice(folder / "updates", folder / "1.0.0", registry_of(folder, version))
    device.source.before_each = lambda: time.sleep(_CHUNK_S)
    print(device.boot().manifest.version, flush=True)  # noqa: T201
    anyio.run(device.update_to, version)
    device.slots.stop()
    print("done", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
