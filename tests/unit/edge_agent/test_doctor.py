from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.doctor import Check, Status, examine, render
from shared.clock import SystemClock
from tests.support.fake_clock import FakeClock
from tests.support.tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.anyio


def configured(folder: Path, more: str = "") -> Path:
    write_tiny_bundle(folder / "tiny")
    file = folder / "agent.toml"
    file.write_text(f'device_id = "d1"\n[[models]]\nbundle = "tiny"\n{more}', encoding="utf-8")
    return file


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


async def test_a_sound_device_gets_ok_on_every_line(tmp_path: Path) -> None:
    checks = await examine(configured(tmp_path), SystemClock())
    assert {check.status for check in checks} == {Status.OK}
    assert set(by_name(checks)) == {"configuration", "model tiny", "broker", "cloud", "clock", "disk", "state"}
    assert "3 golden texts" in by_name(checks)["model tiny"].finding


async def test_a_wrong_configuration_is_the_only_finding(tmp_path: Path) -> None:
    checks = await examine(configured(tmp_path, "colour = 1\n"), SystemClock())
    assert [check.status for check in checks] == [Status.FAIL]
    assert "colour" in checks[0].finding and checks[0].advice


async def test_a_damaged_bundle_fails_with_advice(tmp_path: Path) -> None:
    config = configured(tmp_path)
    (tmp_path / "tiny" / "tokenizer.json").unlink()
    check = by_name(await examine(config, SystemClock()))["model tiny"]
    assert check.status is Status.FAIL and "tokenizer.json" in check.finding and "again" in check.advice


async def test_a_clock_that_says_1970_is_found_out(tmp_path: Path) -> None:
    check = by_name(await examine(configured(tmp_path), FakeClock(unix_s=0.0)))["clock"]
    assert check.status is Status.FAIL and "1970-01-01" in check.finding and "timedatectl" in check.advice


async def test_a_cloud_and_a_broker_that_are_away_fail_with_advice(tmp_path: Path) -> None:
    more = '[cloud]\naddress = "127.0.0.1:9"\n[broker]\nhost = "127.0.0.1"\nport = 9\n'
    checks = by_name(await examine(configured(tmp_path, more), SystemClock(), cloud_timeout_s=0.3))
    assert checks["cloud"].status is checks["broker"].status is Status.FAIL
    assert "gateway" in checks["cloud"].advice and "password_file" in checks["broker"].advice


def test_the_report_puts_advice_under_its_finding() -> None:
    report = render([Check("disk", Status.WARN, "little room", "free some"), Check("clock", Status.OK, "good")])
    assert report == "WARN  disk: little room\n      → free some\nOK    clock: good"
