"""Other engines beside ours at ERNIE-4.5-0.3B's size, in one run: llama.cpp, CTranslate2, OpenVINO, onnxruntime-genai.

All run the same network, with seeded random weights, on the same number of threads, each in a process of its own;
they take turns, so that one works at any moment. Against PyTorch's FP32, as transformers runs it. Each peer's module
in `tests/bench/peers` says what its answer to a text includes. Steps follow each other, the first ones uncounted, so
that those counted find 64 tokens and a few more. Before it is measured, each engine's answers are checked against
PyTorch's; one that cannot be installed, does not run or answers otherwise is listed as absent, with the reason.

The peers' environment is made in `.cache/peers` where there is none; llama.cpp is compiled then, for minutes.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.bench.bench_generation import FULL, PROMPT, ROUNDS, STEPS, WARM_S, against
from tests.bench.peers.contestants import BASELINE, CONTESTANTS, Contestant
from tests.bench.peers.environment import make_environment, python_of
from tests.bench.peers.remote import ROOT, AbsentError, RemotePeer
from tests.bench.report import Figure, finish, options

LENGTHS = (32, 64, 128)
PAUSE_S = 0.3
"""Longer than OpenMP's threads wait for work, 0.2 s: nobody spins while another is timed."""

WARM_STEPS = 16

Absent = dict[str, str]


@dataclass(frozen=True)
class Task:
    """What each is asked in its turn: `name` as the worker knows it, with a text of `length` tokens."""

    name: str
    what: str
    length: int
    warm_runs: int = 1
    warm_s: float = WARM_S

    def request(self) -> dict[str, object]:
        warm = {"warm_runs": self.warm_runs, "warm_s": self.warm_s}
        return {"task": self.name, "ids": text(self.length), "runs": STEPS, **warm}


TASKS = (
    *(Task("classify", f"1 text of {length}", length) for length in LENGTHS),
    Task("step", f"a token after {PROMPT}", PROMPT - WARM_STEPS, WARM_STEPS, warm_s=0.0),
    Task("first_token", f"first token of {PROMPT}", PROMPT),
)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--environment", type=Path, help="has the peers installed; made in .cache/peers otherwise")
    parser.add_argument("--prepared", type=Path, help="keeps the converted networks, and takes those that it has")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    environment = asked.environment or ROOT / ".cache" / "peers"
    if not asked.environment:
        make_environment(environment)
    with tempfile.TemporaryDirectory() as folder:
        bench = PeerBench(python_of(environment), asked.prepared or Path(folder))
        bench.prepare()
        figures = bench.disk() + bench.memory() + bench.speed(asked.rounds)
        finish(figures + absent_figures(bench.absent), __doc__ or "", asked)


def text(length: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(0).integers(1, FULL.vocabulary_size, length)]


class PeerBench:
    """The contestants, prepared in folders of their own in `folder`; those that fail are `absent` from then on."""

    def __init__(self, peers_python: Path, folder: Path) -> None:
        self.absent: Absent = {}
        self._peers_python, self._folder = peers_python, folder.absolute()

    def prepare(self) -> None:
        """Write the checkpoint, convert it for each, and check each."""
        checkpoint = self._folder / "checkpoint"
        if not checkpoint.exists():
            checkpoint.mkdir(parents=True)
            subprocess.run([sys.executable, "-m", "tests.bench.peers.checkpoint", str(checkpoint)], check=True)
        for one in CONTESTANTS:
            try:
                print(f"{one.name}: {self._prepared(one, checkpoint)}", flush=True)
            except AbsentError as error:
                self._leave_out(one, error)
        if BASELINE in self.absent:
            raise SystemExit("nothing to compare with")

    def disk(self) -> list[Figure]:
        """What each runs from, and its share of PyTorch's FP32."""
        sizes = {one.name: _bytes(self._folder / one.folder_name) for one in self._present()}
        figures = [Figure.of(f"disk, {name}", [size / 1e6], "MB") for name, size in sizes.items()]
        shares = {name: 100 * size / sizes[BASELINE] for name, size in sizes.items()}
        return figures + [Figure.of(f"disk of FP32, {name}", [share], "%") for name, share in shares.items()]

    def memory(self) -> list[Figure]:
        """Peak memory of fresh processes that classify one text of 128 tokens once."""
        figures = []
        for one in self._present():
            try:
                if one.classifies:
                    with self._started(one) as worker:
                        peak_kib = worker.ask(do="once", ids=text(max(LENGTHS)))["peak_kib"]
                    figures.append(Figure.of(f"peak memory, 1 text of 128, {one.name}", [peak_kib / 1024], "MiB"))
            except AbsentError as error:
                self._leave_out(one, error)
        return figures

    def speed(self, rounds: int) -> list[Figure]:
        """Milliseconds of each task, and the ratios to PyTorch FP32 in the same round."""
        figures = []
        with ExitStack() as stack:
            workers = {one.name: stack.enter_context(self._started(one)) for one in self._present()}
            for task in TASKS:
                figures += against(BASELINE, task.what, self._turns(workers, task, rounds))
        return figures

    def _turns(self, workers: dict[str, RemotePeer], task: Task, rounds: int) -> dict[str, list[float]]:
        """Median milliseconds in each round; a round before the first warms up. One who fails has no times at all."""
        asked = [one for one in self._present() if (one.classifies if task.name == "classify" else one.generates)]
        taken: dict[str, list[float]] = {one.name: [] for one in asked}
        for number in range(-1, rounds):
            for one in asked:
                if one.name in self.absent:
                    continue
                time.sleep(PAUSE_S)
                try:
                    times_ms = workers[one.name].ask(do="time", **task.request())["ms"]
                except AbsentError as error:
                    self._leave_out(one, error)
                    continue
                if number >= 0:
                    taken[one.name].append(statistics.median(times_ms))
        return {name: times for name, times in taken.items() if name not in self.absent}

    def _prepared(self, one: Contestant, checkpoint: Path) -> str:
        folder, done = self._folder / one.folder_name, self._folder / f"{one.folder_name}.done"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            with self._started(one) as worker:
                worker.ask(do="prepare", checkpoint=str(checkpoint))
            done.touch()
        with self._started(one) as worker:
            return str(worker.ask(do="check", checkpoint=str(checkpoint))["checked"])

    def _started(self, one: Contestant) -> RemotePeer:
        python = Path(sys.executable) if one.own else self._peers_python
        folder = self._folder / one.folder_name
        return RemotePeer(python, one.folder_name, folder, self._folder / f"{one.folder_name}.log")

    def _present(self) -> list[Contestant]:
        return [one for one in CONTESTANTS if one.name not in self.absent]

    def _leave_out(self, one: Contestant, error: AbsentError) -> None:
        self.absent[one.name] = str(error)
        print(f"{one.name}: absent: {error}", flush=True)


def absent_figures(absent: Absent) -> list[Figure]:
    """A line for each, so that the table and the JSON tell of it."""
    return [Figure.of(f"absent: {name} ({reason})", [0], "figures") for name, reason in absent.items()]


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
