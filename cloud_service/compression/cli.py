"""The `model` commands of `cloud-service`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import ConfigurationError, TandemError

if TYPE_CHECKING:
    from cloud_service.compression.figures import Figures

DEFAULT_CONFIG = Path("deploy/demo/models.toml")


def add_model_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `model train` to the program's subcommands; the namespace's `handler` runs it and returns the exit code."""
    model = commands.add_parser("model", help="make models")
    actions = model.add_subparsers(dest="action", required=True)
    train = actions.add_parser(
        "train",
        help="train the full and the edge model and write both bundles",
        description="Trains, prunes, quantizes and calibrates; resumes where an earlier run was stopped.",
    )
    train.add_argument("config", nargs="?", type=Path, default=DEFAULT_CONFIG, help=f"default: {DEFAULT_CONFIG}")
    train.add_argument("--threads", type=int, default=0, help="CPU threads for torch (default: torch's own choice)")
    train.add_argument("--quiet", action="store_true", help="no progress bars")
    train.set_defaults(handler=run_model_train)


def run_model_train(arguments: argparse.Namespace) -> int:
    """Carry out `model train`. torch is loaded only now, so that other commands start without it."""
    try:
        figures = _train(arguments.config, arguments.threads, arguments.quiet)
    except (TandemError, OSError) as error:
        sys.stderr.write(f"cloud-service model train: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on from the last finished epoch\n")
        return 130
    sys.stdout.write(_summary(figures))
    return 0


def _train(path: Path, threads: int, quiet: bool) -> Figures:
    from cloud_service.compression.config import load_config

    config = load_config(path)
    try:
        import torch

        from cloud_service.compression.pipeline import train_models
        from cloud_service.compression.progress import progress_report
    except ImportError as error:
        raise ConfigurationError(
            f"training needs more packages: pip install 'tandem[cloud,compress]' ({error})"
        ) from error
    if threads > 0:
        torch.set_num_threads(threads)
    with progress_report(quiet) as report:
        return train_models(config, report)


def _summary(figures: Figures) -> str:
    full, edge, gate = figures.full, figures.edge, figures.gate
    return (
        f"test part: full {full.accuracy:.2%} ({full.size_bytes / 1e6:.1f} MB, {full.latency_ms:.2f} ms), "
        f"edge INT8 {edge.accuracy:.2%} ({edge.size_bytes / 1e6:.1f} MB, {edge.latency_ms:.2f} ms)\n"
        f"gate: {gate.offload:.1%} escalated, kept error {gate.kept_error:.2%}, "
        f"kept disagreement {gate.kept_disagreement:.2%}, cascade {gate.cascade_accuracy:.2%}\n"
    )
