"""The `model` commands of `cloud-service`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_service.compression.errors import MAKE_ROOM, is_for_want_of_room
from shared.errors import ConfigurationError, TandemError

if TYPE_CHECKING:
    from cloud_service.compression.config import CompressConfig
    from cloud_service.compression.pipeline import Made

DEFAULT_CONFIG = Path("deploy/demo/models.toml")
STEPS = {
    "compress": ("package", "make both bundles from a configuration: all the steps below"),
    "train": ("train", "fine-tune the teacher and make the full model"),
    "prune": ("prune", "and remove pieces, heads, channels and layers"),
    "distil": ("distil", "and let the pruned model recover, taught by the full one"),
    "quantize": ("quantize", "and try the whole network in each precision"),
    "tune": ("tune", "and find the precision of each product"),
    "evaluate": ("evaluate", "and measure the models on the test part"),
}


def add_model_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `model` commands to the program's; the namespace's `handler` runs one and returns the exit code."""
    model = commands.add_parser("model", help="make models")
    actions = model.add_subparsers(dest="action", required=True)
    for name, (_, what) in STEPS.items():
        step = actions.add_parser(name, help=what, description=f"{what}. Resumes where an earlier run was stopped.")
        _add_run_options(step)
        step.set_defaults(handler=run_step)
    probes = actions.add_parser(
        "probes",
        help="write the probe kit that a device records its latency table with",
        description="Does what comes before pruning's end, where it is not done yet, then writes a folder to copy.",
    )
    _add_run_options(probes)
    probes.add_argument("--out", type=Path, help="default: the folder `probes` in the work folder")
    probes.set_defaults(handler=run_probes)
    imported = actions.add_parser(
        "import", help="read a checkpoint and say what it is", description="Reads every tensor; never unpickles."
    )
    imported.add_argument("folder", help="a folder as save_pretrained writes it, or package:NAME")
    imported.add_argument("--max-length", type=int, help="tokens that texts may have (default: what it can take)")
    imported.set_defaults(handler=run_import)
    _add_generator(actions)


def _add_generator(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    generator = actions.add_parser(
        "generator",
        help="write a causal language model's checkpoint as a pair of graphs that generate",
        description="Prompts run in INT8, each later token in 4-bit blocks, over one cache and one weights file.",
    )
    generator.add_argument("checkpoint", help="an Ernie4_5ForCausalLM's folder, as save_pretrained writes it")
    generator.add_argument("--out", type=Path, required=True, help="a new folder, or an older generator's")
    generator.add_argument("--precision", choices=("mixed", "fp32"), default="mixed", help="default: %(default)s")
    generator.add_argument("--block-size", type=int, default=128, help="weights to a scale (default: %(default)s)")
    generator.add_argument("--max-length", type=int, help="tokens of prompt and answer (default: what it can take)")
    generator.set_defaults(handler=run_generator)


def _add_run_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("config", nargs="?", type=Path, default=DEFAULT_CONFIG, help=f"default: {DEFAULT_CONFIG}")
    command.add_argument("--seed", type=int, help="in place of the configuration's")
    command.add_argument("--threads", type=int, default=0, help="CPU threads for torch (default: torch's own choice)")
    command.add_argument("--quiet", action="store_true", help="no progress bars")


def run_step(arguments: argparse.Namespace) -> int:
    """Carry out one of `STEPS`. torch is loaded only now, so that other commands start without it."""

    def work() -> str:
        return _summary(_make(arguments))

    return _reported(arguments.action, work)


def run_probes(arguments: argparse.Namespace) -> int:
    """Carry out `model probes`."""

    def work() -> str:
        return f"probe kit: {_write_probes(arguments)}\n"

    return _reported("probes", work)


def run_import(arguments: argparse.Namespace) -> int:
    """Carry out `model import`."""

    def work() -> str:
        try:
            from cloud_service.compression.checkpoints.reading import read_checkpoint
            from cloud_service.compression.checkpoints.report import describe
            from cloud_service.compression.sources import checkpoint_folder
        except ImportError as error:
            raise _needs_packages(error) from error
        return describe(read_checkpoint(checkpoint_folder(arguments.folder), arguments.max_length)) + "\n"

    return _reported("import", work)


def run_generator(arguments: argparse.Namespace) -> int:
    """Carry out `model generator`."""

    def work() -> str:
        try:
            from cloud_service.compression.generator import GeneratorPrecision, write_generator
            from cloud_service.compression.sources import checkpoint_folder
        except ImportError as error:
            raise _needs_packages(error) from error
        folder, precision = checkpoint_folder(arguments.checkpoint), GeneratorPrecision(arguments.precision)
        made = write_generator(folder, arguments.out, precision, arguments.block_size, arguments.max_length)
        without = "" if made.tokenizer else "; the checkpoint has no tokenizer.json, so it takes token ids alone"
        return f"generator: {arguments.out}, {made.size_bytes:,} bytes{without}\n"

    return _reported("generator", work)


def _reported(action: str, work: Callable[[], str]) -> int:
    try:
        sys.stdout.write(work())
    except (TandemError, OSError) as error:
        sys.stderr.write(f"cloud-service model {action}: {_one_line(error)}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on from what is finished\n")
        return 130
    return 0


def _one_line(error: Exception) -> str:
    said = " ".join(str(error).split())
    return f"{said}; {MAKE_ROOM}" if isinstance(error, OSError) and is_for_want_of_room(error) else said


def _make(arguments: argparse.Namespace) -> Made:
    from cloud_service.compression.config import load_config

    config = _seeded(load_config(arguments.config), arguments)
    try:
        from cloud_service.compression.pipeline import Step, compress
        from cloud_service.compression.progress import progress_report
    except ImportError as error:
        raise _needs_packages(error) from error
    _use_threads(arguments.threads)
    until, _ = STEPS[arguments.action]
    with progress_report(arguments.quiet) as report:
        return compress(config, report, Step(until))


def _write_probes(arguments: argparse.Namespace) -> Path:
    from cloud_service.compression.config import load_config

    config = _seeded(load_config(arguments.config), arguments)
    try:
        from cloud_service.compression.pipeline import write_probes
        from cloud_service.compression.progress import progress_report
    except ImportError as error:
        raise _needs_packages(error) from error
    _use_threads(arguments.threads)
    folder: Path = arguments.out or config.work_dir / "probes"
    with progress_report(arguments.quiet) as report:
        write_probes(config, report, folder)
    return folder


def _seeded(config: CompressConfig, arguments: argparse.Namespace) -> CompressConfig:
    return config if arguments.seed is None else config.model_copy(update={"seed": arguments.seed})


def _use_threads(count: int) -> None:
    import torch

    if count > 0:
        torch.set_num_threads(count)


def _needs_packages(error: ImportError) -> ConfigurationError:
    return ConfigurationError(f"making models needs more packages: pip install 'tandem[cloud,compress]' ({error})")


def _summary(made: Made) -> str:
    lines = [f"report: {made.report}", *(f"bundle: {bundle}" for bundle in made.bundles)]
    return "\n".join(lines) + "\n"
