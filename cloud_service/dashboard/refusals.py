"""What a visitor sees instead of the page that was asked for."""

from __future__ import annotations

import math

from jinja2 import Environment
from starlette.responses import HTMLResponse, Response

from cloud_service.dashboard.navigation import Frame


class Refused(Exception):
    """Ends a request with a short page of its own; `status` is HTTP's."""

    def __init__(self, status: int, title: str, text: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.text = text
        self.retry_after_s = retry_after_s


def retry_after(seconds: float) -> dict[str, str]:
    """The header `Retry-After`, in whole seconds (RFC 9110, section 10.2.3)."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def refusal(templates: Environment, frame: Frame, refused: Refused) -> Response:
    """The page that says so, in its frame."""
    headers = {"Cache-Control": "no-store"}
    if refused.retry_after_s is not None:
        headers |= retry_after(refused.retry_after_s)
    page = templates.get_template("refusal.html").render(refused=refused, frame=frame)
    return HTMLResponse(page, refused.status, headers)
