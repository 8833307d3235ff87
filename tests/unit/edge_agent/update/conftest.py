from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.fake_update_device import FakeDevice
from tests.support.fake_update_disk import LittleDisk
from tests.support.fake_update_peers import FakeRegistry, write_chunked_bundle
from tests.support.tiny_bundle import LABELS


@dataclass
class Fleet:
    """A registry with releases 2.0.0 (more labels) and 3.0.0 (another gate), and a factory's bundle 1.0.0."""

    folder: Path
    registry: FakeRegistry

    def device(self, **options: object) -> FakeDevice:
        """A life of the one device."""
        return FakeDevice(self.folder / "updates", self.folder / "1.0.0", self.registry, **options)  # type: ignore[arg-type]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    registry = FakeRegistry()
    for number, (version, labels) in enumerate(
        (("1.0.0", LABELS), ("2.0.0", (*LABELS, "rate")), ("3.0.0", (*LABELS, "rate", "visa"))), start=1
    ):
        write_chunked_bundle(tmp_path / version, version, labels=labels)
        registry.publish(tmp_path / version, number)
    return Fleet(tmp_path, registry)


@pytest.fixture
def little_disk() -> LittleDisk:
    return LittleDisk(free=1 << 30)
