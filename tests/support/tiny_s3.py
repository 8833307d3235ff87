"""As much of S3 as reading takes: GET with a range, and HEAD, of the files in a folder."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from obstore.store import S3Store

BUCKET = "fleet"
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class TinyS3(ThreadingHTTPServer):
    """`asked`: each request, its method before the object's name. While it `is_away` it answers nothing of use."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Objects)
        self.folder = folder
        self.asked: list[str] = []
        self.is_away = False

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What leads a process to it, by `s3://fleet`."""
        return {
            "AWS_ENDPOINT": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_SKIP_SIGNATURE": "true",
            "AWS_REGION": "us-east-1",
        }


class _Objects(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        server = self.server
        assert isinstance(server, TinyS3)
        name = unquote(self.path.partition("?")[0]).removeprefix(f"/{BUCKET}/")
        server.asked.append(f"{self.command} {name}")
        if server.is_away:
            return self._send(403, b"<Error><Code>AccessDenied</Code></Error>", {}, with_body=with_body)
        file = server.folder / name
        if not file.is_file():
            return self._send(404, b"<Error><Code>NoSuchKey</Code></Error>", {}, with_body=with_body)
        data = file.read_bytes()
        headers = {"etag": f'"{len(data)}"', "last-modified": formatdate(file.stat().st_mtime, usegmt=True)}
        asked = _RANGE.fullmatch(self.headers.get("range", ""))
        if asked is None:
            return self._send(200, data, headers, with_body=with_body)
        begin, end = int(asked[1]), min(int(asked[2]) + 1, len(data))
        if begin >= len(data):
            return self._send(416, b"<Error><Code>InvalidRange</Code></Error>", {}, with_body=with_body)
        headers["content-range"] = f"bytes {begin}-{end - 1}/{len(data)}"
        return self._send(206, data[begin:end], headers, with_body=with_body)

    def _send(self, status: int, data: bytes, headers: dict[str, str], *, with_body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing is written."""


@contextmanager
def serving_s3(folder: Path) -> Iterator[TinyS3]:
    """The bucket `fleet` holds what lies in `folder`."""
    with TinyS3(folder) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def open_s3(server: TinyS3) -> S3Store:
    """obstore's client of it, which does not try again."""
    return s3_at(server.endpoint)


def s3_at(endpoint: str) -> S3Store:
    """The same, for an address where nobody may be."""
    from obstore.store import S3Store

    return S3Store(
        BUCKET,
        endpoint=endpoint,
        region="us-east-1",
        skip_signature=True,
        client_options={"allow_http": True, "timeout": timedelta(seconds=30)},
        retry_config={"max_retries": 0},
    )
