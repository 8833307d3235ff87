"""The `gate` commands of `cloud-service`."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path

from cloud_service.calibration.recalibrate_cli import add_recalibrate
from shared.errors import ConfigurationError
from shared.gate import Guarantee, Risk

DEFAULT_DELTA = 0.1
DEFAULT_GRID = (0.05, 0.005, 0.01, 0.02, 0.03, 0.075, 0.1, 0.15, 0.2)
"""For a bundle; the first is in force."""

_Commands = argparse._SubParsersAction  # argparse has no public name for it


def add_gate_commands(commands: _Commands[argparse.ArgumentParser]) -> None:
    """Add them to the command line."""
    gate = commands.add_parser("gate", help="calibrate and explain gates").add_subparsers(required=True)
    _add_calibrate(gate)
    add_recalibrate(gate, _handler("recalibrate", "field_calibration"))
    explain = gate.add_parser("explain", help="what a bundle's gate promises, in words and as a picture")
    explain.add_argument("bundle", type=Path)
    explain.add_argument("--html", type=Path, help="write words and picture into this file as well")
    explain.set_defaults(handler=_handler("explain"))


def _add_calibrate(gate: _Commands[argparse.ArgumentParser]) -> None:
    calibrate = gate.add_parser(
        "calibrate",
        help="find thresholds whose risk is proven",
        description="Of any model's outputs (--scores), or of an edge bundle, whose gate is replaced (--bundle).",
    )
    source = calibrate.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--scores", type=Path, help="NumPy archive: logits [n, k] with labels or full_model_labels [n], -1 for none"
    )
    source.add_argument("--bundle", type=Path, help="the edge bundle")
    calibrate.add_argument("--full", type=Path, help="the full bundle that answers what --bundle escalates")
    calibrate.add_argument("--data", type=Path, help="CSV with the columns text and category, which certifies")
    calibrate.add_argument("--tuning-data", type=Path, help="another, which tunes (default: a part of --data)")
    calibrate.add_argument("--critical", action="append", default=[], metavar="LABEL=ALPHA", help="or LABEL=escalate")
    calibrate.add_argument("--alpha", action="append", type=_numbers, help="one, or several: the first is in force")
    calibrate.add_argument("--delta", type=float, default=DEFAULT_DELTA, help="default: %(default)s")
    calibrate.add_argument("--risk", action="append", type=Risk, choices=list(Risk), metavar="RISK", help=_RISK_HELP)
    calibrate.add_argument("--guarantee", type=Guarantee, choices=list(Guarantee), default=Guarantee.PROBABILITY,
                           metavar="KIND", help="of the joint risk: probability (default) or expectation")  # fmt: skip
    calibrate.add_argument("--seed", type=int, default=0, help="of the split of the data (default: %(default)s)")
    calibrate.add_argument("--json", action="store_true", help="print JSON")
    calibrate.set_defaults(handler=_handler("calibrate"))


_RISK_HELP = (
    "kept-error, kept-disagreement or joint (default: kept-error; of a bundle, the first two; may be given twice there)"
)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _handler(name: str, module: str = "commands") -> Callable[[argparse.Namespace], int]:
    """SciPy and the engine are imported where a command runs."""

    def run(options: argparse.Namespace) -> int:
        try:
            commands = importlib.import_module(f"cloud_service.calibration.{module}")
        except ModuleNotFoundError as error:
            raise ConfigurationError(f"gate needs more packages: pip install 'tandem[cloud]' ({error})") from error
        handler: Callable[[argparse.Namespace], int] = getattr(commands, name)
        return handler(options)

    return run
