"""The models of the demo and of its BERT counterpart, each made with three seeds, on BANKING77's test part.

Everything is made by `cloud-service model evaluate`, which takes up to half an hour a seed and finds what an earlier
run has done. A seed changes the split of the data as well as all that is drawn. Bundles are not written.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cloud_service.compression.config import load_config
from cloud_service.compression.final_figures import EDGE_SHIPPED, FULL_FP32, FULL_INT8
from cloud_service.compression.report.document import Evaluation, ModelEvaluation, Report
from cloud_service.compression.report.files import JSON_NAME
from shared.documents import read_document
from tests.bench.report import Figure, finish

SEEDS = (77, 78, 79)
DEMO = Path(__file__).parents[2] / "deploy" / "demo"
FULL, INT8, LOST, EDGE, SPEED = (
    "full accuracy",
    "points lost by INT8 alone",
    "points lost in all",
    "edge accuracy",
    "speed",
)
ARITHMETIC, SIZE, TIME = "multiply-accumulates of the full model's", "graph and weights", "all steps"
UNITS = {FULL: "%", EDGE: "%", SPEED: "x", ARITHMETIC: "%", SIZE: "MB", TIME: "min"}
AIMS = {
    "models.toml": {FULL: "≥ 92", EDGE: "≥ 91", INT8: "≤ 0.3", LOST: "≤ 1.0", SPEED: "≥ 2.3"}
    | {ARITHMETIC: "≤ 40", SIZE: "≤ 8", TIME: "< 30"},
    "minilm.toml": {FULL: "≥ 93", LOST: "≤ 1.0"},
}


def main() -> None:
    figures = []
    for name, aims in AIMS.items():
        reports = [made(DEMO / name, seed) for seed in SEEDS]
        figures += figures_of(reports, aims)
    finish(figures, __doc__ or "")


def made(config: Path, seed: int) -> Report:
    """The report of one run, after its evaluation."""
    command = [sys.executable, "-m", "cloud_service", "model", "evaluate", str(config), "--seed", str(seed), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return read_document(Report, (load_config(config).work_dir / JSON_NAME).read_bytes())


def figures_of(reports: Sequence[Report], aims: Mapping[str, str]) -> list[Figure]:
    """The mean over seeds of each figure, with its range; of so few, a median would hide one."""
    by_seed = [of_one(report) for report in reports]
    figures = []
    for what in by_seed[0]:
        values = [one[what] for one in by_seed]
        label = f"{reports[0].name}: {what}, mean of {len(values)} seeds"
        span = min(values), max(values)
        figures.append(Figure(label, statistics.mean(values), *span, UNITS.get(what, ""), aims.get(what, "")))
    return figures


def of_one(report: Report) -> dict[str, float]:
    """Accuracies in percent and what is lost in points; of the edge model as shipped, speed over its own FP32."""
    evaluation, cost = evaluation_of(report), report.cost
    assert cost is not None, "the command counts"
    full, alone, edge = (100 * accuracy(evaluation, name) for name in (FULL_FP32, FULL_INT8, EDGE_SHIPPED))
    shipped = model(evaluation, EDGE_SHIPPED)
    return {
        FULL: full,
        INT8: full - alone,
        EDGE: edge,
        LOST: full - edge,
        SPEED: 1 / shipped.own_latency_ratios[0].median,
        ARITHMETIC: 100 * cost.after.multiply_accumulates / cost.before.multiply_accumulates,
        SIZE: (shipped.file_bytes or 0) / 1e6,
        TIME: sum(step.seconds for step in report.steps) / 60,
    }


def evaluation_of(report: Report) -> Evaluation:
    """What the command says of the test part."""
    assert report.evaluation is not None, "the command evaluates"
    return report.evaluation


def model(evaluation: Evaluation, name: str) -> ModelEvaluation:
    """One row of an evaluation."""
    return next(one for one in evaluation.models if one.name == name)


def accuracy(evaluation: Evaluation, name: str) -> float:
    """Share of the test part that a model answers right."""
    measured = model(evaluation, name).accuracy
    assert measured is not None, "every graph is tested"
    return measured.share.value


if __name__ == "__main__":
    main()
