"""Names of metrics: those that expressions ask for, and those that a page shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "tandem.rules.yml"
DASHBOARD = DEPLOY / "grafana" / "tandem.json"
_NAME = re.compile(r"(?<![:\w])tandem_[a-z_]+\b(?!:)")
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}


def asked_for(text: str) -> set[str]:
    """The exported metrics that `text` names; recorded ones (tandem:...) are not exported."""
    return set(_NAME.findall(text))


def shown(page: str) -> set[str]:
    """Every metric of a page in Prometheus' text format, also one without a sample at this moment."""
    names: set[str] = set()
    for line in page.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:4]
            names |= {name + suffix for suffix in _SUFFIXES.get(kind, ("",))}
    return names


def dashboard_expressions() -> Iterator[str]:
    """Every query of the dashboard: panels, variables and annotations."""
    document = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    for panel in document["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (each["definition"] for each in document["templating"]["list"] if "definition" in each)
    yield from (each["expr"] for each in document["annotations"]["list"])


def rule_expressions() -> str:
    """The rules' text without annotations, whose words are no expressions."""
    lines = RULES.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.strip().startswith(("summary:", "description:", "#")))
