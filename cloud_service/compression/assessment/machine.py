"""The machine that figures were measured on."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from shared.documents import Document


@dataclass(frozen=True)
class Machine(Document):
    """`cores`: logical ones that this process may use."""

    cpu: str
    cores: int
    onnxruntime_version: str


def this_machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> Machine:
    """What runs this process."""
    return Machine(_cpu_name(cpuinfo), len(os.sched_getaffinity(0)), metadata.version("onnxruntime"))


def _cpu_name(cpuinfo: Path) -> str:
    """The model's name; Arm's kernels say none, so there the architecture."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.lower().startswith(("model name", "hardware")))
    return next((name for name in names if name), platform.machine())
