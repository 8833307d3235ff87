"""What the README and the guides tell a user to type does what they say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cloud_service.config import load_cloud_settings
from edge_agent.config import load_agent_settings

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "user-guide.md"


def blocks(file: Path, language: str) -> list[str]:
    """The fenced code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", file.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("line", blocks(ROOT / "README.md", "sh")[0].splitlines())
def test_the_first_steps_of_the_readme_print_json(line: str) -> None:
    command = line.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    run = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    said = json.loads(run.stdout)
    assert said.get("label") == "card_arrival" or said["model"]["name"] == "banking77"


def test_the_configurations_of_the_user_guide_are_valid(tmp_path: Path) -> None:
    agent, cloud = blocks(GUIDE, "toml")
    (tmp_path / "agent.toml").write_text(agent, encoding="utf-8")
    (tmp_path / "cloud.toml").write_text(cloud, encoding="utf-8")
    assert load_agent_settings(tmp_path / "agent.toml").device_id == "press-line-7"
    assert load_cloud_settings(tmp_path / "cloud.toml").broker.username == "tandem-fleet"


def test_the_guides_link_to_files_that_are_there() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
