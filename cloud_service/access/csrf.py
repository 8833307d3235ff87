"""Whether a POST comes from one of our own forms, shown to the very visitor who sends it. Pure.

Two checks beside SameSite=Strict cookies, after OWASP's Cross-Site Request Forgery Prevention Cheat Sheet: a token
derived from the cookie by HMAC, and what the browser says of the request's origin (Fetch Metadata; RFC 6454).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

_PURPOSE = b"tandem form token 1"


def form_token(cookie: str) -> str:
    """The token for forms shown to who has `cookie`: 64 hexadecimal digits; empty where there is no cookie."""
    return hmac.new(cookie.encode("utf-8", "replace"), _PURPOSE, "sha256").hexdigest() if cookie else ""


def is_own_token(cookie: str, token: str) -> bool:
    """Whether `token` was made for `cookie`; takes as long whatever they are."""
    expected = form_token(cookie).encode()
    return bool(cookie) and hmac.compare_digest(expected, token.encode("utf-8", "replace"))


def is_same_origin(headers: Mapping[str, str], *, is_tls: bool) -> bool:
    """Whether the browser says that the request comes from this very site. One that says nothing is not believed.

    `headers`: by lower-case name. Behind a proxy the scheme may differ, so that it counts only under TLS of our own.
    """
    fetched_from = headers.get("sec-fetch-site")
    origin = headers.get("origin")
    if fetched_from is not None and fetched_from != "same-origin":
        return False
    if origin is None:
        return fetched_from == "same-origin"
    parts = urlsplit(origin)
    schemes = ("https",) if is_tls else ("http", "https")
    return parts.scheme in schemes and parts.netloc.lower() == headers.get("host", "").lower()
