"""The browser in which pages are tested."""

from __future__ import annotations

import shutil

import pytest

CHROMIUM = shutil.which("chromium")
OPTIONS = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 60_000
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
