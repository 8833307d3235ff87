"""Builds the device's wheel: `edge_agent` and `shared` alone, with the dependencies that a device needs."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("edge_agent", "shared")


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


def build(out: Path) -> Path:
    """Build the wheel into the folder `out` and return its path."""
    with tempfile.TemporaryDirectory() as work:
        tree = Path(work) / "tree"
        tree.mkdir()
        for package in PACKAGES:
            shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
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
    print(build(parser.parse_args().out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
