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
from shared.bundle import read_bundle

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "user-guide.md"


def blocks(file: Path, language: str, under: str = "") -> list[str]:
    """The fenced code blocks of one language, in the section under the heading `under` or in all of them."""
    sections = re.split(r"^##+ ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = "".join(section for section in sections if section.startswith(under))
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("line", blocks(ROOT / "README.md", "sh")[0].splitlines())
def test_the_first_steps_of_the_readme_print_json(line: str) -> None:
    command = line.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    run = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    said = json.loads(run.stdout)
    assert said.get("label") == "card_arrival" or said["model"]["name"] == "banking77"


def test_the_configurations_of_the_user_guide_are_valid(tmp_path: Path) -> None:
    agent, cloud, *_ = blocks(GUIDE, "toml")
    (tmp_path / "agent.toml").write_text(agent, encoding="utf-8")
    (tmp_path / "cloud.toml").write_text(cloud, encoding="utf-8")
    assert load_agent_settings(tmp_path / "agent.toml").device_id == "press-line-7"
    assert load_cloud_settings(tmp_path / "cloud.toml").broker.username == "tandem-fleet"


@pytest.mark.long
def test_a_csv_of_ones_own_becomes_two_bundles_by_the_guides_configuration(tmp_path: Path) -> None:
    (tmp_path / "tickets.toml").write_text(blocks(GUIDE, "toml")[2], encoding="utf-8")
    subjects = {"card": "my card", "transfer": "a transfer", "rate": "the exchange rate"}
    rows = [f"number {i}: what about {words}?,{label}" for i in range(60) for label, words in subjects.items()]
    (tmp_path / "tickets.csv").write_text("\n".join(["text,category", *rows]), encoding="utf-8")
    command = [str(Path(sys.executable).parent / "cloud-service"), "model", "compress", "tickets.toml", "--quiet"]
    subprocess.run(command, cwd=tmp_path, timeout=500, check=True)
    edge = read_bundle(tmp_path / "bundles" / "tickets-edge")
    report = json.loads((tmp_path / "work" / "report.json").read_text(encoding="utf-8"))
    assert edge.gate is not None and set(edge.manifest.labels) == set(subjects)
    assert [layer["heads_kept"] for layer in report["pruning"]["layers"]] == [8] * 6
    assert report["evaluation"]["part"] == "test" and report["choice"]["reason"]


def test_the_guides_link_to_files_that_are_there() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
