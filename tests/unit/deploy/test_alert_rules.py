"""The alert rules, by Prometheus' own tool."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "deploy" / "prometheus"
PROMTOOL = shutil.which("promtool")

pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian's package prometheus)")


def promtool(*arguments: str) -> str:
    ended = subprocess.run([str(PROMTOOL), *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_rules_and_the_example_configuration_are_valid() -> None:
    assert "SUCCESS" in promtool("check", "rules", "tandem.rules.yml")
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")


def test_every_alert_fires_when_it_should_and_a_healthy_fleet_is_left_in_peace() -> None:
    promtool("test", "rules", "tandem.tests.yml")


def test_every_alert_has_a_test() -> None:
    rules = (FOLDER / "tandem.rules.yml").read_text(encoding="utf-8")
    alerts = {line.split(":")[1].strip() for line in rules.splitlines() if "- alert:" in line}
    tests = (FOLDER / "tandem.tests.yml").read_text(encoding="utf-8")
    assert alerts
    assert not {alert for alert in alerts if alert not in tests}
