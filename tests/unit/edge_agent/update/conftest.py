from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.update.report import Phase, UpdateReport
from tests.support.fake_update_device import FakeDevice
from tests.support.fake_update_disk import LittleDisk
from tests.support.fake_update_peers import FakeRegistry, write_chunked_bundle
from tests.support.swap_parts import write_release
from tests.support.tiny_bundle import LABELS


@dataclass
class Fleet:
    """A registry with releases 2.0.0 (more labels) and 3.0.0 (another gate), and a factory's bundle 1.0.0."""

    folder: Path
    registry: FakeRegistry

    def device(self, **options: object) -> FakeDevice:
        """A life of the one device."""
        return FakeDevice(self.folder / "updates", self.folder / "1.0.0", self.registry, **options)  # type: ignore[arg-type]

    def promoting(self, version: str, beside: Phase) -> Callable[[UpdateReport], bool]:
        """Lets the release answer all once it has answered in the phase `beside`; true once it is committed."""

        def is_enough(report: UpdateReport) -> bool:
            if report.phase is beside and report.trial.requests > 0:
                self.registry.assign(self.registry.arms[version], sequence=2)
            return report.phase is Phase.COMMITTED

        return is_enough


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


@pytest.fixture
def first(tmp_path: Path) -> Path:
    write_release(tmp_path / "1", "1.0.0")
    return tmp_path / "1"


@pytest.fixture
def second(tmp_path: Path) -> Path:
    write_release(tmp_path / "2", "2.0.0")
    return tmp_path / "2"
