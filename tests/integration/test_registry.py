"""`cloud-service keys|publish|registry` as an operator types them, and what a change of the gate costs a device."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from tuf.ngclient import Updater

from cloud_service.cli import main
from cloud_service.registry.cleaning import collect
from cloud_service.registry.publishing import publish_gate
from cloud_service.registry.repository import Repository
from cloud_service.registry.store import ArtifactStore, FolderStore
from cloud_service.registry.verification import StoreFetcher, verify
from shared.bundle import read_bundle, replace_gate
from shared.update.gate_packing import DICTIONARY, packed_gate
from shared.update.names import gate_target, ring_target
from tests.support.bucket import needs_obstore
from tests.support.repository_folder import RepositoryFolder, make_repository
from tests.support.tiny_bundle import write_tiny_bundle

RING = ring_target("default", "tiny")
DEMO_GATE = Path(__file__).parents[2] / "deploy" / "demo" / "bundles" / "banking77-edge" / "gate.json"


class Operator:
    """Types commands in a folder that holds `cloud.toml`."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capsys = capsys
        (folder / "cloud.toml").write_text('data_dir = "data"\n[registry]\nkept_hours = 0\n')

    def types(self, *words: str, fails_with: int = 0) -> str:
        status = main([*words, "--config", str(self._folder / "cloud.toml")])
        printed = "".join(self._capsys.readouterr())
        assert status == fails_with, printed
        return printed


def test_an_operator_makes_keys_publishes_looks_cleans_and_is_told_of_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = Operator(tmp_path, capsys)
    for version, labels in (("1.0.0", ("card", "cash", "loan")), ("2.0.0", ("card", "cash", "fees"))):
        write_tiny_bundle(tmp_path / version, version=version, labels=labels)

    assert "keys init" in operator.types("registry", "list", fails_with=2)
    assert "root.json" in operator.types("keys", "init", "--threshold", "2", "--keys", "3")
    assert operator.types("keys", "show").count("offline/root-") == 3
    assert "4 new chunks" in operator.types("publish", str(tmp_path / "1.0.0"))
    assert "2 new chunks" in operator.types("publish", str(tmp_path / "2.0.0"), "--hardware", "rpi5")
    assert "tiny 2.0.0 release 2" in operator.types("registry", "list")
    assert '"release": 2' in operator.types("registry", "show", "tiny@2.0.0")
    assert "2 releases and 2 gates are whole" in operator.types("registry", "verify")
    assert "below the floor" in operator.types("registry", "allow", "tiny@1.0.0", "--reason", "it was right")
    assert "signs it no more" in operator.types("keys", "rotate", "releases")
    operator.types("registry", "retire", "tiny@2.0.0")
    assert "took away" in operator.types("registry", "gc")
    operator.types("registry", "sign")
    assert "1 releases and 1 gates are whole" in operator.types("registry", "verify")

    chunk = next((tmp_path / "data" / "repository" / "chunks").rglob("*.zst"))
    chunk.write_bytes(chunk.read_bytes()[:-2])
    assert chunk.stem in operator.types("registry", "verify", fails_with=1)


def test_a_passphrase_protects_the_offline_keys_and_is_asked_for_in_plain_words(tmp_path: Path) -> None:
    (tmp_path / "cloud.toml").write_text('data_dir = "data"\n')

    def types(*words: str, passphrase: str = "") -> subprocess.CompletedProcess[str]:
        said = {"TANDEM_KEYS_PASSPHRASE": passphrase} if passphrase else {}
        command = [sys.executable, "-m", "cloud_service", *words, "--config", str(tmp_path / "cloud.toml")]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, env={**os.environ, **said}
        )

    assert types("keys", "init", "--passphrase", passphrase="open sesame").returncode == 0
    assert types("registry", "sign").returncode == 0
    refused = types("keys", "rotate", "gates")
    assert refused.returncode == 2 and "set TANDEM_KEYS_PASSPHRASE" in refused.stderr
    assert types("keys", "rotate", "gates", passphrase="open sesame").returncode == 0


class CountingFetcher(StoreFetcher):
    """Counts the bytes of what a device fetches, by the kind of file."""

    def __init__(self, store: ArtifactStore) -> None:
        super().__init__(store)
        self.fetched: dict[str, int] = {"metadata": 0, "targets": 0}

    def _fetch(self, url: str) -> Iterator[bytes]:
        for piece in super()._fetch(url):
            self.fetched[url.split("/")[3]] += len(piece)
            yield piece


def device(made: RepositoryFolder, folder: Path) -> tuple[Updater, CountingFetcher]:
    (folder / "targets").mkdir(parents=True, exist_ok=True)
    fetcher = CountingFetcher(made.repository.store)
    updater = Updater(
        metadata_dir=str(folder / "metadata"),
        metadata_base_url="store://repository/metadata/",
        target_dir=str(folder / "targets"),
        target_base_url="store://repository/targets/",
        fetcher=fetcher,
        bootstrap=made.root,
    )
    updater.refresh()
    return updater, fetcher


def take(updater: Updater, *names: str) -> None:
    for name in names:
        info = updater.get_targetinfo(name)
        assert info is not None
        updater.download_target(info)


def cost_of_a_new_gate(made: RepositoryFolder, version: str, folder: Path) -> tuple[int, int]:
    """Bytes of metadata and of targets that a device fetches when only the gate of its release changes."""
    made.assign(version, sequence=1)
    before = read_bundle(made.bundles[version]).gate
    assert before is not None
    updater, _ = device(made, folder)
    take(updater, RING, gate_target("tiny", before.digest))

    replace_gate(read_bundle(made.bundles[version]), dataclasses.replace(before, temperature=1.07))
    digest = publish_gate(made.repository, made.bundles[version]).gate_digest
    made.assign(version, sequence=2)
    updater, fetcher = device(made, folder)
    take(updater, RING, gate_target("tiny", digest))
    return fetcher.fetched["metadata"], fetcher.fetched["targets"]


def test_a_gate_costs_a_device_the_same_few_bytes_whether_3_or_100_versions_were_published(tmp_path: Path) -> None:
    few = make_repository(tmp_path / "few", versions=[f"1.{minor}.0" for minor in range(3)])
    many = make_repository(tmp_path / "many", versions=[f"1.{minor}.0" for minor in range(100)])
    few_metadata, few_payload = cost_of_a_new_gate(few, "1.2.0", tmp_path / "device-few")
    many_metadata, many_payload = cost_of_a_new_gate(many, "1.99.0", tmp_path / "device-many")

    assert few_metadata < 6 * 1024 and many_metadata < 6 * 1024
    assert abs(many_payload - few_payload) < 16 and many_payload < 2 * 1024
    assert verify(many.repository) == []


def test_the_lists_do_not_grow_once_they_are_full(tmp_path: Path) -> None:
    made = make_repository(tmp_path / "repository", versions=[f"1.{minor}.0" for minor in range(6)])
    state = made.repository.state()
    lengths = {role: len(state.targets[role].data) for role in ("releases", "gates", "director", "targets")}
    for minor in range(6, 12):
        made.publish_tiny(f"1.{minor}.0")

    state = made.repository.state()
    for role, length in lengths.items():
        assert len(state.targets[role].data) < length + 64


def test_the_demos_gate_travels_in_less_than_2_kb_and_comes_out_as_it_went_in() -> None:
    document = DEMO_GATE.read_bytes()
    packed = packed_gate(document)

    assert len(packed) < 2000
    assert zstandard.ZstdDecompressor(dict_data=DICTIONARY).stream_reader(packed).read() == document


@needs_obstore
def test_a_repository_in_a_bucket_is_the_same(tmp_path: Path) -> None:
    from obstore.store import LocalStore

    from cloud_service.registry.object_store import BucketStore

    in_folder = make_repository(tmp_path / "repository", versions=("1.0.0", "2.0.0"))
    bucket = BucketStore(LocalStore(in_folder.folder), tmp_path / "locks")
    whole = in_folder.repository
    made = RepositoryFolder(in_folder.folder, Repository(bucket, whole.keys, whole.settings))
    made.assign("1.0.0")
    made.publish_tiny("3.0.0", labels=("card", "cash", "fees"))
    collect(made.repository)

    assert verify(made.repository) == []
    assert verify(Repository(FolderStore(in_folder.folder), whole.keys, whole.settings)) == []
