"""The update client as the public TUF conformance suite runs it: a process, against a real HTTP server."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Metadata, Root, TargetFile, Targets

from shared.update.names import DIRECTOR_ROLE, RELEASES_ROLE, manifest_target, ring_target
from tests.support.hostile_repository import MODEL, RING, HostileRepository, served_path

TIMEOUT_S = 60
ARTIFACT = ring_target(RING, MODEL)


class ServedRepository:
    """Serves a repository's files and remembers what was asked for."""

    def __init__(self) -> None:
        self.repository = HostileRepository(time.time())
        self.asked: list[str] = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.removeprefix("/test-repo/")
                served.asked.append(path)
                data = served.repository.files.get(path)
                if data is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/test-repo"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(TIMEOUT_S)


class Client:
    """The command with its folders."""

    def __init__(self, folder: Path, served: ServedRepository) -> None:
        self.metadata = folder / "metadata"
        self.artifacts = folder / "artifacts"
        self.root = folder / "initial_root.json"
        self.root.write_bytes(served.repository.pinned_root)
        self.metadata.mkdir()
        self._url = served.url
        self.said = ""

    def init(self) -> int:
        return self.run("--metadata-dir", str(self.metadata), "init", str(self.root))

    def refresh(self) -> int:
        return self.run("--metadata-url", f"{self._url}/metadata/", "--metadata-dir", str(self.metadata), "refresh")

    def download(self, *names: str) -> int:
        where = ["--metadata-url", f"{self._url}/metadata", "--metadata-dir", str(self.metadata)]
        named = [word for name in names for word in ("--target-name", name)]
        to = ["--target-dir", str(self.artifacts), "--target-base-url", f"{self._url}/targets/"]
        return self.run(*where, *named, *to, "download")

    def run(self, *arguments: str) -> int:
        command = [sys.executable, "-m", "edge_agent.update.tuf_cli", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        self.said = ended.stderr
        assert "Traceback" not in ended.stderr, ended.stderr
        return ended.returncode

    def trusted(self) -> dict[str, int]:
        files = self.metadata.glob("*.json")
        return {unquote(file.stem): Metadata.from_file(str(file)).signed.version for file in files}

    def downloaded(self) -> list[bytes]:
        return [file.read_bytes() for file in sorted(self.artifacts.glob("**/*")) if file.is_file()]


@pytest.fixture
def served() -> Iterator[ServedRepository]:
    repository = ServedRepository()
    yield repository
    repository.close()


@pytest.fixture
def client(tmp_path: Path, served: ServedRepository) -> Client:
    made = Client(tmp_path, served)
    assert made.init() == 0, made.said
    return made


def test_a_refresh_asks_for_each_file_once_and_keeps_it_without_its_version(
    client: Client, served: ServedRepository
) -> None:
    assert served.asked == []
    assert client.refresh() == 0, client.said
    names = ["2.root", "timestamp", "1.snapshot", "1.targets"]
    assert served.asked == [f"metadata/{name}.json" for name in names]
    assert client.trusted() == {"root": 1, "timestamp": 1, "snapshot": 1, "targets": 1}


def test_targets_are_downloaded_once_and_again_only_when_they_change(client: Client, served: ServedRepository) -> None:
    repository = served.repository
    repository.list_target(DIRECTOR_ROLE, ARTIFACT, b"first")
    other = manifest_target(MODEL, "1.0.0")
    repository.list_target(RELEASES_ROLE, other, b"other")
    repository.publish((DIRECTOR_ROLE, RELEASES_ROLE))
    assert client.download(ARTIFACT, other) == 0, client.said
    assert sorted(client.downloaded()) == [b"first", b"other"]
    served.asked.clear()
    assert client.download(ARTIFACT, other) == 0, client.said
    assert served.asked == ["metadata/2.root.json", "metadata/timestamp.json"]
    repository.list_target(DIRECTOR_ROLE, ARTIFACT, b"second")
    repository.publish()
    assert client.download(ARTIFACT, other) == 0, client.said
    assert sorted(client.downloaded()) == [b"other", b"second"]


def test_what_was_not_signed_is_not_stored(client: Client, served: ServedRepository) -> None:
    lies_at = served.repository.list_target(DIRECTOR_ROLE, ARTIFACT, b"honest")
    served.repository.publish()
    served.repository.files[lies_at] = b"evil!!"
    assert client.download(ARTIFACT) == 1
    assert "not what was signed" in client.said
    assert client.downloaded() == []
    assert client.download("nothing/like/this") == 1
    assert "no target" in client.said


def test_a_root_that_is_none_asks_nothing_of_the_repository(client: Client, served: ServedRepository) -> None:
    root = json.loads(client.root.read_bytes())
    del root["signed"]["version"]
    client.root.write_text(json.dumps(root))
    client.init()
    assert client.refresh() == 1
    root["signed"]["version"] = 2
    client.root.write_text(json.dumps(root))
    client.init()
    assert client.refresh() == 1
    assert served.asked == []


def test_an_expired_root_is_kept_and_nothing_after_it(client: Client, served: ServedRepository) -> None:
    assert client.refresh() == 0
    served.repository.root.expires = served.repository.now - timedelta(days=1)
    served.repository.rotate("targets")
    served.repository.publish(("targets",))
    assert client.refresh() == 1
    assert "have expired" in client.said
    assert client.trusted() == {"root": 2, "timestamp": 1, "snapshot": 1, "targets": 1}


def test_an_older_timestamp_is_refused(client: Client, served: ServedRepository) -> None:
    old = served.repository.files["metadata/timestamp.json"]
    served.repository.publish()
    assert client.refresh() == 0
    served.repository.files["metadata/timestamp.json"] = old
    assert client.refresh() == 1
    assert client.trusted()["timestamp"] == 2


def test_new_keys_end_a_fast_forward(client: Client, served: ServedRepository) -> None:
    repository = served.repository
    repository.timestamp.version = 99_999
    repository.publish_timestamp()
    assert client.refresh() == 0
    repository.timestamp.version = 1
    repository.publish_timestamp()
    assert client.refresh() == 1
    repository.rotate("timestamp")
    repository.publish_timestamp()
    assert client.refresh() == 0, client.said
    assert client.trusted()["timestamp"] == 1


@pytest.mark.parametrize("role", ["?", "#", "/delegatedrole", "../delegatedrole"])
def test_a_roles_name_may_be_anything(client: Client, served: ServedRepository, role: str) -> None:
    repository, signer = served.repository, CryptoSigner.generate_ed25519()
    assert repository.targets.delegations is not None and repository.targets.delegations.roles is not None
    repository.targets.delegations.roles[role] = DelegatedRole(role, [], 1, False, ["*"])
    repository.targets.add_key(signer.public_key, role)
    evil = Targets(expires=repository.targets.expires)
    repository.delegated[role], repository.signers[role] = evil, [signer]
    repository.publish(("targets",))
    quoted = {"?": "%3F", "#": "%23"}.get(role, role.replace("/", "%2F"))
    repository.files[f"metadata/1.{quoted}.json"] = repository.files.pop(f"metadata/1.{role}.json")
    assert client.download("nonexistent") == 1
    assert f"metadata/1.{quoted}.json" in served.asked
    assert set(client.trusted()) == {"root", "timestamp", "snapshot", "targets", role}


def test_a_target_of_the_top_level_role_and_of_any_depth_is_found(client: Client, served: ServedRepository) -> None:
    path = "path/to/an/artifact.txt"
    served.repository.targets.targets[path] = TargetFile.from_data(path, b"deep", ["sha256"])
    served.repository.files[served_path(path, b"deep")] = b"deep"
    served.repository.publish(("targets",))
    assert client.download(path) == 0, client.said
    assert client.downloaded() == [b"deep"]


@pytest.mark.parametrize(
    "arguments", [(), ("refresh",), ("--metadata-dir", "x", "refresh"), ("--metadata-dir", "x", "init", "no-such-file")]
)
def test_a_command_that_lacks_something_ends_with_one(client: Client, arguments: tuple[str, ...]) -> None:
    assert client.run(*arguments) == 1
    assert client.said


def test_roots_follow_each_other_from_the_first(client: Client, served: ServedRepository) -> None:
    for _ in range(5):
        served.repository.rotate("root", "timestamp", "snapshot", "targets")
    served.repository.publish(("targets",))
    assert client.refresh() == 0, client.said
    kept = Metadata[Root].from_file(str(client.metadata / "root.json"))
    assert kept.signed.version == 6
