"""Closed by default: who may listen where, and who may be talked to in clear."""

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


def require_tls(name: str, host: str, ca_key: str, *, tls: bool) -> None:
    """Refuse to send credentials over a network in clear.

    Raises:
        ConfigurationError: `host` is not this machine and there is no TLS.
    """
    if not tls and not is_loopback(host):
        raise ConfigurationError(f"{name} {host} is not on this machine: set {ca_key} for TLS")


def host_and_port(key: str, address: str) -> tuple[str, int]:
    """Take "host:port" apart; an IPv6 host stands in brackets.

    Raises:
        ConfigurationError: there is no port, or it is none.
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or not port.isdigit() or (":" in host and not bracketed):
        raise ConfigurationError(f"{key} {address!r} must be host:port, an IPv6 host in brackets")
    return (host[1:-1] if bracketed else host), int(port)
