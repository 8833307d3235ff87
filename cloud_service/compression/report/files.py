"""The report on disk: one JSON document, one HTML page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cloud_service.compression.report.document import Report
from cloud_service.compression.report.html import render
from cloud_service.compression.report.pareto import with_front_marked
from shared.documents import canonical_json

JSON_NAME = "report.json"
HTML_NAME = "report.html"


@dataclass(frozen=True)
class ReportFiles:
    """Where the report was written."""

    document: Path
    page: Path


def write_report(report: Report, folder: Path) -> ReportFiles:
    """Write `report` to `folder`, made where missing, with the Pareto front marked.

    Raises:
        OSError: the folder cannot be written.
    """
    marked = with_front_marked(report)
    folder.mkdir(parents=True, exist_ok=True)
    files = ReportFiles(folder / JSON_NAME, folder / HTML_NAME)
    files.document.write_bytes(canonical_json(marked))
    files.page.write_text(render(marked), encoding="utf-8")
    return files
