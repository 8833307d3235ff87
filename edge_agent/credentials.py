"""Reads credentials from files."""

from __future__ import annotations

from pathlib import Path

from shared.errors import ConfigurationError


def read_secret(key: str, file: Path) -> str:
    """The one line in `file`, which the configuration's `key` names.

    Raises:
        ConfigurationError: the file cannot be read, is empty or holds several lines.
    """
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{key}: {file} cannot be read: {error}") from error
    if not text or not text.isprintable():
        raise ConfigurationError(f"{key}: {file} must hold one line, the secret")
    return text
