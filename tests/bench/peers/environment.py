"""The virtual environment that holds the peers, whose packages would not fit beside this project's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
COMPILING = {
    "CMAKE_ARGS": "-DGGML_NATIVE=ON",
    "CXXFLAGS": "-fno-tree-dse -fno-dse",
}
"""For llama.cpp, which comes as source. GCC 12 takes most of its AMX tile configuration for stores that nothing reads,
and leaves them out; the first AMX instruction is then illegal (llama.cpp, pull request 26954)."""


def python_of(environment: Path) -> Path:
    return environment / "bin" / "python"


def make_environment(environment: Path) -> None:
    """Install what `requirements.txt` pins, unless that very list has been installed there; takes 10 minutes or more.

    A package that cannot be installed is told of and left out: its engine will be absent.
    """
    mark = environment / "installed.txt"
    if mark.exists() and mark.read_text(encoding="utf-8") == REQUIREMENTS.read_text(encoding="utf-8"):
        return
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    install = [str(python_of(environment)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    lines = [line for line in REQUIREMENTS.read_text(encoding="utf-8").split("\n") if line and not line.startswith("#")]
    failed = [line for line in lines if subprocess.run([*install, line], env={**os.environ, **COMPILING}).returncode]
    for line in failed:
        print(f"not installed: {line}", flush=True)
    if not failed:
        mark.write_text(REQUIREMENTS.read_text(encoding="utf-8"), encoding="utf-8")
