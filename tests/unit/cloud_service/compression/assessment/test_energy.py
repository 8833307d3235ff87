"""Meters of a made-up /sys."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_service.compression.assessment.energy import Ina3221Meter, RaplMeter, find_meter, joules_of

POWERCAP = "sys/class/powercap"


def write(root: Path, files: dict[str, str | int]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")


def add_zone(root: Path, folder: str, name: str, energy_uj: int, wraps_at_uj: int = 1_000_000) -> None:
    zone = f"{POWERCAP}/{folder}"
    write(root, {f"{zone}/name": name, f"{zone}/energy_uj": energy_uj, f"{zone}/max_energy_range_uj": wraps_at_uj})


def add_rail(root: Path, channel: int, label: str, millivolts: int, milliamperes: int) -> None:
    chip = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
    write(root, {f"{chip}/in{channel}_label": label, f"{chip}/in{channel}_input": millivolts})
    write(root, {f"{chip}/curr{channel}_input": milliamperes})


def test_a_machine_without_meters_has_none(tmp_path: Path) -> None:
    assert find_meter(tmp_path) is None


def test_a_counter_that_wraps_around_still_counts_forward(tmp_path: Path) -> None:
    add_zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    meter = find_meter(tmp_path)
    assert isinstance(meter, RaplMeter)
    running = meter.start()
    add_zone(tmp_path, "intel-rapl:0", "package-0", 400_000)
    assert running.stop().joules == pytest.approx(0.5)


def test_packages_and_memory_are_counted_and_parts_of_a_package_are_not(tmp_path: Path) -> None:
    zones = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "core", "intel-rapl:0:1": "dram",
             "intel-rapl:1": "package-1", "intel-rapl:2": "psys"}  # fmt: skip
    for folder, name in zones.items():
        add_zone(tmp_path, folder, name, 0)
    meter = find_meter(tmp_path)
    assert meter is not None and meter.name == "RAPL (package-0, dram, package-1)"
    running = meter.start()
    for folder, name in zones.items():
        add_zone(tmp_path, folder, name, 200_000)
    assert running.stop().joules == pytest.approx(0.6)


def test_a_counter_that_cannot_be_read_is_no_meter(tmp_path: Path) -> None:
    add_zone(tmp_path, "intel-rapl:0", "package-0", 1)
    (tmp_path / POWERCAP / "intel-rapl:0/energy_uj").unlink()
    assert find_meter(tmp_path) is None


def test_a_jetson_is_metered_by_the_rail_of_the_whole_board(tmp_path: Path) -> None:
    add_rail(tmp_path, 1, "VDD_IN", 5000, 1200)
    add_rail(tmp_path, 2, "VDD_CPU_GPU_CV", 5000, 400)
    meter = find_meter(tmp_path)
    assert isinstance(meter, Ina3221Meter) and meter.name == "INA3221 (VDD_IN)"
    reading = meter.start().stop()
    assert reading.joules == pytest.approx(6.0 * reading.seconds)


def test_without_such_a_rail_all_are_added_up(tmp_path: Path) -> None:
    add_rail(tmp_path, 1, "VDD_GPU", 1000, 500)
    add_rail(tmp_path, 2, "VDD_CPU", 1000, 250)
    meter = find_meter(tmp_path)
    assert isinstance(meter, Ina3221Meter)
    assert meter.sample()[1] == pytest.approx(0.75)


def test_power_that_rises_is_summed_by_trapezoids() -> None:
    assert joules_of([(0.0, 2.0), (1.0, 4.0), (3.0, 4.0)]) == pytest.approx(3 + 8)
    assert joules_of([(0.0, 2.0)]) == 0
