"""A real mosquitto on a free port, to start, kill and start again.

In a container where docker runs and the image can be had, else the mosquitto of this machine as a process.
"""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Protocol, cast

from deploy.demo.access import password_line

EXECUTABLE = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
IMAGE = "eclipse-mosquitto:2"
_START_TIMEOUT_S = 10.0
_DEPLOYED = Path(__file__).parents[2] / "deploy" / "mosquitto"
_ACL = _DEPLOYED / "acl"


def free_port() -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Mosquitto:
    """`with Mosquitto(folder) as broker:`.

    `passwords` maps user names to passwords; each device may then reach its own topics alone, and
    `tandem-fleet` read all of them.
    """

    def __init__(self, folder: Path, passwords: dict[str, str] | None = None) -> None:
        self.port = free_port()
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._runner: _Runner = _Container(folder, self.port) if docker_serves() else _Process(folder, self.port)
        (folder / "mosquitto.conf").write_text(self._configuration(passwords), encoding="utf-8")

    def _configuration(self, passwords: dict[str, str] | None) -> str:
        deployed = (_DEPLOYED / "mosquitto.conf").read_text(encoding="utf-8").splitlines()
        limits = [line for line in deployed if line.startswith("max_")]
        lines = [f"listener {self._runner.listener}", "persistence false", *limits]
        if self._folder.owner() == "root":
            lines.append("user root")
        if passwords is None:
            return "\n".join([*lines, "allow_anonymous true", ""])
        hashed = "".join(password_line(user, word, os.urandom(12)) + "\n" for user, word in passwords.items())
        for name, text in (("passwords", hashed), ("acl", _ACL.read_text(encoding="utf-8"))):
            (self._folder / name).write_text(text, encoding="utf-8")
            (self._folder / name).chmod(0o600)
        place = self._runner.folder
        return "\n".join([*lines, f"password_file {place}/passwords", f"acl_file {place}/acl", ""])

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._runner.start()
        until = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < until:
            if _speaks_mqtt(self.port):
                return
            time.sleep(0.02)
        raise AssertionError("mosquitto did not start")

    @property
    def pid(self) -> int:
        """The process to measure."""
        return self._runner.pid

    def kill(self) -> None:
        """As `kill -9`: nothing is said to anybody, and retained messages are lost."""
        self._runner.kill()


class _Runner(Protocol):
    """What runs mosquitto. `listener` and `folder` are the address and the files as mosquitto sees them."""

    listener: str
    folder: str

    @property
    def pid(self) -> int: ...

    def start(self) -> None: ...

    def kill(self) -> None: ...


class _Process:
    def __init__(self, folder: Path, port: int) -> None:
        assert EXECUTABLE, "mosquitto is not installed; see tests/install_system_parts.sh"
        self.listener = f"{port} 127.0.0.1"
        self.folder = str(folder)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "mosquitto does not run"
        return self._process.pid

    def start(self) -> None:
        command = [str(EXECUTABLE), "-c", f"{self.folder}/mosquitto.conf"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class _Container:
    def __init__(self, folder: Path, port: int) -> None:
        from testcontainers.core.container import DockerContainer

        self.listener = "1883 0.0.0.0"
        self.folder = "/mosquitto/config"
        self._container = DockerContainer(IMAGE).with_volume_mapping(str(folder), self.folder, "rw")
        ports = cast("dict[str, object]", self._container.ports)
        ports["1883/tcp"] = ("127.0.0.1", port)

    @property
    def pid(self) -> int:
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        return int(wrapped.attrs["State"]["Pid"])

    def start(self) -> None:
        self._container.start()

    def kill(self) -> None:
        wrapped = self._container.get_wrapped_container()
        if wrapped is not None:
            wrapped.remove(force=True)


@functools.cache
def docker_serves() -> bool:
    """Whether a docker daemon answers and has the image, or can fetch it."""
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    client = shutil.which("docker")
    if client is None or subprocess.run([client, "info"], capture_output=True, check=False).returncode:
        return False
    has_image = subprocess.run([client, "image", "inspect", IMAGE], capture_output=True, check=False)
    if has_image.returncode == 0:
        return True
    pulled = subprocess.run([client, "pull", "--quiet", IMAGE], capture_output=True, check=False, timeout=120)
    return pulled.returncode == 0


def _speaks_mqtt(port: int) -> bool:
    """Whether a broker answers an MQTT 3.1.1 CONNECT with a CONNACK; a published port alone proves nothing."""
    connect = bytes.fromhex("100c00044d5154540402003c0000")
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as link:
            link.sendall(connect)
            return link.recv(1) == b"\x20"
    except OSError:
        return False
