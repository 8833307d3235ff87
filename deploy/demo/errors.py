"""What can go wrong with the demo itself."""

from __future__ import annotations

from shared.errors import TandemError


class DemoError(TandemError):
    """The demo cannot be set up, or cannot go on; the text says what to do."""
