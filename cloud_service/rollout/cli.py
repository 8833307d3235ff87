"""The `rollout` commands of `cloud-service`."""

from __future__ import annotations

import argparse
from pathlib import Path

from cloud_service.late_commands import Commands, add_command


def add_rollout_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add them to the command line."""
    rollout = commands.add_parser("rollout", help="take a release through the fleet").add_subparsers(required=True)
    _add_start(rollout)
    status = _add(rollout, "status", "how far rollouts have come", "show_status")
    status.add_argument("rollout", nargs="?", help="one of them alone, with the reasons of devices that failed")
    status.add_argument("--limit", type=int, default=10, help="at most so many rollouts (10)")
    for name, text in (
        ("approve", "let one begin that another person started"),
        ("pause", "open no further ring and send none back"),
        ("resume", "go on after a pause"),
        ("promote", "take the current ring for passed and open the next one now"),
    ):
        _add_rollout(_add(rollout, name, text, "act", name))
    _add_rollback(rollout)
    abort = _add(rollout, "abort", "end it; the rings that it reached go back", "act", "abort")
    _add_rollout(abort)
    abort.add_argument("--keep", action="store_true", help="leave these rings with what they were told")
    _add_pins(rollout)


def _add_start(rollout: Commands[argparse.ArgumentParser]) -> None:
    start = _add(rollout, "start", "begin a rollout of a published release", "start_rollout")
    start.add_argument("release", metavar="MODEL@VERSION", help="for an A/B test the model's name alone")
    start.add_argument("--rings", "--ring", help="in their order, by commas: canary,stable")
    share = "first this share of a ring's devices, then all of them; may be given again"
    start.add_argument("--share", action="append", default=[], metavar="RING=SHARE", help=share)
    labels = "first a ring's devices of these labels, of one key any: canary=site:berlin,site:paris,line:3"
    start.add_argument("--labels", action="append", default=[], metavar="RING=KEY:VALUE", help=labels)
    arms = "an A/B test in one ring: B for its --share of the devices (0.5), A for the others"
    start.add_argument("--ab", nargs=2, metavar=("VERSION_A", "VERSION_B"), help=arms)
    by = "an A/B test splits the ring's devices, or each device's requests by their key: customer, session (device)"
    start.add_argument("--by", choices=("device", "key"), help=by)
    start.add_argument("--margin", type=float, default=0.02, help="by so much B may disagree more than A (0.02)")
    start.add_argument("--decide", action="store_true", help="carry the A/B test's verdict out; else it pauses then")
    start.add_argument("--plan", type=Path, help="a TOML file with all that may be chosen; options here go before it")
    start.add_argument("--soak", metavar="TIME", help="how long each ring is watched: 90s, 10m, 2h, 1d")
    shadow = "first answer this share of the first ring's requests beside, for nobody to see"
    start.add_argument("--shadow", type=float, metavar="SHARE", help=shadow)
    start.add_argument("--gate", metavar="DIGEST", help="another gate than the newest of the release")
    start.add_argument("--min-devices", type=int, help="a ring has done well from so many devices on")
    start.add_argument("--not-before", metavar="TIME", help="as 2030-01-31T22:00:00Z")
    start.add_argument("--needs-approval", action="store_true", help="another person has to approve it first")
    start.add_argument("--from", dest="before", metavar="VERSION", help="what rings go back to that had no rollout yet")
    start.add_argument("--without-fallback", action="store_true", help="begin where there is nothing to go back to")
    start.add_argument("--dry-run", action="store_true", help="show the plan and change nothing")


def _add_pins(rollout: Commands[argparse.ArgumentParser]) -> None:
    module = "cloud_service.rollout.pin_commands"
    text = "let one device run a release of its own, whatever its ring is told"
    pin = _add(rollout, "pin", text, "pin_device", module=module)
    pin.add_argument("device", metavar="DEVICE")
    pin.add_argument("release", metavar="MODEL@VERSION")
    pin.add_argument("--gate", metavar="DIGEST", help="another gate than the newest of the release")
    pin.add_argument("--without-trial", action="store_true", help="commit as soon as the golden set is answered well")
    unpin = _add(rollout, "unpin", "let a device follow its ring again", "unpin_device", module=module)
    unpin.add_argument("device", metavar="DEVICE")
    unpin.add_argument("model", metavar="MODEL")
    for parser in (pin, unpin):
        parser.add_argument("--reason", default="", help="why; is kept in the log of actions")
    _add(rollout, "pins", "the devices that run a release of their own", "show_pins", module=module)


def _add_rollback(rollout: Commands[argparse.ArgumentParser]) -> None:
    text = "send every ring that it reached back to what it ran before"
    rollback = _add(rollout, "rollback", text, "roll_back")
    _add_rollout(rollback)
    to = "in an emergency: end it, and send all rings of its model to this version at once, past the version floor too"
    rollback.add_argument("--to", metavar="VERSION", help=to)
    rollback.add_argument("--reason", help="why; is signed where the version lies below the floor")


def _add_rollout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rollout", nargs="?", help="its id; may be left out where one alone is meant")


def _add(
    commands: Commands[argparse.ArgumentParser],
    name: str,
    text: str,
    function: str,
    *told: str,
    module: str = "cloud_service.rollout.commands",
) -> argparse.ArgumentParser:
    parser = add_command(module, commands, name, text, function, *told)
    parser.add_argument("--json", action="store_true", help="as JSON")
    return parser
