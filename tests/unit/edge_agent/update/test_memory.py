from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.update.memory import available_bytes, needed_bytes, resident_bytes
from edge_agent.update.proving import ProvingBounds, prove_latency, prove_memory
from shared.bundle import read_bundle
from shared.errors import ProvingFailed
from tests.support.tiny_bundle import write_tiny_bundle

MB = 1 << 20


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def system(folder: Path, available_kb: int, groups: str) -> tuple[Path, Path]:
    write(folder / "proc" / "meminfo", f"MemTotal: 9999999 kB\nMemAvailable:  {available_kb} kB\n")
    write(folder / "proc" / "self" / "cgroup", groups)
    return folder / "proc", folder / "cgroup"


def test_without_limits_the_systems_word_counts(tmp_path: Path) -> None:
    assert available_bytes(*system(tmp_path, 1024, "0::/\n")) == MB
    assert available_bytes(tmp_path / "none", tmp_path / "none") is None


def test_the_tightest_control_group_above_us_counts_and_what_the_kernel_can_drop_is_free(tmp_path: Path) -> None:
    proc, cgroups = system(tmp_path, 1 << 20, "0::/system.slice/agent.service\n")
    group = cgroups / "system.slice" / "agent.service"
    write(group / "memory.max", "max\n")
    write(group / "memory.current", f"{90 * MB}\n")
    write(group.parent / "memory.max", f"{100 * MB}\n")
    write(group.parent / "memory.current", f"{95 * MB}\n")
    write(group.parent / "memory.stat", f"anon 1\ninactive_file {20 * MB}\n")
    assert available_bytes(proc, cgroups) == 25 * MB


def test_a_container_that_does_not_see_its_own_path_finds_its_limit_at_the_root(tmp_path: Path) -> None:
    proc, cgroups = system(tmp_path, 1 << 20, "0::/docker/abc\n")
    write(cgroups / "memory.max", f"{64 * MB}\n")
    write(cgroups / "memory.current", f"{60 * MB}\n")
    assert available_bytes(proc, cgroups) == 4 * MB


def test_control_groups_of_the_first_version_are_read_too(tmp_path: Path) -> None:
    proc, cgroups = system(tmp_path, 1 << 20, "5:cpu,cpuacct:/\n3:memory:/agent\n")
    write(cgroups / "memory" / "agent" / "memory.limit_in_bytes", f"{64 * MB}\n")
    write(cgroups / "memory" / "agent" / "memory.usage_in_bytes", f"{32 * MB}\n")
    write(cgroups / "memory" / "memory.limit_in_bytes", f"{2**63 - 4096}\n")
    write(cgroups / "memory" / "memory.usage_in_bytes", f"{500 * MB}\n")
    assert available_bytes(proc, cgroups) == 32 * MB


def test_a_bundle_needs_more_memory_than_its_files_have(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "tiny")
    size_bytes = sum(file.stat().st_size for file in (tmp_path / "tiny").iterdir())
    assert needed_bytes(read_bundle(tmp_path / "tiny")) > size_bytes + 8 * MB
    assert resident_bytes() > MB and resident_bytes(tmp_path) == 0


def test_a_candidate_that_takes_far_more_memory_than_its_size_lets_expect_does_not_pass() -> None:
    prove_memory(140 * MB, 100 * MB, ProvingBounds())
    with pytest.raises(ProvingFailed, match="loading it took 168 MB of memory, 105 MB were expected"):
        prove_memory(160 * MB, 100 * MB, ProvingBounds())


def test_a_candidate_passes_that_nobody_would_notice_to_be_slower() -> None:
    prove_latency(0.9, 0.1, ProvingBounds())
    prove_latency(14.9, 10.0, ProvingBounds())
    with pytest.raises(ProvingFailed, match=r"takes 15\.1 ms, the running model takes 10\.0 ms"):
        prove_latency(15.1, 10.0, ProvingBounds())
