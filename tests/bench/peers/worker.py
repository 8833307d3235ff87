"""The process in which one engine works: `python -m tests.bench.peers.worker CONTESTANT FOLDER`.

It answers one JSON line on its standard output for each on its standard input, and ends with its input. What engines
print goes to standard error. A request is one of

    {"do": "prepare", "checkpoint": FOLDER}                 {}
    {"do": "check", "checkpoint": FOLDER}                   {"checked": how near to PyTorch's the answers are}
    {"do": "time", "task": TASK, "ids": [...], "runs": N, "warm_runs": N, "warm_s": S}
                                                            {"ms": [...]}, after runs as `warm_up` has them
    {"do": "once", "ids": [...]}                            {"peak_kib": ...}, the process's, after one text

where TASK is "classify", "first_token" or "step"; or the answer is {"error": why}.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from tests.bench.peers.agreement import Expected, check_class, check_tokens
from tests.bench.peers.contestants import Contestant, contestant
from tests.bench.peers.peer import Peer
from tests.bench.timing import timed_ms, warm_up


def main(folder_name: str, folder: Path) -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    chosen = contestant(folder_name)
    serve(sys.stdin, answers, chosen, lambda: open_peer(chosen, folder))


def open_peer(chosen: Contestant, folder: Path) -> Peer:
    peer: Peer = importlib.import_module(f"tests.bench.peers.{chosen.module}").peer(folder, chosen.variant)
    return peer


def serve(requests: IO[str], answers: IO[str], chosen: Contestant, opened: Callable[[], Peer]) -> None:
    """Answer each request; whatever an engine raises is an answer too."""
    peer: Peer | None = None
    for line in requests:
        try:
            peer = peer or opened()
            answer = answer_to(json.loads(line), peer, chosen)
        except Exception as error:  # noqa: BLE001 - other projects' engines raise anything, and one must not end the run
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def answer_to(request: dict[str, Any], peer: Peer, chosen: Contestant) -> dict[str, Any]:
    """Raises: ValueError: a request that is none of those in this module's docstring."""
    if request["do"] == "prepare":
        peer.prepare(Path(request["checkpoint"]))
        return {}
    if request["do"] == "check":
        return {"checked": checked(peer, Path(request["checkpoint"]), chosen)}
    if request["do"] == "time":
        asked = {name: request[name] for name in ("task", "ids", "runs", "warm_runs", "warm_s")}
        return {"ms": times_ms(peer, **asked)}
    if request["do"] == "once":
        peer.classify(request["ids"])
        return {"peak_kib": peak_kib()}
    raise ValueError(f"no such request: {request}")


def checked(peer: Peer, checkpoint: Path, chosen: Contestant) -> str:
    """How near to PyTorch's the answers are. Raises: DisagreementError: not near enough."""
    expected = Expected.read(checkpoint)
    found = [check_class(peer, expected, chosen.least_cosine)] if chosen.classifies else []
    found += [check_tokens(peer, expected, chosen.least_cosine)] if chosen.generates else []
    return ", ".join(found)


def times_ms(peer: Peer, task: str, ids: list[int], runs: int, warm_runs: int, warm_s: float) -> list[float]:
    """Of each of `runs` runs, after those that warm up; steps follow each other, from the prompt on."""
    if task == "step":
        peer.first_token(ids)
    calls: dict[str, Callable[[], object]] = {
        "classify": lambda: peer.classify(ids),
        "first_token": lambda: peer.first_token(ids),
        "step": peer.step,
    }
    warm_up(calls[task], warm_runs, warm_s)
    return [timed_ms(calls[task]) for _ in range(runs)]


def peak_kib() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
