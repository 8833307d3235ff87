"""The device's side runs on every Python that devices have."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VENVS = ROOT / ".cache" / "interpreters"
VERSIONS = ("3.10", "3.12", "3.13")
TEST_PACKAGES = ("pytest", "hypothesis", "onnx", "psutil", "httpx")


def find_interpreter(version: str) -> str | None:
    """The newest Python `version` of this machine: from pyenv, where pyenv has one, or the PATH."""
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    return str(pyenv[-1]) if pyenv else shutil.which(f"python{version}")


def prepare_venv(version: str, interpreter: str) -> Path:
    """A virtual environment with the device's dependencies, kept until `pyproject.toml` changes."""
    venv = VENVS / version
    stamp = venv / "prepared"
    wanted = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        subprocess.run([interpreter, "-m", "venv", "--clear", venv], check=True)
        install = ["-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check", *TEST_PACKAGES]
        subprocess.run([venv / "bin/python", *install, "--editable", f"{ROOT}[edge]"], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return venv


@pytest.fixture(scope="module")
def venvs() -> dict[str, Future[Path]]:
    """A virtual environment for each Python that is here, prepared side by side."""
    found = {version: interpreter for version in VERSIONS if (interpreter := find_interpreter(version))}
    with ThreadPoolExecutor(2) as pool:
        return {version: pool.submit(prepare_venv, version, interpreter) for version, interpreter in found.items()}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_device_side_passes_its_unit_tests_on_python(version: str, venvs: dict[str, Future[Path]]) -> None:
    if version not in venvs:
        pytest.skip(f"there is no Python {version} on this machine")
    python = venvs[version].result() / "bin/python"
    tests = ["-m", "pytest", "-p", "no:cacheprovider", "tests/unit/shared", "tests/unit/edge_agent"]
    run = subprocess.run([python, *tests], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert " passed" in run.stdout
