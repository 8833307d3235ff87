"""Energy meters that Linux shows under /sys, behind one protocol. Needs nothing but the standard library.

What they count is the whole processor or board, idle power and other programs included; so compare only
readings of one machine that does nothing else.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

SAMPLE_EVERY_S = 0.02
STOP_PATIENCE_S = 5.0
_PACKAGE_ZONE = re.compile(r"intel-rapl:\d+")
_INA3221 = "sys/bus/i2c/drivers/ina3221*/*/hwmon/hwmon*"
_RAILS_OF_WHOLE_BOARD = ("VDD_IN", "POM_5V_IN")  # Jetson's labels; where one is there, the other rails are part of it


@dataclass(frozen=True)
class EnergyReading:
    """Joules used in `seconds`."""

    joules: float
    seconds: float


class RunningMeter(Protocol):
    """One measurement under way."""

    def stop(self) -> EnergyReading:
        """End it."""


class EnergyMeter(Protocol):
    """What can tell how much energy the machine used between two moments."""

    @property
    def name(self) -> str:
        """What it is and what it counts, for the report."""

    def start(self) -> RunningMeter:
        """Begin a measurement."""


@dataclass(frozen=True)
class RaplZone:
    """One of Intel's or AMD's counters of microjoules (kernel documentation, power/powercap), which wraps around."""

    folder: Path

    def microjoules(self) -> int:
        """The counter. Raises: OSError: not readable, as since Linux 5.10 for all but root."""
        return _number(self.folder / "energy_uj")

    def since(self, before_uj: int) -> int:
        """Microjoules since the counter stood at `before_uj`, at most one wrap ago."""
        now_uj = self.microjoules()
        if now_uj >= before_uj:
            return now_uj - before_uj
        return now_uj + _number(self.folder / "max_energy_range_uj") - before_uj


@dataclass(frozen=True)
class RaplMeter:
    """The processor packages, and their memory where it is counted apart."""

    zones: tuple[RaplZone, ...]
    clock: Callable[[], float] = time.monotonic

    @property
    def name(self) -> str:
        """See `EnergyMeter`."""
        return f"RAPL ({', '.join(_text(zone.folder / 'name') for zone in self.zones)})"

    def start(self) -> RunningMeter:
        """See `EnergyMeter`. A measurement may last no longer than the counter takes to wrap, about an hour."""
        return _RunningRapl(self, tuple(zone.microjoules() for zone in self.zones), self.clock())


@dataclass(frozen=True)
class _RunningRapl:
    meter: RaplMeter
    before_uj: tuple[int, ...]
    began_s: float

    def stop(self) -> EnergyReading:
        used_uj = sum(zone.since(before) for zone, before in zip(self.meter.zones, self.before_uj, strict=True))
        return EnergyReading(used_uj / 1e6, self.meter.clock() - self.began_s)


@dataclass(frozen=True)
class Rail:
    """One channel of a Jetson's INA3221 (kernel documentation, hwmon/ina3221): millivolts and milliamperes."""

    label: str
    voltage: Path
    current: Path

    def watts(self) -> float:
        """Power now. Raises: OSError."""
        return _number(self.voltage) * _number(self.current) / 1e6


@dataclass(frozen=True)
class Ina3221Meter:
    """A board's power rails, sampled from a thread and summed over time."""

    rails: tuple[Rail, ...]
    clock: Callable[[], float] = time.monotonic
    every_s: float = SAMPLE_EVERY_S

    @property
    def name(self) -> str:
        """See `EnergyMeter`."""
        return f"INA3221 ({', '.join(rail.label for rail in self.rails)})"

    def start(self) -> RunningMeter:
        """See `EnergyMeter`."""
        return _RunningSampler(self)

    def sample(self) -> tuple[float, float]:
        """Seconds and watts now. Raises: OSError."""
        return self.clock(), sum(rail.watts() for rail in self.rails)


class _RunningSampler:
    def __init__(self, meter: Ina3221Meter) -> None:
        self._meter = meter
        self._samples = [meter.sample()]
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="power-sampler", daemon=True)
        self._thread.start()

    def stop(self) -> EnergyReading:
        self._ending.set()
        self._thread.join(STOP_PATIENCE_S)
        samples = [*self._samples, self._meter.sample()]
        return EnergyReading(joules_of(samples), samples[-1][0] - samples[0][0])

    def _sample(self) -> None:
        while not self._ending.wait(self._meter.every_s):
            with contextlib.suppress(OSError):  # a busy I2C bus; the samples about it bridge the gap
                self._samples.append(self._meter.sample())


def joules_of(samples: Sequence[tuple[float, float]]) -> float:
    """Energy of (seconds, watts) in order of time, by the trapezoidal rule."""
    return sum((after[0] - before[0]) * (after[1] + before[1]) / 2 for before, after in pairwise(samples))


def find_meter(root: Path = Path("/")) -> EnergyMeter | None:
    """The meter of this machine, of the /sys under `root`; None where there is none that this user may read."""
    zones = tuple(filter(_is_readable, _rapl_zones(root)))
    if zones:
        return RaplMeter(zones)
    rails = _rails(root)
    whole = tuple(rail for rail in rails if rail.label in _RAILS_OF_WHOLE_BOARD)
    return Ina3221Meter(whole or rails) if rails else None


def _rapl_zones(root: Path) -> list[RaplZone]:
    """Packages, and of what is within them only memory: cores and graphics are counted in the package already."""
    found = []
    for folder in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        try:
            name = _text(folder / "name")
        except OSError:
            continue
        is_package = _PACKAGE_ZONE.fullmatch(folder.name) is not None and name.startswith("package")
        if is_package or name == "dram":
            found.append(RaplZone(folder))
    return found


def _is_readable(zone: RaplZone) -> bool:
    try:
        zone.microjoules()
    except (OSError, ValueError):
        return False
    return True


def _rails(root: Path) -> tuple[Rail, ...]:
    """Channels with both a voltage and a current, and what reads as numbers now."""
    found = []
    for current in sorted(root.glob(f"{_INA3221}/curr*_input")):
        channel = current.name.removeprefix("curr").removesuffix("_input")
        try:
            label = _text(current.with_name(f"in{channel}_label"))
            rail = Rail(label, current.with_name(f"in{channel}_input"), current)
            rail.watts()
        except (OSError, ValueError):
            continue
        found.append(rail)
    return tuple(found)


def _number(path: Path) -> int:
    return int(_text(path))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()
