from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from cloud_service.dashboard.app import make_app
from cloud_service.dashboard.feed import Feed
from cloud_service.dashboard.pages import Pages
from tests.support.fake_clock import FakeClock
from tests.support.fleet_readings import NOW_S, FixedReader, counted, device_reading, fleet_reading
from tests.support.site import site_over, sqlite_url


@pytest.fixture
def reader() -> FixedReader:
    return FixedReader(fleet_reading(device_reading(counted())))


@pytest.fixture
def feed(reader: FixedReader) -> Feed:
    return Feed(reader, Pages(), FakeClock(unix_s=NOW_S), refresh_s=1.0, offline_after_s=30, commit_s=1.0)


@pytest.fixture
def client(feed: Feed, tmp_path: Path) -> Iterator[TestClient]:
    site = site_over(sqlite_url(tmp_path))
    with TestClient(make_app(site, feed, ["127.0.0.1"]), base_url="http://127.0.0.1") as client:
        yield client
    site.close()


def test_the_page_shows_the_figures_without_any_script(client: TestClient) -> None:
    page = client.get("/").text
    assert "<title>Fleet · Tandem</title>" in page
    assert "wanted 16 of 98 accepted" in page and "16.3%" in page
    assert 'data-device="d1"' in page


def test_a_page_without_devices_says_how_to_start_one(client: TestClient, reader: FixedReader) -> None:
    reader.reading = fleet_reading()
    page = client.get("/").text
    assert "No device has reported yet" in page and "edge-agent run --config agent.toml" in page


def test_a_page_without_a_store_says_what_to_start(client: TestClient, reader: FixedReader) -> None:
    reader.reading = None
    assert 'data-notice="not_ready"' in client.get("/").text


def test_an_unknown_stretch_of_time_is_refused_with_the_known_ones(client: TestClient) -> None:
    for path in ("/?range=2y", "/events?range=2y"):
        answer = client.get(path)
        assert answer.status_code == 400 and "15m, 1h, 24h" in answer.text


def test_the_process_says_that_it_lives(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}


def test_another_sites_name_bound_to_this_address_gets_nothing(client: TestClient) -> None:
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400


def test_nothing_on_the_page_comes_from_elsewhere_or_runs_inline(client: TestClient) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert not re.search(r'(?:src|href)="(?:https?:)?//', answer.text)
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", answer.text)


def test_everything_that_the_page_names_is_served(client: TestClient) -> None:
    page = client.get("/").text
    named = re.findall(r'(?:src|href)="(/[^"]*)"', page)
    assert len(named) >= 3
    assert {client.get(path).status_code for path in named if not path.startswith("/devices/")} == {200}


def test_what_a_device_says_of_itself_is_text_on_the_page(client: TestClient, reader: FixedReader) -> None:
    reader.reading = fleet_reading(device_reading(counted(), agent_version="<img src=x onerror=alert(1)>"))
    page = client.get("/").text
    assert "<img" not in page and "&lt;img" in page
