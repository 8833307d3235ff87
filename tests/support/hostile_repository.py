"""A repository of The Update Framework in memory, whose every key, version, date and byte a test may falsify.

It stands alone: made with python-tuf's metadata, without the cloud's registry.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone

import anyio
import zstandard
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from shared.bundle.manifest import (
    Chunk,
    FileEntry,
    GraphSpec,
    Manifest,
    Preprocessing,
    Requirements,
    Role,
    TensorSpec,
    Tier,
)
from shared.documents import sha256
from shared.errors import FetchFailed, FileNotThere
from shared.update.assignment import Arm, Assignment, encode_assignment
from shared.update.names import (
    DIRECTOR_ROLE,
    EXCEPTIONS_ROLE,
    GATES_ROLE,
    RELEASES_ROLE,
    ROLE_PATHS,
    exception_target,
    gate_target,
    manifest_target,
    ring_target,
)
from shared.update.release import ReleaseFacts, manifest_bytes

MODEL = "banking77"
RING = "default"
TOP_LEVEL = ("root", "targets", "snapshot", "timestamp")
GATE_DOCUMENT = b'{"gate": "keeps what it is sure of"}\n'
_COMPACT = JSONSerializer(compact=True)


class HostileRepository:
    """Begins honest, with nothing released. `signers` and `signed` may be changed; `publish` signs and lays out anew.

    `files` is what is served: the honest state of all versions so far, unless a test tampers with it.
    """

    def __init__(self, now_unix_s: float, *, root_threshold: int = 2, days: float = 30) -> None:
        self.now = datetime.fromtimestamp(int(now_unix_s), timezone.utc)
        expires = self.now + timedelta(days=days)
        self.files: dict[str, bytes] = {}
        self.signers: dict[str, list[CryptoSigner]] = {
            role: [CryptoSigner.generate_ed25519() for _ in range(3 if role == "root" else 1)]
            for role in (*TOP_LEVEL, *ROLE_PATHS)
        }
        self.root = Root(version=1, expires=expires, consistent_snapshot=True)
        self.targets = Targets(version=1, expires=expires)
        self.snapshot = Snapshot(version=1, expires=expires)
        self.timestamp = Timestamp(version=1, expires=expires)
        for role in TOP_LEVEL:
            for signer in self.signers[role]:
                self.root.add_key(signer.public_key, role)
        self.root.roles["root"].threshold = root_threshold
        self.targets.delegations = Delegations({}, {})
        assert self.targets.delegations.roles is not None
        for role, paths in ROLE_PATHS.items():
            self.targets.delegations.roles[role] = DelegatedRole(role, [], 1, True, list(paths))
            self.targets.add_key(self.signers[role][0].public_key, role)
        self.delegated = {role: Targets(version=1, expires=expires) for role in ROLE_PATHS}
        self.publish_root()
        self.publish(bump=())

    @property
    def pinned_root(self) -> bytes:
        """The first root."""
        return self.files["metadata/1.root.json"]

    def sign(self, signed: object, signers: Iterable[CryptoSigner]) -> bytes:
        """Metadata as bytes, signed by `signers`."""
        metadata = Metadata(copy.deepcopy(signed))  # type: ignore[type-var]
        for signer in signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes(_COMPACT)

    def publish_root(self, signers: Sequence[CryptoSigner] = ()) -> None:
        """Lay out the root at its version, signed by its own keys and `signers`."""
        unique = {signer.public_key.keyid: signer for signer in (*self.signers["root"], *signers)}
        self.files[f"metadata/{self.root.version}.root.json"] = self.sign(self.root, unique.values())

    def rotate(self, *roles: str) -> None:
        """New keys for top-level `roles`, and the root that says so."""
        before = list(self.signers["root"])
        for role in roles:
            for old in self.signers[role]:
                self.root.revoke_key(old.public_key.keyid, role)
            self.signers[role] = [CryptoSigner.generate_ed25519() for _ in self.signers[role]]
            for new in self.signers[role]:
                self.root.add_key(new.public_key, role)
        self.root.version += 1
        self.publish_root(before)

    def publish(self, bump: Sequence[str] = (DIRECTOR_ROLE,)) -> None:
        """Sign all but the root and lay it out; roles in `bump` get a new version, and so do snapshot and timestamp."""
        for role in bump:
            (self.targets if role == "targets" else self.delegated[role]).version += 1
        if bump:
            self.snapshot.version += 1
            self.timestamp.version += 1
        for role, signed in (("targets", self.targets), *self.delegated.items()):
            data = self.sign(signed, self.signers[role])
            self.files[f"metadata/{signed.version}.{role}.json"] = data
            self.snapshot.meta[f"{role}.json"] = MetaFile.from_data(signed.version, data, ["sha256"])
        self.publish_snapshot()

    def publish_snapshot(self) -> None:
        """Sign snapshot and timestamp as they are and lay them out."""
        data = self.sign(self.snapshot, self.signers["snapshot"])
        self.files[f"metadata/{self.snapshot.version}.snapshot.json"] = data
        self.timestamp.snapshot_meta = MetaFile.from_data(self.snapshot.version, data, ["sha256"])
        self.publish_timestamp()

    def publish_timestamp(self) -> None:
        """Sign the timestamp as it is and lay it out."""
        self.files["metadata/timestamp.json"] = self.sign(self.timestamp, self.signers["timestamp"])

    def list_target(self, role: str, path: str, data: bytes, custom: dict[str, object] | None = None) -> str:
        """Let `role` vouch for `data` under `path`, and lay it out; returns where it lies."""
        target = TargetFile.from_data(path, data, ["sha256"])
        if custom is not None:
            target.unrecognized_fields["custom"] = custom
        self.delegated[role].targets[path] = target
        lies_at = served_path(path, data)
        self.files[lies_at] = data
        return lies_at

    def release(self, number: int, manifest: Manifest | None = None, *, hardware: tuple[str, ...] = ()) -> Arm:
        """Release a manifest and its gate; returns the arm that names both."""
        manifest = manifest or tiny_manifest(number)
        data, facts = manifest_bytes(manifest), ReleaseFacts(number, hardware)
        self.list_target(RELEASES_ROLE, manifest_target(MODEL, manifest.version), data, facts.as_custom())
        digest = sha256(GATE_DOCUMENT)
        packed = zstandard.ZstdCompressor(level=19).compress(GATE_DOCUMENT)
        self.list_target(GATES_ROLE, gate_target(MODEL, digest), packed)
        return Arm(manifest.version, sha256(data), digest, number)

    def assign(self, arm: Arm, *, path: str = ring_target(RING, MODEL), floor: int = 0, **fields: object) -> Assignment:
        """Let the director assign an arm, to the ring unless `path` says otherwise."""
        assignment = replace(
            Assignment(MODEL, "rollout-1", self.delegated[DIRECTOR_ROLE].version, floor, (arm,)),
            **fields,  # type: ignore[arg-type]
        )
        self.list_target(DIRECTOR_ROLE, path, encode_assignment(assignment))
        return assignment

    def allow(self, version: str) -> None:
        """Sign an exception from the version floor."""
        self.list_target(EXCEPTIONS_ROLE, exception_target(MODEL, version), b"{}")


def served_path(path: str, data: bytes) -> str:
    """Where a target lies in a repository with consistent snapshots."""
    folder, _, name = path.rpartition("/")
    return f"targets/{folder}/{sha256(data)}.{name}"


def tiny_manifest(number: int) -> Manifest:
    """A manifest of small files that need not exist."""
    names = {"model.onnx": Role.GRAPH, "tokenizer.json": Role.TOKENIZER, "golden.json": Role.GOLDEN}
    files = []
    for name, role in names.items():
        digest = sha256(f"{name} {number}".encode())
        files.append(FileEntry(name, role, 10, digest, (Chunk(10, digest),)))
    logits = TensorSpec("logits", "tensor(float)", ("batch", 2))
    return Manifest(
        model=MODEL,
        version=f"1.{number}.0",
        tier=Tier.EDGE,
        labels=("card_arrival", "card_lost"),
        preprocessing=Preprocessing("tokenizer.json", 32),
        graph=GraphSpec("model.onnx", (TensorSpec("input_ids", "tensor(int64)", ("batch", "tokens")),), (logits,)),
        requires=Requirements("1.23.0", 21),
        files=tuple(files),
    )


@dataclass
class MemorySource:
    """Implements `RepositorySource` on a dictionary. `tampering` may answer in its stead; see `Tampering`."""

    files: dict[str, bytes]
    piece_bytes: int = 1000
    tampering: Tampering | None = None
    asked: list[str] = field(default_factory=list)
    bytes_received: int = 0

    async def read(self, path: str, *, most_bytes: int) -> AsyncIterator[bytes]:
        self.asked.append(path)
        await anyio.lowlevel.checkpoint()
        tampered = self.tampering(path) if self.tampering else None
        if tampered is not None:
            async for piece in tampered:
                self.bytes_received += len(piece)
                yield piece
            return
        if path not in self.files:
            raise FileNotThere(f"there is no {path}")
        data = self.files[path]
        if len(data) > most_bytes:
            raise FetchFailed(f"{path} has {len(data)} bytes, more than {most_bytes}")
        for start in range(0, len(data), self.piece_bytes):
            self.bytes_received += len(data[start : start + self.piece_bytes])
            yield data[start : start + self.piece_bytes]

    async def read_many(self, paths: Sequence[str], *, most_bytes: int) -> AsyncIterator[tuple[str, bytes]]:
        for path in paths:
            yield path, b"".join([piece async for piece in self.read(path, most_bytes=most_bytes)])


Tampering = Callable[[str], AsyncIterator[bytes] | None]
"""What is sent for a path in place of the file; None leaves it as it is."""
