"""Generates `shared/pb` from `proto/`; with --check, fails where the code checked in is not fresh."""

from __future__ import annotations

import argparse
import filecmp
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
GENERATED = (
    "shared/pb/inference_pb2.py",
    "shared/pb/inference_pb2.pyi",
    "shared/pb/inference_pb2_grpc.py",
    "shared/pb/fleet_pb2.py",
    "shared/pb/fleet_pb2.pyi",
)


def generate(target: Path) -> None:
    """Write the generated modules below `target`."""
    sources = {name: f"shared/pb/{name}.proto" for name in ("inference", "fleet")}
    common = ["protoc", f"--proto_path={ROOT / 'proto'}", f"--python_out={target}", f"--pyi_out={target}"]
    for name, source in sources.items():
        stubs = [f"--grpc_python_out={target}"] if name == "inference" else []
        if protoc.main([*common, *stubs, source]):
            raise SystemExit(f"protoc refused {source}")


def main() -> int:
    """Generate, or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        generate(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as work:
        generate(Path(work))
        stale = [name for name in GENERATED if not _same(Path(work) / name, ROOT / name)]
    if stale:
        sys.stderr.write(f"not fresh, run `make proto`: {', '.join(stale)}\n")
    return 1 if stale else 0


def _same(one: Path, other: Path) -> bool:
    return other.exists() and filecmp.cmp(one, other, shallow=False)


if __name__ == "__main__":
    sys.exit(main())
