"""`cloud-service`: serve, devices, bundles and models."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from cloud_service.access.cli import add_access_commands
from cloud_service.calibration.cli import add_gate_commands
from cloud_service.compression.cli import add_model_commands
from cloud_service.config import CloudSettings, load_cloud_settings
from cloud_service.labels_cli import add_label_commands
from cloud_service.processes import LIFELINE, USAGE_ERROR, Supervisor, hold_lifeline
from cloud_service.registry.cli import add_registry_commands
from cloud_service.rollout.cli import add_rollout_commands
from shared import __version__
from shared.errors import ConfigurationError, TandemError
from shared.logs import set_up_logging
from shared.tracing import traced

ROLES = ("web", "gateway", "delivery", "rollout", "fleet")
"""In the order in which they are stopped: first who shows, then who answers, last who counts. `delivery` and
`rollout` are started where their sections are there."""

_INTERRUPTED = 130
_STOP_MARGIN_S = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, or 2 with one clear line on standard error."""
    options = _parser().parse_args(arguments)
    set_up_logging(options.log_level)
    handler: Callable[[argparse.Namespace], int] = options.handler
    try:
        return handler(options)
    except TandemError as error:
        sys.stderr.write(f"cloud-service: {error}\n")
        return USAGE_ERROR
    except KeyboardInterrupt:
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cloud-service", description="The cloud's side of Tandem.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_devices(commands)
    _add_bundle(commands)
    add_model_commands(commands)
    add_gate_commands(commands)
    add_label_commands(commands)
    add_access_commands(commands)
    add_registry_commands(commands)
    add_rollout_commands(commands)
    return parser


_Commands = argparse._SubParsersAction  # argparse has no public name for it


def _add_serve(commands: _Commands[argparse.ArgumentParser]) -> None:
    serve = commands.add_parser("serve", help="run the gateway, the fleet service and the operator's page")
    serve.add_argument("role", nargs="?", choices=ROLES, help="one of them alone (default: all, each its own process)")
    serve.add_argument("--config", type=Path, help="cloud.toml")
    serve.add_argument(LIFELINE, type=int, help=argparse.SUPPRESS)
    serve.set_defaults(handler=_serve)


def _serve(options: argparse.Namespace) -> int:
    settings = load_cloud_settings(options.config)
    stop_within_s = settings.gateway.drain_ms / 1e3 + _STOP_MARGIN_S
    if options.role is None:
        wanted = {"delivery": settings.delivery, "rollout": settings.rollout}
        roles = [role for role in ROLES if wanted.get(role, True)]
        return asyncio.run(_supervise(roles, options.config, stop_within_s))
    if options.lifeline is not None:
        hold_lifeline(options.lifeline, stop_within_s)
    with traced(settings.tracing, f"tandem-{options.role}"):
        _runner(options.role)(settings)
    return 0


async def _supervise(roles: Sequence[str], config: Path | None, stop_within_s: float) -> int:
    return await Supervisor(roles, config, stop_within_s).run()


def _runner(role: str) -> Callable[[CloudSettings], None]:
    """Each role's code is imported where it runs: a gateway needs no templates, a page no ONNX Runtime."""
    module, name = {
        "gateway": ("cloud_service.gateway.server", "run_gateway"),
        "delivery": ("cloud_service.delivery.server", "run_delivery"),
        "rollout": ("cloud_service.rollout.server", "run_rollout"),
        "fleet": ("cloud_service.fleet.server", "run_fleet"),
        "web": ("cloud_service.dashboard.server", "run_web"),
    }[role]
    try:
        run: Callable[[CloudSettings], None] = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{role} needs more packages: pip install 'tandem[cloud]' ({error})") from error
    return run


def _add_devices(commands: _Commands[argparse.ArgumentParser]) -> None:
    devices = commands.add_parser("devices", help="who may ask the gateway").add_subparsers(required=True)
    for name, command, text in (
        ("add", _add_one_device, "give a device a new token and print it, this once"),
        ("revoke", _revoke_device, "take a device's token away"),
        ("list", _list_devices, "name the devices that have a token"),
    ):
        parser = devices.add_parser(name, help=text)
        if name != "list":
            parser.add_argument("device", help="the device's id")
        parser.add_argument("--credentials", type=Path, required=True, help="the file that gateway.credentials names")
        parser.set_defaults(handler=command)


def _add_one_device(options: argparse.Namespace) -> int:
    from cloud_service.gateway.credentials import add_device

    _say(add_device(options.credentials, options.device))
    return 0


def _revoke_device(options: argparse.Namespace) -> int:
    from cloud_service.gateway.credentials import revoke_device

    if not revoke_device(options.credentials, options.device):
        raise ConfigurationError(f"{options.credentials}: device {options.device!r} has no token")
    return 0


def _list_devices(options: argparse.Namespace) -> int:
    from cloud_service.gateway.credentials import read_credentials

    for device in sorted(read_credentials(options.credentials).devices):
        _say(device)
    return 0


def _add_bundle(commands: _Commands[argparse.ArgumentParser]) -> None:
    bundle = commands.add_parser("bundle", help="look at bundles").add_subparsers(required=True)
    for name, command, text in (
        ("verify", _verify_bundle, "check every file against the manifest"),
        ("show", _show_bundle, "what the bundle is, as JSON"),
    ):
        parser = bundle.add_parser(name, help=text)
        parser.add_argument("folder", type=Path)
        parser.set_defaults(handler=command)


def _verify_bundle(options: argparse.Namespace) -> int:
    from shared.bundle import read_bundle

    identity = read_bundle(options.folder).identity
    _say(f"{options.folder}: {identity.name} {identity.version} {identity.digest} is whole")
    return 0


def _show_bundle(options: argparse.Namespace) -> int:
    from shared.bundle import read_bundle

    bundle = read_bundle(options.folder)
    manifest = bundle.manifest
    summary = {
        "model": asdict(bundle.identity),
        "tier": manifest.tier,
        "labels": len(manifest.labels),
        "bytes": sum(entry.length for entry in manifest.files),
        "requires": asdict(manifest.requires),
        "gate": bundle.gate
        and {"score": bundle.gate.score, "threshold": bundle.gate.threshold(), "in_force": bundle.gate.in_force},
        "files": {entry.path: entry.length for entry in manifest.files},
    }
    _say(json.dumps(summary, indent=1))
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
