"""A PostgreSQL server of our own on a free loopback port, where its programs are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.mosquitto import free_port

_DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
_SEARCHED = os.pathsep.join([os.environ.get("PATH", ""), *(str(folder) for folder in reversed(_DEBIAN))])
INITDB = shutil.which("initdb", path=_SEARCHED)
PG_CTL = shutil.which("pg_ctl", path=_SEARCHED)
WHY_NOT = "" if INITDB and PG_CTL else "PostgreSQL is not installed"


@contextmanager
def running_postgres() -> Iterator[str]:
    """Yields the URL of an empty database. The server refuses to run as root, so it runs as `postgres` then.

    Its folder is a temporary one that this user can reach: pytest's own is closed to others.
    """
    with tempfile.TemporaryDirectory(prefix="tandem-postgres-") as folder:
        user = "postgres" if os.geteuid() == 0 else None
        if user:
            shutil.chown(folder, user)
        with _started(Path(folder), user) as url:
            yield url


@contextmanager
def _started(folder: Path, user: str | None) -> Iterator[str]:
    port = free_port()
    data = folder / "data"
    _run([INITDB, "-D", data, "-U", "tandem", "-A", "trust", "--no-sync", "-E", "UTF8"], user)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k ''"
    _run([PG_CTL, "-D", data, "-o", options, "-l", folder / "log", "-w", "start"], user)
    try:
        yield f"postgresql+psycopg://tandem@127.0.0.1:{port}/postgres"
    finally:
        _run([PG_CTL, "-D", data, "-m", "immediate", "-w", "stop"], user)


def _run(command: list[str | Path | None], user: str | None) -> None:
    parts = [str(part) for part in command if part]
    subprocess.run(parts, user=user, cwd="/", check=True, stdout=subprocess.DEVNULL, timeout=60)
