from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config import load_agent_settings
from edge_agent.doctor import Check, Status, examine, render
from edge_agent.update.disk import RealDisk
from edge_agent.update.machine import UpdateState
from edge_agent.update.slots import ModelSlots
from edge_agent.updating import updates_folder
from shared.clock import SystemClock
from shared.update.report import ErrorKind
from tests.support.fake_clock import FakeClock
from tests.support.hostile_repository import HostileRepository
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


def updating(root_file: str) -> str:
    return f'[update]\nroot_file = "{root_file}"\ntransport = "http"\nurl = "https://cloud"\nreserved_disk_bytes = 0\n'


async def test_a_device_that_takes_updates_is_told_whom_it_trusts_and_what_it_runs(tmp_path: Path) -> None:
    (tmp_path / "root.json").write_bytes(HostileRepository(0.0).pinned_root)
    check = by_name(await examine(configured(tmp_path, updating("root.json")), SystemClock()))["updates"]
    assert check.status is Status.OK
    assert "root version 1" in check.finding and "tiny has 1.0.0 in slot factory, idle" in check.finding
    assert not (tmp_path / "tandem-agent" / "updates").exists()


@pytest.mark.parametrize("content", [None, b"", b"{}"])
async def test_a_root_that_is_not_there_or_is_none_is_found_out(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "root.json").write_bytes(content)
    check = by_name(await examine(configured(tmp_path, updating("root.json")), SystemClock()))["updates"]
    assert check.status is Status.FAIL and "root_file" in check.finding and check.advice


async def test_an_update_that_failed_and_a_disk_without_room_are_told(tmp_path: Path) -> None:
    (tmp_path / "root.json").write_bytes(HostileRepository(0.0).pinned_root)
    more = updating("root.json").replace("= 0", f"= {1 << 60}")
    config = configured(tmp_path, more)
    settings = load_agent_settings(config)
    slots = ModelSlots(updates_folder(settings), tmp_path / "tiny", RealDisk())
    slots.save(UpdateState("tiny", error="the trial failed", error_kind=ErrorKind.TRIAL))
    check = by_name(await examine(config, SystemClock()))["updates"]
    assert check.status is Status.WARN
    assert "tiny: the trial failed" in check.finding and "kept for others" in check.finding
