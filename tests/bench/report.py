"""What the measurements have in common: the machine's name, medians, and how figures are printed."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One line of the table: what was measured, its median with the range of its rounds, and the aim, if any."""

    what: str
    median: float
    lowest: float
    highest: float
    unit: str
    aim: str = ""

    @classmethod
    def of(cls, what: str, rounds: Sequence[float], unit: str, aim: str = "") -> Figure:
        """The figure of several rounds."""
        return cls(what, statistics.median(rounds), min(rounds), max(rounds), unit, aim)


def machine() -> str:
    """Processor, cores and Python, as every table states them."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def show(figures: Sequence[Figure]) -> None:
    """Print the figures as a Markdown table."""
    print("| what | median | range | aim |\n|---|---|---|---|")
    for figure in figures:
        span = f"{figure.lowest:.3g} to {figure.highest:.3g}"
        print(f"| {figure.what} | {figure.median:.3g} {figure.unit} | {span} | {figure.aim} |")


def options(description: str | None) -> argparse.ArgumentParser:
    """What every measurement takes; one with options of its own adds them, and parses before it begins."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path)
    return parser


def finish(figures: Sequence[Figure], description: str, asked: argparse.Namespace | None = None) -> None:
    """Print, and write JSON where the command line, parsed to `asked` or to be parsed now, says `--json FILE`."""
    target: Path | None = (asked or options(description).parse_args()).json
    show(figures)
    if target:
        document = {"machine": machine(), "figures": [asdict(figure) for figure in figures]}
        target.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
