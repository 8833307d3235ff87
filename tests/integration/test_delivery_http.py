"""The repository over HTTP: the real server process, the real source, and a server that breaks off."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import pytest

from cloud_service.gateway.credentials import add_device
from edge_agent.update.http_source import HttpSource
from edge_agent.update.windows import TransferLimits
from shared.clock import SystemClock
from shared.errors import ConfigurationError, FetchFailed, FileNotThere
from tests.support.bucket import needs_obstore
from tests.support.mosquitto import EXECUTABLE, Mosquitto
from tests.support.repository_files import BIG, EMPTY, LinkedSource, chunk_names, read_all, write_repository
from tests.support.tiny_s3 import serving_s3

pytestmark = pytest.mark.anyio
_ROOT = Path(__file__).resolve().parents[2]
_QUICK = TransferLimits(stalled_after_s=3.0, grace_s=30.0)
_BUCKET = '[registry]\nurl = "s3://fleet"\n[delivery]\nport = 0\nmetrics_port = 0\n'


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def delivering(folder: Path, more: str = "", environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """`cloud-service serve delivery` on a port of the system's choice; gives its address."""
    config = folder / "cloud.toml"
    config.write_text(f'data_dir = "data"\n{more}\n', encoding="utf-8")
    command = [sys.executable, "-m", "cloud_service", "serve", "delivery", "--config", str(config)]
    env = {**os.environ, **(environment or {})}
    process = subprocess.Popen(command, cwd=_ROOT, stderr=subprocess.PIPE, text=True, env=env)
    assert process.stderr is not None
    reader: threading.Thread | None = None
    try:
        log: list[str] = []
        for line in process.stderr:
            log.append(line)
            if found := re.search(r"delivery ready on (\S+)", line):
                reader = threading.Thread(target=process.stderr.read)
                reader.start()
                yield f"http://{found[1]}"
                break
        else:
            raise AssertionError("".join(log))
    finally:
        process.terminate()
        assert process.wait(30) == 0
        if reader:
            reader.join()


def headers_of(address: str, **more: str) -> dict[str, str]:
    with urllib.request.urlopen(urllib.request.Request(address, headers=more), timeout=10.0) as answer:
        return {name.lower(): value for name, value in answer.headers.items()}


def status_of(address: str, **more: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=more), timeout=10.0) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


async def test_the_delivery_process_serves_files_and_says_what_may_be_kept(tmp_path: Path) -> None:
    files = write_repository(tmp_path / "repository")
    (tmp_path / "secret.json").write_text("s")
    (tmp_path / "repository" / "metadata" / "link.json").symlink_to(tmp_path / "secret.json")
    with delivering(tmp_path, '[delivery]\nrepository = "repository"\nport = 0\nmetrics_port = 0') as address:
        source = HttpSource(address, SystemClock(), _QUICK)
        assert await _read(source, BIG) == files[BIG]
        assert await _read(source, EMPTY) == b""
        names = chunk_names(files)
        got = {path: data async for path, data in source.read_many(names, most_bytes=20_000)}
        assert got == {name: files[name] for name in names}
        assert source.bytes_received == sum(len(data) for path, data in files.items() if "metadata" not in path)
        for path in ("metadata/9.root.json", "metadata/link.json", "metadata/../cloud.toml"):
            with pytest.raises(FileNotThere):
                await _read(source, path)
        with pytest.raises(FetchFailed, match="more than 1000"):
            await _read(source, BIG, most_bytes=1000)
        source.close()
        assert "immutable" in headers_of(f"{address}/{names[0]}")["cache-control"]
        assert headers_of(f"{address}/metadata/timestamp.json")["cache-control"] == "no-cache"
        assert headers_of(f"{address}/{BIG}", range="bytes=5-14")["content-range"] == "bytes 5-14/300000"
        for path in ("", "metadata", "metadata/", "chunks/", "..%2fcloud.toml", "metadata/..%2f..%2fcloud.toml"):
            assert status_of(f"{address}/{path}") == 404


@pytest.mark.skipif(EXECUTABLE is None, reason="mosquitto is not installed")
async def test_the_delivery_process_serves_blocks_over_mqtt_too(tmp_path: Path) -> None:
    files = write_repository(tmp_path / "repository")
    with Mosquitto(tmp_path / "broker", {"d1": "one", "tandem-publisher": "three"}) as broker:
        (tmp_path / "password").write_text("three")
        (tmp_path / "password").chmod(0o600)
        more = f"[broker]\nport = {broker.port}\n[delivery]\nrepository = 'repository'\nport = 0\nmetrics_port = 0\n"
        with delivering(tmp_path, more + "password_file = 'password'"):
            device = LinkedSource(broker.port, "d1", password="one")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(device.link.run)
                assert await read_all(device.source, BIG) == files[BIG]
                tasks.cancel_scope.cancel()


@needs_obstore
async def test_the_delivery_process_serves_a_bucket_over_http(tmp_path: Path) -> None:
    files = write_repository(tmp_path / "repository", big_bytes=6_000_000)
    with serving_s3(tmp_path / "repository") as s3, delivering(tmp_path, _BUCKET, s3.environment) as address:
        source = HttpSource(address, SystemClock(), _QUICK)
        got = {path: await _read(source, path) for path in files}
        assert got == files
        with pytest.raises(FileNotThere):
            await _read(source, "metadata/9.root.json")
        source.close()
        (tmp_path / "repository" / "metadata" / "timestamp.json").write_bytes(b"signed anew")
        again = HttpSource(address, SystemClock(), _QUICK)
        assert await _read(again, "metadata/timestamp.json") == b"signed anew"
        again.close()
        assert headers_of(f"{address}/{BIG}", range="bytes=5-14")["content-range"] == "bytes 5-14/6000000"
        assert status_of(f"{address}/{BIG}", range="bytes=6000000-") == 416
        assert status_of(f"{address}/locks/signing") == 404


@needs_obstore
@pytest.mark.skipif(EXECUTABLE is None, reason="mosquitto is not installed")
async def test_the_delivery_process_serves_a_bucket_over_mqtt(tmp_path: Path) -> None:
    files = write_repository(tmp_path / "repository", big_bytes=6_000_000)
    with Mosquitto(tmp_path / "broker") as broker, serving_s3(tmp_path / "repository") as s3:
        more = f"[broker]\nport = {broker.port}\n{_BUCKET}"
        with delivering(tmp_path, more, s3.environment):
            device = LinkedSource(broker.port, "d1")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(device.link.run)
                got = {path: await read_all(device.source, path) for path in files}
                with pytest.raises(FileNotThere):
                    await read_all(device.source, "metadata/9.root.json")
                tasks.cancel_scope.cancel()
    assert got == files


@needs_obstore
async def test_a_bucket_that_is_away_is_asked_for_again(tmp_path: Path) -> None:
    files = write_repository(tmp_path / "repository")
    with serving_s3(tmp_path / "elsewhere") as s3:
        s3.is_away = True
        with delivering(tmp_path, _BUCKET, s3.environment) as address:
            assert status_of(f"{address}/{BIG}") == 503
            s3.folder, s3.is_away = tmp_path / "repository", False
            source = HttpSource(address, SystemClock(), _QUICK)
            assert await _read(source, BIG) == files[BIG]
            source.close()


def test_a_bucket_of_which_nobody_knows_the_kind_is_refused_in_plain_words(tmp_path: Path) -> None:
    config = tmp_path / "cloud.toml"
    config.write_text('[registry]\nurl = "gopher://fleet"\n[delivery]\nport = 0\nmetrics_port = 0\n')
    command = [sys.executable, "-m", "cloud_service", "serve", "delivery", "--config", str(config)]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "gopher://fleet" in done.stderr and "Traceback" not in done.stderr


async def test_a_file_goes_on_at_another_server_of_the_same_repository(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_repository(tmp_path / name / "repository")
    settings = '[delivery]\nrepository = "repository"\nport = 0\nmetrics_port = 0'
    with delivering(tmp_path / "one", settings) as one, delivering(tmp_path / "two", settings) as two:
        mark = headers_of(f"{one}/{BIG}")["etag"]
        ranged = {"range": "bytes=1000-", "if-range": mark}
        assert status_of(f"{two}/{BIG}", **ranged) == 206
        assert status_of(f"{two}/{BIG}", **{**ranged, "if-range": '"another"'}) == 200


async def test_with_credentials_only_known_devices_are_served(tmp_path: Path) -> None:
    files = write_repository(tmp_path / "repository")
    token = add_device(tmp_path / "credentials", "d1")
    more = '[delivery]\nrepository = "repository"\nport = 0\nmetrics_port = 0\ncredentials = "credentials"'
    with delivering(tmp_path, more) as address:
        assert status_of(f"{address}/{BIG}") == 401
        assert status_of(f"{address}/{BIG}", authorization="Bearer wrong") == 401
        known, stranger = (HttpSource(address, SystemClock(), _QUICK, token=word) for word in (token, None))
        assert await _read(known, BIG) == files[BIG]
        with pytest.raises(FetchFailed, match="HTTP 401"):
            await _read(stranger, BIG)
        for source in (known, stranger):
            source.close()


class _Moody(BaseHTTPRequestHandler):
    """Answers as the test's script says, and keeps what it was asked."""

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, _MoodyServer)
        server.asked.append(self.headers.get("range", ""))
        mood = server.moods.pop(0) if server.moods else "whole"
        data = server.data
        begin = int(self.headers["range"][6:-1]) if "range" in self.headers and mood != "no ranges" else 0
        if mood.isdigit():
            self.send_response(int(mood))
            self.send_header("retry-after", "1")
            self.send_header("content-length", "0")
            self.end_headers()
            return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("content-range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("etag", '"other"' if mood == "changed" else '"one"')
        self.send_header("content-length", str(len(data) - begin))
        self.end_headers()
        part = data[begin:]
        self.wfile.write(part[: len(part) // 2] if mood == "half" else part)
        self.close_connection = mood == "half"

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing is written."""


class _MoodyServer(ThreadingHTTPServer):
    daemon_threads = True
    data = bytes(range(256)) * 2000

    def __init__(self, *moods: str) -> None:
        super().__init__(("127.0.0.1", 0), _Moody)
        self.moods = list(moods)
        self.asked: list[str] = []


@contextmanager
def moody(*moods: str) -> Iterator[tuple[_MoodyServer, HttpSource]]:
    with _MoodyServer(*moods) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = HttpSource(f"http://127.0.0.1:{server.server_port}", SystemClock(), _QUICK)
        yield server, source
        source.close()
        server.shutdown()


async def test_a_file_goes_on_where_it_broke_off() -> None:
    with moody("half", "half") as (server, source):
        assert await _read(source, BIG) == server.data
    length = len(server.data)
    assert server.asked == ["", f"bytes={length // 2}-", f"bytes={length // 2 + length // 4}-"]


async def test_where_there_are_no_ranges_what_came_before_is_left_out() -> None:
    with moody("half", "no ranges") as (server, source):
        assert await _read(source, BIG) == server.data


async def test_a_file_that_changes_between_is_not_pieced_together() -> None:
    with moody("half", "changed") as (_, source), pytest.raises(FetchFailed, match="changed"):
        await _read(source, BIG)


async def test_a_busy_server_is_asked_again_and_a_missing_file_is_not() -> None:
    with moody("503", "429", "whole", "404", "302") as (server, source):
        assert await _read(source, BIG) == server.data
        with pytest.raises(FileNotThere):
            await _read(source, BIG)
        with pytest.raises(FetchFailed, match="302"):
            await _read(source, BIG)
        assert len(server.asked) == 5


async def test_a_server_that_is_not_there_ends_with_a_reason() -> None:
    source = HttpSource("http://127.0.0.1:1", SystemClock(), TransferLimits(stalled_after_s=0.5))
    with pytest.raises(FetchFailed, match="nothing came"):
        await _read(source, BIG)
    source.close()


@pytest.mark.parametrize("address", ["http://example.org/repository", "ftp://127.0.0.1", "metadata", ""])
async def test_an_address_in_clear_or_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError):
        HttpSource(address, SystemClock())


async def _read(source: HttpSource, path: str, most_bytes: int = 1 << 30) -> bytes:
    return b"".join([data async for data in source.read(path, most_bytes=most_bytes)])
