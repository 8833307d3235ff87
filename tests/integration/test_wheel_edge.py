"""What goes onto a device holds the device's code and nothing of the cloud's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from deploy.wheel_edge import build, stamped
from edge_agent.update.trusted_time import BUILT_UNIX_S

DAY_S = 86_400


@pytest.fixture(scope="module")
def built_unix_s() -> float:
    return time.time()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, built_unix_s: float) -> Path:
    return build(tmp_path_factory.mktemp("wheel"), built_unix_s)


def test_a_devices_time_begins_on_the_day_its_wheel_was_built(wheel: Path, built_unix_s: float, tmp_path: Path) -> None:
    ask = "from edge_agent.update import trusted_time as it; print(it.__file__, it.BUILT_UNIX_S)"
    told = subprocess.run(
        [sys.executable, "-c", ask],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.split()
    assert str(wheel) in told[0]
    assert built_unix_s - DAY_S < float(told[1]) <= built_unix_s


def test_a_build_machine_whose_clock_is_behind_takes_nothing_back() -> None:
    assert stamped("BUILT_UNIX_S = 5", BUILT_UNIX_S - 400 * DAY_S) == f"BUILT_UNIX_S = {BUILT_UNIX_S:.1f}"


def test_no_wheel_is_built_without_its_day() -> None:
    with pytest.raises(SystemExit, match="BUILT_UNIX_S"):
        stamped("ANOTHER_NAME = 5", BUILT_UNIX_S)


def test_the_device_wheel_holds_edge_agent_and_shared_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith("/METADATA"))).decode()
        entry_points = archive.read(
            next(name for name in archive.namelist() if name.endswith("/entry_points.txt"))
        ).decode()
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edge_agent", "shared"}
    required = [line.split(":", 1)[1].strip() for line in metadata.splitlines() if line.startswith("Requires-Dist:")]
    assert any(line.startswith("onnxruntime") for line in required)
    assert not any(line.startswith(("torch", "sqlalchemy", "jinja2", "ray")) for line in required)
    assert "edge-agent" in entry_points and "cloud-service" not in entry_points
