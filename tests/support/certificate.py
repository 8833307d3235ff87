"""A certificate of our own for 127.0.0.1, where openssl is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

WHY_NOT = "" if shutil.which("openssl") else "openssl is not installed"


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Certificate and key, PEM, good for a day."""
    certificate, key = folder / "page.pem", folder / "page.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    return certificate, key
