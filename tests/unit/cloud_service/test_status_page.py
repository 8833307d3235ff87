from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter

from cloud_service.status_page import StatusPage
from shared.errors import ConfigurationError


class Readiness:
    def __init__(self) -> None:
        self.ready = False


@pytest.fixture
def readiness() -> Readiness:
    return Readiness()


@pytest.fixture
def page(readiness: Readiness) -> Iterator[StatusPage]:
    registry = CollectorRegistry()
    Counter("tandem_tests", "Made up", registry=registry).inc(3)
    page = StatusPage("127.0.0.1", 0, registry, lambda: readiness.ready)
    page.start()
    yield page
    page.stop()


def get(page: StatusPage, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{page.port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_starting_process_lives_and_is_not_ready(page: StatusPage, readiness: Readiness) -> None:
    assert (get(page, "/livez")[0], get(page, "/readyz")[0]) == (200, 503)
    readiness.ready = True
    assert get(page, "/readyz")[0] == 200


def test_counters_are_shown_to_prometheus(page: StatusPage) -> None:
    code, text = get(page, "/metrics")
    assert code == 200
    assert "tandem_tests_total 3.0" in text


def test_another_path_says_what_there_is(page: StatusPage) -> None:
    code, text = get(page, "/")
    assert code == 404
    assert "/metrics" in text


def test_a_taken_port_is_a_clear_error(page: StatusPage) -> None:
    with pytest.raises(ConfigurationError, match=str(page.port)):
        StatusPage("127.0.0.1", page.port, CollectorRegistry(), lambda: True).start()
