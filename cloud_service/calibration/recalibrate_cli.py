"""`cloud-service gate recalibrate`: its options."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def add_recalibrate(gate: argparse._SubParsersAction[argparse.ArgumentParser], handler: Callable[..., int]) -> None:
    """Add it to the `gate` commands."""
    parser = gate.add_parser(
        "recalibrate",
        help="a new certificate from the field's own data",
        description="Certifies disagreement anew from audits and escalations, and with --labels-are-random error from "
        "true labels that came back. Score and temperature stay. Failed audits are taken as missing at random.",
    )
    parser.add_argument("bundle", type=Path, help="the edge bundle whose gate the devices obey")
    parser.add_argument("--from-audits", action="store_true", required=True, help="from what the store holds")
    store = parser.add_mutually_exclusive_group(required=True)
    store.add_argument("--store", help="the store's SQLAlchemy URL")
    store.add_argument("--config", type=Path, help="cloud.toml, which names the store")
    parser.add_argument("--since", default="", metavar="TIME", help="as 30d, 12h, 2026-11-23 or 2026-11-23T14:00Z")
    parser.add_argument("--until", default="", metavar="TIME", help="the same (default: now)")
    parser.add_argument("--ring", default="", help="the devices of one ring alone")
    parser.add_argument("--audit-share", action="append", default=[], metavar="SHARE",
                        help="of kept answers, in (0, 1]; DEVICE=SHARE for one device (default: as the fleet's counts "
                        "say, ring by ring; it must not have changed since --since)")  # fmt: skip
    parser.add_argument("--also-gate", action="append", default=[], type=Path, metavar="GATE_JSON",
                        help="an earlier gate of this model, with the same score and temperature")  # fmt: skip
    parser.add_argument("--labels-are-random", action="store_true",
                        help="you confirm that labels come back for a random part of the answers")  # fmt: skip
    parser.add_argument("--imported-labels", action="store_true", help="error from imported labels, not the devices'")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of samples (default: %(default)s)")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=Path, metavar="GATE_JSON", help="write the new gate into this file")
    target.add_argument("--write", action="store_true", help="put it into the bundle")
    parser.set_defaults(handler=handler)
