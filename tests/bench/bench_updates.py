"""What travels to a device for an update: only the head retrained, the gate alone, and nothing new.

The shipped edge bundle is published by the real registry, and a device takes it through mosquitto in blocks, believes
the real signatures, and puts it into slots on the disk; no engine runs. Bytes are of payloads, as they came; files of
`metadata/`, assignments, `targets/` else (manifests and gates) and `chunks/` are counted apart. What the director signs
is no payload: the assignment is counted beside the metadata.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copytree

import anyio
import numpy as np
import onnx

from cloud_service.config import CloudSettings
from cloud_service.registry.catalogue import find_release, listed_releases
from cloud_service.registry.ceremony import init_repository
from cloud_service.registry.director import Director
from cloud_service.registry.publishing import publish, publish_gate
from cloud_service.registry.repository import Repository, open_repository
from edge_agent.update.mqtt_source import MqttSource
from edge_agent.update.ports import RepositorySource
from shared.bundle import MANIFEST_NAME, FileEntry, GoldenSet, Manifest, Role, read_bundle
from shared.bundle.writer import GATE_NAME, GOLDEN_NAME, file_entry
from shared.documents import canonical_json, read_document
from shared.folders import replacing_folder
from shared.gate import Gate, gate_document
from shared.update.assignment import Arm, Assignment
from shared.update.names import CHUNKS, METADATA, TARGETS, ring_target
from shared.update.release import manifest_bytes, with_gate
from tests.bench.report import Figure, finish
from tests.support.mosquitto import Mosquitto
from tests.support.repository_files import LinkedPublisher, serving
from tests.support.update_swarm import DEVICE_TRIAL, SwarmDevice

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "deploy" / "demo" / "bundles" / "banking77-edge"
HEAD = "head."
RING = "default"
ASSIGNMENT = "assignment"
FEW, MANY = 2, 50
ROUNDS = 3
_PATIENCE_S = 120.0


class CountingSource:
    """Implements `RepositorySource`; `bytes_of` counts what came by the first part of its path."""

    def __init__(self, source: MqttSource) -> None:
        self._source = source
        self.bytes_of: Counter[str] = Counter()

    async def read(self, path: str, *, most_bytes: int) -> AsyncIterator[bytes]:
        async for data in self._source.read(path, most_bytes=most_bytes):
            self.bytes_of[_kind_of(path)] += len(data)
            yield data

    async def read_many(self, paths: Sequence[str], *, most_bytes: int) -> AsyncIterator[tuple[str, bytes]]:
        async for path, data in self._source.read_many(paths, most_bytes=most_bytes):
            self.bytes_of[_kind_of(path)] += len(data)
            yield path, data

    @property
    def bytes_received(self) -> int:
        return self._source.bytes_received


def _kind_of(path: str) -> str:
    return ASSIGNMENT if path.startswith((f"{TARGETS}/rings/", f"{TARGETS}/devices/")) else path.split("/")[0]


@dataclass(frozen=True)
class Travelled:
    """Bytes of one step; `received` is what the source counted, blocks that came twice included."""

    metadata: int
    assignment: int
    targets: int
    chunks: int
    received: int


class Fleet:
    """A repository, its publisher, and one device that takes what it is assigned."""

    def __init__(self, work: Path, port: int) -> None:
        self.repository: Repository = open_repository(CloudSettings(data_dir=work / "cloud"))
        init_repository(self.repository, threshold=1, root_keys=1)
        self._director = Director(self.repository)
        self._sequence = 0
        self._work = work
        self._port = port

    def assign(self, bundle: Path) -> None:
        """Let the ring run the bundle in this folder, which was published."""
        manifest, self._sequence = read_bundle(bundle).manifest, self._sequence + 1
        listed = find_release(self.repository.state(), manifest.model, manifest.version)
        gate = next(entry.sha256 for entry in manifest.files if entry.role is Role.GATE)
        arm = Arm(manifest.version, listed.manifest_sha256, gate, listed.release)
        floor = min(release.release for release in listed_releases(self.repository.state(), manifest.model))
        assignment = Assignment(manifest.model, "rollout-1", self._sequence, floor, (arm,), trial=DEVICE_TRIAL)
        self._director.assign(ring_target(RING, manifest.model), assignment)

    def device(self, name: str, factory: Path, threads: ThreadPoolExecutor) -> MeasuredDevice:
        """One whose configuration names the bundle in `factory`."""
        folder, pinned_root = self._work / "devices", self.repository.pinned_root()
        return MeasuredDevice(name, factory, folder, pinned_root, self._port, threads)


class MeasuredDevice:
    """A device of the swarm, alone and counted."""

    def __init__(
        self, name: str, factory: Path, folder: Path, pinned_root: bytes, port: int, threads: ThreadPoolExecutor
    ) -> None:
        self._counts: list[CountingSource] = []
        self.device = SwarmDevice(name, RING, factory, folder / name, pinned_root, port, threads, counted=self._counted)

    async def look(self) -> Travelled:
        """One look, with all that follows from it where nothing is to be installed."""
        before, looks = self._so_far(), self.device.repository.looks
        self._hint()
        await until(lambda: self.device.repository.looks > looks)
        return self._since(before)

    async def take(self, bundle: Path) -> Travelled:
        """From the hint until the bundle in this folder is committed."""
        before, found = self._so_far(), read_bundle(bundle)
        assert found.gate is not None
        digest = found.gate.digest
        self._hint()
        await until(lambda: self.device.has_committed(found.manifest.version, digest))
        return self._since(before)

    def _hint(self) -> None:
        self.device.updater.hint(self.device.slots.model)

    def _counted(self, source: MqttSource) -> RepositorySource:
        self._counts.append(CountingSource(source))
        return self._counts[-1]

    def _so_far(self) -> tuple[Counter[str], int]:
        return Counter(self._counts[-1].bytes_of), self._counts[-1].bytes_received

    def _since(self, before: tuple[Counter[str], int]) -> Travelled:
        now, received = self._so_far()
        grown = {part: count - before[0][part] for part, count in now.items()}
        return Travelled(
            metadata=grown.get(METADATA, 0),
            assignment=grown.get(ASSIGNMENT, 0),
            targets=grown.get(TARGETS, 0),
            chunks=grown.get(CHUNKS, 0),
            received=received - before[1],
        )


async def until(condition: Callable[[], bool]) -> None:
    """Look again and again."""
    with anyio.fail_after(_PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.02)


def retrained_head(source: Path, folder: Path, version: str, seed: int) -> Path:
    """The bundle in `source` with another head, and what follows from one: gate, golden set's figures, card."""
    bundle, drawn = read_bundle(source), np.random.default_rng(seed)
    assert bundle.gate is not None
    with replacing_folder(folder) as fresh:
        copytree(source, fresh, dirs_exist_ok=True)
        _draw_head(fresh / bundle.manifest.graph.file, drawn)
        _change_golden(fresh, drawn)
        with (fresh / "MODEL_CARD.md").open("a", encoding="utf-8") as card:
            card.write(f"\nHead retrained as {version}.\n")
        entries = [_cut_again(fresh, entry) for entry in bundle.manifest.files if entry.role is not Role.GATE]
        bare = replace(bundle.manifest, version=version, files=tuple(entries))
        _write_gate(fresh, bare, bundle.gate, drawn)
    return folder


def another_gate(source: Path, folder: Path, seed: int) -> Path:
    """The bundle in `source` with a gate calibrated anew: other figures in it, all of full length."""
    bundle = read_bundle(source)
    assert bundle.gate is not None
    with replacing_folder(folder) as fresh:
        copytree(source, fresh, dirs_exist_ok=True)
        _write_gate(fresh, bundle.manifest, bundle.gate, np.random.default_rng(seed))
    return folder


def _write_gate(folder: Path, manifest: Manifest, gate: Gate, drawn: np.random.Generator) -> None:
    temperature = gate.temperature * drawn.uniform(0.9, 1.1)
    document = gate_document(replace(gate, model_digest=manifest.model_digest, temperature=temperature))
    (folder / GATE_NAME).write_bytes(document)
    (folder / MANIFEST_NAME).write_bytes(manifest_bytes(with_gate(manifest, document)))


def _draw_head(graph: Path, drawn: np.random.Generator) -> None:
    """Random weights, scales and biases, in the places of the old ones."""
    model = onnx.load(str(graph), load_external_data=False)
    heads = [each for each in model.graph.initializer if each.name.startswith(HEAD)]
    assert heads, f"no tensor of {graph} begins with {HEAD}"
    for tensor in heads:
        place = {entry.key: entry.value for entry in tensor.external_data}
        count = int(np.prod(tensor.dims))
        is_integer = tensor.data_type == onnx.TensorProto.INT8
        values = drawn.integers(-127, 128, count, np.int8) if is_integer else drawn.normal(size=count).astype("<f4")
        data = values.tobytes()
        assert len(data) == int(place["length"])
        with (graph.parent / place["location"]).open("r+b") as file:
            file.seek(int(place["offset"]))
            file.write(data)


def _change_golden(folder: Path, drawn: np.random.Generator) -> None:
    file = folder / GOLDEN_NAME
    golden = read_document(GoldenSet, file.read_bytes())
    items = tuple(replace(item, probability=float(drawn.uniform(0.5, 1.0))) for item in golden.items)
    file.write_bytes(canonical_json(replace(golden, items=items)))


def _cut_again(folder: Path, entry: FileEntry) -> FileEntry:
    """With the borders that it had."""
    borders = list(itertools.accumulate(chunk.length for chunk in entry.chunks))
    return file_entry(entry.path, entry.role, (folder / entry.path).read_bytes(), borders)


async def measure(work: Path, port: int) -> list[Figure]:
    """All three, with few and with many versions published."""
    fleet = Fleet(work, port)
    publish(fleet.repository, BUNDLE)
    fleet.assign(BUNDLE)
    threads = ThreadPoolExecutor(2)
    linked = LinkedPublisher(port, "p1", work / "cloud" / "repository")
    bundles = (retrained_head(BUNDLE, work / f"v{number}", f"9.{number}.0", number) for number in itertools.count())
    async with serving(linked), anyio.create_task_group() as tasks:
        one = fleet.device("d1", BUNDLE, threads)
        tasks.start_soon(one.device.run)
        await until(lambda: one.device.repository.looks > 0)
        heads, figures = [], []
        published = 1
        for versions in (FEW, MANY):
            while published < versions:
                newest = await asyncio.to_thread(_publish_next, fleet, bundles)
                published += 1
            for _ in range(ROUNDS if versions == MANY else 1):
                heads.append(await _assigned(fleet, one, newest))
                newest = await asyncio.to_thread(_publish_next, fleet, bundles)
            heads.append(await _assigned(fleet, one, newest))
            figures += await _small_changes(fleet, one, newest, work, versions)
        tasks.cancel_scope.cancel()
    return [*_head_figures(heads), *figures]


def _publish_next(fleet: Fleet, bundles: Iterator[Path]) -> Path:
    newest = next(bundles)
    publish(fleet.repository, newest)
    return newest


async def _assigned(fleet: Fleet, one: MeasuredDevice, bundle: Path) -> Travelled:
    await asyncio.to_thread(fleet.assign, bundle)
    return await one.take(bundle)


async def _small_changes(fleet: Fleet, one: MeasuredDevice, newest: Path, work: Path, versions: int) -> list[Figure]:
    gates, looks = [], [await one.look() for _ in range(ROUNDS)]
    for seed in range(ROUNDS):
        changed = await asyncio.to_thread(another_gate, newest, work / f"gate-{versions}-{seed}", seed)
        await asyncio.to_thread(publish_gate, fleet.repository, changed)
        gates.append(await _assigned(fleet, one, changed))
    assert not any(each.chunks for each in gates)
    what = f"with {versions} versions published"
    return [
        Figure.of(f"gate alone, {what}: payload (the gate)", [each.targets for each in gates], "B", "< 2,000"),
        Figure.of(
            f"gate alone, {what}: metadata and assignment",
            [each.metadata + each.assignment for each in gates],
            "B",
            "< 6,000",
        ),
        Figure.of(f"nothing new, {what}: one look", [each.received for each in looks], "B"),
    ]


def _head_figures(heads: Sequence[Travelled]) -> list[Figure]:
    size = sum(entry.length for entry in read_bundle(BUNDLE).manifest.files)
    return [
        Figure.of(
            f"only the head retrained: share of the bundle's {size / 1e6:.2f} MB that travels",
            [100 * each.received / size for each in heads],
            "%",
            "≤ 5",
        ),
        Figure.of("of it chunks", [each.chunks for each in heads], "B"),
        Figure.of("of it manifest and gate", [each.targets for each in heads], "B"),
        Figure.of("of it metadata and assignment", [each.metadata + each.assignment for each in heads], "B"),
    ]


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name, Mosquitto(Path(name) / "broker") as broker:
        figures = anyio.run(measure, Path(name), broker.port)
    finish(figures, __doc__ or "")


if __name__ == "__main__":
    main()
