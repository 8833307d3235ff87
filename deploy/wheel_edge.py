"""Builds the device's wheel: `edge_agent` and `shared` alone, with the dependencies that a device needs."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edge_agent.update.trusted_time import BUILT_UNIX_S

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("edge_agent", "shared")
TRUSTED_TIME = Path("edge_agent/update/trusted_time.py")
_BUILT = re.compile(r"^BUILT_UNIX_S = .*$", re.MULTILINE)
_DAY_S = 86_400


def device_pyproject(text: str) -> str:
    """The project's `pyproject.toml` as the device's: the edge extra becomes required, the cloud is left out."""
    edge = _list_of(text, "edge")
    dependencies = _list_of(text, "dependencies")
    head = text[: text.index("[project.optional-dependencies]")]
    head = head.replace('name = "tandem"', 'name = "tandem-edge"', 1)
    head = head.replace(f"dependencies = [{dependencies}]", f"dependencies = [{dependencies}{edge.lstrip()}]", 1)
    extra = re.search(r"^tracing = \[.*\]$", text, re.MULTILINE)
    extras = f"[project.optional-dependencies]\n{extra.group()}\n\n" if extra else ""
    return (head + extras) + (
        '[project.scripts]\nedge-agent = "edge_agent.cli:main"\n\n'
        '[tool.setuptools.dynamic]\nversion = { attr = "shared.__version__" }\n\n'
        '[tool.setuptools.packages.find]\ninclude = ["shared*", "edge_agent*"]\n\n'
        '[tool.setuptools.package-data]\nshared = ["py.typed"]\nedge_agent = ["py.typed", "static/*"]\n'
    )


def _list_of(text: str, key: str) -> str:
    found = re.search(rf"^{key} = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise SystemExit(f"pyproject.toml has no list {key!r}")
    return found.group(1)


def stamped(text: str, built_unix_s: float) -> str:
    """`TRUSTED_TIME`'s source with the day of a build: a device's time is never before it. It never goes back."""
    day_s = max(BUILT_UNIX_S, built_unix_s // _DAY_S * _DAY_S)
    stamped_text, count = _BUILT.subn(f"BUILT_UNIX_S = {day_s:.1f}", text)
    if count != 1:
        raise SystemExit(f"{TRUSTED_TIME} sets BUILT_UNIX_S {count} times, not once")
    return stamped_text


def build(out: Path, built_unix_s: float) -> Path:
    """Build the wheel into the folder `out` and return its path. `built_unix_s`: now."""
    with tempfile.TemporaryDirectory() as work:
        tree = Path(work) / "tree"
        tree.mkdir()
        for package in PACKAGES:
            shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
        module = tree / TRUSTED_TIME
        module.write_text(stamped(module.read_text(encoding="utf-8"), built_unix_s), encoding="utf-8")
        for name in ("README.md", "LICENSE"):
            shutil.copyfile(ROOT / name, tree / name)
        (tree / "pyproject.toml").write_text(
            device_pyproject((ROOT / "pyproject.toml").read_text(encoding="utf-8")), encoding="utf-8"
        )
        wheels = Path(work) / "wheels"
        subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", wheels, tree], check=True)
        wheel = next(wheels.glob("*.whl"))
        out.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(wheel, out / wheel.name))


def main() -> int:
    """Build and say where the wheel lies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("dist"))
    print(build(parser.parse_args().out, float(os.environ.get("SOURCE_DATE_EPOCH") or time.time())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
