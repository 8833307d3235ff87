"""What goes onto a device holds the device's code and nothing of the cloud's."""

from __future__ import annotations

import zipfile
from pathlib import Path

from deploy.wheel_edge import build


def test_the_device_wheel_holds_edge_agent_and_shared_alone(tmp_path: Path) -> None:
    wheel = build(tmp_path)
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
