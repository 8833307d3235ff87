"""A device class without the device: probes from the cloud, a table from the device, a search by that table."""

from __future__ import annotations

import json
from pathlib import Path

from shared.latency_table import read_latency_table
from shared.probes import read_probe_kit
from tests.support.agent_process import run_edge_agent
from tests.support.tiny_compression import CONFIG, run_model_command, write_tiny_compression

BY_TABLE = CONFIG.replace("[tuning]", '[tuning]\nlatency_table = "table.json"').replace(
    '["fp32", "int8-dynamic"]', '["fp32", "int8-dynamic", "int8-static", "int4-blocks-32"]'
)


def test_a_plan_is_searched_by_the_table_that_a_device_recorded(tmp_path: Path) -> None:
    config = write_tiny_compression(tmp_path, BY_TABLE)
    table = tmp_path / "table.json"
    assert run_model_command(config, "probes") == 0
    kit = read_probe_kit(tmp_path / "work" / "probes")
    recorded = run_edge_agent(
        "bench", str(tmp_path / "work" / "probes"), "--record", str(table), "--tokens", "4,16", "--rounds", "3"
    )
    assert recorded.returncode == 0, recorded.stderr
    timed = {timing.product for timing in read_latency_table(table).timings}
    assert timed == {probe.product for probe in kit.probes} and kit.unsupported == ()
    assert {product.choice for product in timed} == {"fp32", "int8-dynamic", "int8-static", "int4-blocks-32"}
    assert run_model_command(config) == 0
    report = json.loads((tmp_path / "work" / "report.json").read_text(encoding="utf-8"))
    assert "table" in report["tuning"]["method"]
    assert all(trial["variant"]["failure"] is None for trial in report["tuning"]["trials"])
