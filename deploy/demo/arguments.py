"""The demo's command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from deploy.demo.broker import BrokerKind
from deploy.demo.client import Load

HERE = Path(__file__).resolve().parent
WATCHABLE_RATE = 20.0
N = TypeVar("N", int, float)


@dataclass(frozen=True)
class Options:
    """What was asked for. `requests` None asks each question once; `report` None: it stays in the run's folder."""

    input: Path
    requests: int | None
    load: Load
    headless: bool
    report: Path | None
    devices: int
    broker: BrokerKind
    port: int
    edge_bundle: Path
    full_bundle: Path
    runs: Path
    restart_after_s: float


def parse_arguments(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; ends the process with a usage message where it is wrong."""
    given = _parser().parse_args(arguments)
    rate = given.rate if given.rate is not None else 0.0 if given.headless else WATCHABLE_RATE
    return Options(
        input=given.input,
        requests=given.requests,
        load=Load(rate, given.concurrency),
        headless=given.headless,
        report=given.report,
        devices=given.devices,
        broker=BrokerKind(given.broker),
        port=given.port,
        edge_bundle=given.edge_bundle,
        full_bundle=given.full_bundle,
        runs=given.runs,
        restart_after_s=given.restart_after,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description=_DESCRIPTION)
    add = parser.add_argument
    add("--input", type=Path, default=HERE / "traffic" / "bank_questions.csv", help="text,category CSV of questions")
    add("--requests", type=_between(int, 1, 10_000_000), help="ask so many, from the top again if needed")
    add("--rate", type=_between(float, 0, 100_000), help="a second; 0: unlimited (default 20, headless 0)")
    add("--concurrency", type=_between(int, 1, 1000), default=4, help="requests open at once (default 4)")
    add("--headless", action="store_true", help="end when everything is measured")
    add("--report", type=Path, metavar="OUT.json", help="write the report here as well")
    add("--devices", type=_between(int, 1, 32), default=3, help="edge agents to run (default 3)")
    add("--broker", choices=[kind.value for kind in BrokerKind], default="auto", help="default: mosquitto where it is")
    add("--port", type=_between(int, 1, 65535), default=8090, help="the operator page's, if free (default 8090)")
    add("--edge-bundle", type=Path, default=HERE / "bundles" / "banking77-edge", help="what the devices run")
    add("--full-bundle", type=Path, default=HERE / "bundles" / "banking77-full", help="what the cloud runs")
    add("--runs", type=Path, default=Path("runs"), help="where this run's files and logs go (default runs)")
    add("--restart-after", type=_between(float, 0, 3600), default=3.0, help="seconds until a killed process is back")
    return parser


def _between(kind: Callable[[str], N], least: N, most: N) -> Callable[[str], N]:
    def parse(text: str) -> N:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least} and {most}")
        return value

    parse.__name__ = "number"
    return parse


_DESCRIPTION = (
    "Starts a broker, the cloud and edge agents on this machine, asks them a bank's customers' questions, then asks "
    "the same again all on the devices and all in the cloud, and reports what the cascade gained. Ctrl-C stops it."
)
