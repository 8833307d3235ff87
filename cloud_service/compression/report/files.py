"""The report on disk: one JSON document, one HTML page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cloud_service.compression.durable import write_durably
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

    Each file is the old one or the new one as a whole at any time.

    Raises:
        WriteError: a file cannot be written.
        OSError: the folder cannot be made.
    """
    marked = with_front_marked(report)
    folder.mkdir(parents=True, exist_ok=True)
    files = ReportFiles(folder / JSON_NAME, folder / HTML_NAME)
    write_durably(files.document, canonical_json(marked))
    write_durably(files.page, render(marked).encode())
    return files
