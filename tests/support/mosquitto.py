"""A real mosquitto process on a free port, to start, kill and start again."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

EXECUTABLE = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
_START_TIMEOUT_S = 5.0


def free_port() -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Mosquitto:
    """`with Mosquitto(folder) as broker:`.

    `passwords` maps user names to passwords; each user may then reach its own device's topics alone.
    """

    def __init__(self, folder: Path, passwords: dict[str, str] | None = None) -> None:
        assert EXECUTABLE, "mosquitto is not installed; see tests/install_system_parts.sh"
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mosquitto.conf").write_text(self._configuration(passwords), encoding="utf-8")

    def _configuration(self, passwords: dict[str, str] | None) -> str:
        lines = [f"listener {self.port} 127.0.0.1", "persistence false"]
        if passwords is None:
            return "\n".join([*lines, "allow_anonymous true", ""])
        password_file = self._folder / "passwords"
        password_file.write_text("".join(f"{user}:{word}\n" for user, word in passwords.items()), encoding="utf-8")
        password_file.chmod(0o600)
        subprocess.run(["mosquitto_passwd", "-U", password_file], check=True)
        acl_file = self._folder / "acl"
        acl_file.write_text("pattern readwrite tandem/v1/devices/%u/#\n", encoding="utf-8")
        acl_file.chmod(0o600)
        user = ["user root"] if self._folder.owner() == "root" else []
        return "\n".join([*lines, *user, f"password_file {password_file}", f"acl_file {acl_file}", ""])

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start the process and wait until it listens."""
        command = [str(EXECUTABLE), "-c", str(self._folder / "mosquitto.conf")]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("mosquitto did not start")

    def kill(self) -> None:
        """As `kill -9`: nothing is said to anybody, and retained messages are lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
