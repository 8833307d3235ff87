"""A server that accepts, sends what it is told to, and then says nothing for as long as it lives."""

from __future__ import annotations

import socket
import threading
from types import TracebackType

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n"
BEFORE_THE_HEAD, WITHIN_THE_BODY = b"", _HEAD + bytes(1000)


class StalledServer:
    """`with StalledServer(BEFORE_THE_HEAD) as server:` answers each request with these bytes and no more."""

    def __init__(self, sent: bytes) -> None:
        self.asked = threading.Event()
        self._sent = sent
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> StalledServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for one in (self._listener, *self._held):
            one.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._held.append(connection)
            if connection.recv(65_536):
                connection.sendall(self._sent)
                self.asked.set()
