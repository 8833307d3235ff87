"""Releases through a fleet: one that is good, and one that answers wrongly, one that is slow, one that does not load.

Broker, publisher, fleet and rollout service are real processes; so are some of the devices, under traffic. The other
devices have a connection, signed metadata, slots and saved state of their own each, and a stand-in for the engine. A
tenth of them are the first ring. All share this machine's cores; the stand-ins' slots lie in memory where the system
has a disk for that, as a thousand devices' synced writes are no matter of one disk.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.bench.report import Figure, finish, options
from tests.support.update_fleet import Reached, Stopped, UpdateFleet, all_named
from tests.support.update_swarm import Fault

BAD = {"2.0.0": Fault.WRONG, "3.0.0": Fault.SLOW, "4.0.0": Fault.CRASHES}
GOOD = "5.0.0"
_DEVICES_A_PROCESS = 125
_IN_MEMORY = Path("/dev/shm")
_WORDS = {Fault.WRONG: "answers wrongly", Fault.SLOW: "is slow", Fault.CRASHES: "does not load"}


def measure(devices: int, real: int, hint_spread_s: float, folder: Path, devices_folder: Path) -> list[Figure]:
    """The bad ones first, then the good one."""
    processes = -(-devices // _DEVICES_A_PROCESS)
    figures: list[Figure] = []
    with UpdateFleet(
        folder,
        devices=devices,
        real=real,
        versions={**BAD, GOOD: None},
        processes=processes,
        hint_spread_s=hint_spread_s,
        devices_folder=devices_folder,
    ) as fleet:
        _say(f"{devices} devices in {processes} processes and {real} agents are known")
        for version, fault in BAD.items():
            stopped = fleet.stops(version)
            back = f"back {stopped.decision_to_back_s:.1f} s after the decision"
            _say(f"{version}, which {_WORDS[fault]}: {stopped.reason}; {back}")
            figures += _stopped(stopped, _WORDS[fault])
        strangers = all_named(fleet, list(BAD))
        reached = fleet.reaches_all(GOOD)
        _say(f"{GOOD} on all after {reached.all_s:.1f} s")
        words = fleet.swarm.words()
        figures += _reached(reached, f"{devices} + {real}")
        lost = sum(word.connections - 1 for word in words)
        unlike = sum(word.version != GOOD for word in words)
        failed = sum(agent.failed for agent in fleet.agents.values())
        asked = sum(agent.answers.total() for agent in fleet.agents.values()) + failed
    return [
        *figures,
        Figure.of("devices of the second ring that ever named or loaded a bad one", [len(strangers)], "", "0"),
        Figure.of("devices that do not run the good one in the end", [unlike], "", "0"),
        Figure.of("connections that broke", [lost], ""),
        Figure.of(f"real agents: failed of {asked} requests", [failed], "", "0"),
    ]  # fmt: skip


def _stopped(stopped: Stopped, what: str) -> list[Figure]:
    name = f"a release that {what}"
    return [
        Figure.of(f"{name}: decision until the ring is back", [stopped.decision_to_back_s], "s", "≤ 60"),
        Figure.of(f"{name}: first report until the ring is back", [stopped.first_failure_to_back_s], "s"),
        Figure.of(f"{name}: devices that it came near", [stopped.tried], ""),
    ]


def _reached(reached: Reached, devices: str) -> list[Figure]:
    return [
        Figure.of("a good release: until the first ring runs it", [reached.canary_s], "s"),
        Figure.of(f"a good release: until all {devices} run it, the store knows and the rollout is done",
                  [reached.all_s], "s"),
    ]  # fmt: skip


def _say(line: str) -> None:
    print(f"{line}; load average {os.getloadavg()[0]:.1f}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--real", type=int, default=8)
    parser.add_argument("--hint-spread-s", type=float, default=1.0)
    asked = parser.parse_args()
    in_memory = _IN_MEMORY if _IN_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory(dir=in_memory) as slots:
        figures = measure(asked.devices, asked.real, asked.hint_spread_s, Path(name), Path(slots))
    finish(figures, __doc__ or "", asked)


if __name__ == "__main__":
    main()
