"""The device's side runs on every Python that devices have."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VENVS = ROOT / ".cache" / "interpreters"
VERSIONS = ("3.10", "3.12", "3.13")
TEST_PACKAGES = ("pytest", "hypothesis", "onnx", "psutil", "httpx")
SHIPPED = tuple(sorted(path.parent for path in (ROOT / "deploy/demo/bundles").glob("*/bundle.json")))
OLDEST, OLDEST_ONNXRUNTIME = "3.10", "1.23.2"
"""No newer ONNX Runtime is published for this Python, so bundles made with a newer one must run on it too."""

CHECK_GOLDEN_SETS = """
import platform, sys
from pathlib import Path
import onnxruntime
from edge_agent.loading import load_model
print(platform.python_version(), onnxruntime.__version__)
for folder in sys.argv[1:]:
    model = load_model(Path(folder))
    model.check_golden_set()
    print(Path(folder).name, len(model.bundle.golden.items))
"""


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
        subprocess.run([venv / "bin/python", *install, "--editable", f"{ROOT}[edge,tracing]"], check=True)
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


def checked_golden_sets(venv: Path, bundles: tuple[Path, ...]) -> dict[str, int]:
    """How many golden texts the agent answers as promised, by the bundle's name."""
    command = [str(venv / "bin/python"), "-c", CHECK_GOLDEN_SETS, *map(str, bundles)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    versions, *lines = run.stdout.splitlines()
    assert versions.startswith(f"{OLDEST}.") and versions.endswith(f" {OLDEST_ONNXRUNTIME}")
    return {name: int(count) for name, count in (line.split() for line in lines)}


def test_shipped_bundles_answer_as_promised_on_the_oldest_python(venvs: dict[str, Future[Path]]) -> None:
    if OLDEST not in venvs:
        pytest.skip(f"there is no Python {OLDEST} on this machine")
    counts = checked_golden_sets(venvs[OLDEST].result(), SHIPPED)
    assert set(counts) == {"banking77-edge", "banking77-full"} and min(counts.values()) >= 5


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="bundles are made with torch (extra compress)")
def test_bundles_of_every_kind_answer_as_promised_on_the_oldest_python(
    venvs: dict[str, Future[Path]], tmp_path: Path
) -> None:
    from tests.support.golden_bundles import KINDS, write_golden_bundles

    if OLDEST not in venvs:
        pytest.skip(f"there is no Python {OLDEST} on this machine")
    counts = checked_golden_sets(venvs[OLDEST].result(), write_golden_bundles(tmp_path))
    assert set(counts) == set(KINDS) and min(counts.values()) >= 1
