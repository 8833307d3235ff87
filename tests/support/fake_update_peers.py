"""Who an updater works with, in memory: a registry with its source and trusted metadata, a host of models, a clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.lowlevel
import zstandard

from edge_agent.update.ports import LoadedCandidate
from shared.bundle import MANIFEST_NAME, Bundle, Manifest, Role, read_bundle
from shared.bundle.writer import GATE_NAME, file_entry
from shared.documents import canonical_json, sha256
from shared.errors import FetchFailed, FileNotThere, TandemError, UpdateRefused
from shared.gate import gate_document
from shared.update.assignment import Arm, Assignment, Trial
from shared.update.names import chunk_path
from shared.update.release import manifest_bytes, with_gate, without_gate
from shared.update.report import InstalledRelease, TrialFigures
from tests.support.tiny_bundle import LABELS, tiny_gate, write_tiny_bundle

T = TypeVar("T")
QUICK_TRIAL = Trial(requests=20, seconds=0.0, longest_s=5.0)


async def inline(work: Callable[[], T]) -> T:
    """Blocking work done at once."""
    return work()


class JumpingClock:
    """Implements `Clock`: whoever sleeps finds that the time has passed."""

    def __init__(self, unix_s: float = 1_800_000_000.0) -> None:
        self._now_s = 1000.0
        self._offset_s = unix_s - 1000.0

    def monotonic_s(self) -> float:
        return self._now_s

    def unix_s(self) -> float:
        return self._now_s + self._offset_s

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(0.0005)
        self._now_s += max(0.0, seconds)


def write_chunked_bundle(
    folder: Path, version: str, *, labels: Sequence[str] = LABELS, piece_bytes: int = 600, threshold: float = 0.9
) -> Manifest:
    """A tiny bundle whose files are cut every `piece_bytes`."""
    written = write_tiny_bundle(folder, version=version, labels=labels)
    entries = []
    for entry in written.files:
        data = (folder / entry.path).read_bytes()
        if entry.role is not Role.GATE:
            entries.append(file_entry(entry.path, entry.role, data, range(piece_bytes, len(data), piece_bytes)))
    bare = replace(written, files=tuple(entries))
    gate = gate_document(tiny_gate(bare.model_digest, threshold))
    manifest = with_gate(bare, gate)
    (folder / GATE_NAME).write_bytes(gate)
    (folder / MANIFEST_NAME).write_bytes(canonical_json(manifest))
    return manifest


@dataclass
class FakeRegistry:
    """What was published and assigned. `chunks` by path, compressed; they may be spoilt by tests."""

    chunks: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[Manifest, int]] = field(default_factory=dict)
    gates: dict[str, bytes] = field(default_factory=dict)
    arms: dict[str, Arm] = field(default_factory=dict)
    assignments: dict[str, Assignment] = field(default_factory=dict)

    def publish(self, folder: Path, release: int) -> Arm:
        """Publish the bundle in `folder`; returns the arm that names it."""
        manifest = read_bundle(folder).manifest
        for entry in manifest.files:
            data = (folder / entry.path).read_bytes()
            for chunk in entry.chunks:
                piece, data = data[: chunk.length], data[chunk.length :]
                self.chunks[chunk_path(chunk.sha256)] = zstandard.compress(piece)
        gate = (folder / GATE_NAME).read_bytes()
        self.gates[sha256(gate)] = gate
        return self.publish_manifest(without_gate(manifest), sha256(gate), release)

    def publish_manifest(self, bare: Manifest, gate_digest: str, release: int) -> Arm:
        """Vouch for `bare`, whatever it is."""
        digest = sha256(manifest_bytes(bare))
        self.manifests[digest] = (bare, release)
        arm = Arm(bare.version, digest, gate_digest, release)
        self.arms[bare.version] = arm
        return arm

    def assign(self, arm: Arm, *, sequence: int, model: str = "tiny", **fields: object) -> Assignment:
        """Let every device run `arm`."""
        assignment = Assignment(model, "rollout-1", sequence, 0, (arm,), trial=QUICK_TRIAL)
        self.assignments[model] = replace(assignment, **fields)  # type: ignore[arg-type]
        return self.assignments[model]


class FakeSource:
    """Implements `RepositorySource` on a registry. `fails_after`: so many chunks come before the link breaks, once."""

    def __init__(self, registry: FakeRegistry) -> None:
        self._registry = registry
        self.asked: list[str] = []
        self.fails_after: int | None = None
        self.before_each: Callable[[], None] = lambda: None
        self.pause_s = 0.0
        self.bytes_received = 0

    async def read(self, path: str, *, most_bytes: int) -> AsyncIterator[bytes]:
        yield self._registry.chunks[path]

    async def read_many(self, paths: Sequence[str], *, most_bytes: int) -> AsyncIterator[tuple[str, bytes]]:
        for path in paths:
            self.before_each()
            await anyio.sleep(self.pause_s)
            if self.fails_after == 0:
                self.fails_after = None
                raise FetchFailed("the link broke")
            if self.fails_after is not None:
                self.fails_after -= 1
            if path not in self._registry.chunks:
                raise FileNotThere(f"there is no {path}")
            data = self._registry.chunks[path]
            if len(data) > most_bytes:
                raise FetchFailed(f"{path} is longer than {most_bytes} bytes")
            self.asked.append(path)
            self.bytes_received += len(data)
            yield path, data


class FakeRepository:
    """Implements `TrustedRepository` on a registry. `faults` are raised by the next looks, one by one."""

    def __init__(self, registry: FakeRegistry) -> None:
        self._registry = registry
        self.faults: list[TandemError] = []
        self.exceptions: set[str] = set()
        self.looks = 0

    async def refresh(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.looks += 1
        if self.faults:
            raise self.faults.pop(0)

    async def assignment(self, ring: str, model: str) -> Assignment | None:
        return self._registry.assignments.get(model)

    async def manifest(self, assignment: Assignment, arm: Arm) -> Manifest:
        manifest, release = self._registry.manifests[arm.manifest_sha256]
        if release < assignment.floor and arm.version not in self.exceptions:
            raise UpdateRefused(f"release {release} lies below {assignment.floor}")
        return manifest

    async def gate(self, model: str, gate_digest: str) -> bytes:
        return self._registry.gates[gate_digest]


class FakeCandidate:
    """Implements `LoadedCandidate`."""

    def __init__(self, bundle: Bundle, release: InstalledRelease, host: FakeHost) -> None:
        self.bundle = bundle
        self.release = release
        self._host = host

    async def close(self) -> None:
        self._host.events.append(f"close {self.release.version}")
        if self._host.split is self:
            self._host.split = None


class FakeHost:
    """Implements `ModelHost` with no engine: what it loads has been verified, every byte.

    `faults` from (step, version) to what is raised there, "load", "prove", "split" or "switch"; `figures` by version.
    """

    def __init__(self) -> None:
        self.running: dict[str, FakeCandidate] = {}
        self.events: list[str] = []
        self.faults: dict[tuple[str, str], BaseException] = {}
        self.figures: dict[str, TrialFigures] = {}
        self.shadow: FakeCandidate | None = None
        self.split: FakeCandidate | None = None

    def boot(self, folder: Path, release: InstalledRelease) -> None:
        """What the agent does before there are updates."""
        bundle = read_bundle(folder)
        self.running[bundle.manifest.model] = FakeCandidate(bundle, release, self)

    def names(self) -> Sequence[str]:
        return tuple(self.running)

    def active(self, model: str) -> InstalledRelease:
        return self.running[model].release

    def relabel(self, model: str, release: InstalledRelease) -> None:
        self.running[model].release = release

    async def load(self, folder: Path, release: InstalledRelease, *, one_at_a_time: bool = False) -> FakeCandidate:
        self._step("load alone" if one_at_a_time else "load", release)
        return FakeCandidate(read_bundle(folder), release, self)

    async def prove(self, candidate: LoadedCandidate) -> None:
        self._step("prove", candidate.release)

    async def switch(self, candidate: LoadedCandidate) -> None:
        self._step("switch", candidate.release)
        assert isinstance(candidate, FakeCandidate)
        self.running[candidate.bundle.manifest.model] = candidate
        self.split = None

    def begin_trial(self, model: str) -> None:
        self.events.append(f"trial {self.running[model].release.version}")

    def trial_figures(self, model: str) -> TrialFigures:
        counted = self.split or self.running[model]
        return self.figures.get(counted.release.version, TrialFigures(requests=1000))

    def begin_shadow(self, candidate: LoadedCandidate, share: float) -> None:
        assert isinstance(candidate, FakeCandidate)
        self.events.append(f"shadow {candidate.release.version} {share}")
        self.shadow = candidate

    async def begin_split(self, candidate: LoadedCandidate, share: float, salt: str) -> None:
        self._step("split", candidate.release)
        assert isinstance(candidate, FakeCandidate)
        self.events[-1] += f" {share} {salt}"
        self.split = candidate

    def _step(self, step: str, release: InstalledRelease) -> None:
        self.events.append(f"{step} {release.version}")
        if (fault := self.faults.get((step, release.version))) is not None:
            raise fault
