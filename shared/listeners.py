"""Closed by default: who may listen where."""

from __future__ import annotations

import ipaddress

from shared.errors import ConfigurationError


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_protected(name: str, host: str, *, tls: bool, credentials: bool) -> None:
    """Refuse a listener that others could reach without TLS and credentials.

    Raises:
        ConfigurationError: `host` is not a loopback address and one of them is missing.
    """
    if is_loopback(host) or (tls and credentials):
        return
    missing = " and ".join(word for word, there in (("TLS", tls), ("credentials", credentials)) if not there)
    raise ConfigurationError(f"{name} would listen on {host} without {missing}: set them, or listen on 127.0.0.1")
