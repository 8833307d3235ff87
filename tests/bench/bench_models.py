"""The models of the demo and of its BERT counterpart, each made with three seeds, on BANKING77's test part.

Everything is made by `cloud-service model evaluate`, which takes up to half an hour a seed and finds what an earlier
run has done. A seed changes the split of the data as well as all that is drawn. Bundles are not written.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cloud_service.compression.config import load_config
from cloud_service.compression.final_figures import EDGE_FP32, EDGE_SHIPPED, FULL_FP32, FULL_INT8, FULL_SHIPPED
from cloud_service.compression.report.document import Evaluation, ModelEvaluation, Report
from cloud_service.compression.report.files import JSON_NAME
from shared.documents import read_document
from tests.bench.report import Figure, finish

SEEDS = (77, 78, 79)
DEMO = Path(__file__).parents[2] / "deploy" / "demo"


def main() -> None:
    figures = []
    for config, full_aim in (("models.toml", "≥ 92"), ("minilm.toml", "≥ 93")):
        reports = [made(DEMO / config, seed) for seed in SEEDS]
        figures += figures_of(reports, full_aim)
    finish(figures, __doc__ or "")


def made(config: Path, seed: int) -> Report:
    """The report of one run, after its evaluation."""
    command = [sys.executable, "-m", "cloud_service", "model", "evaluate", str(config), "--seed", str(seed), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return read_document(Report, (load_config(config).work_dir / JSON_NAME).read_bytes())


def figures_of(reports: Sequence[Report], full_aim: str) -> list[Figure]:
    """Accuracies and what is lost in points; size, arithmetic and speed beside them."""
    name, evaluations = reports[0].name, [evaluation_of(report) for report in reports]
    edge_aim = "≥ 91" if name == "banking77" else ""
    full, edge, fp32 = (
        [100 * accuracy(one, which) for one in evaluations] for which in (FULL_FP32, EDGE_SHIPPED, EDGE_FP32)
    )
    alone = [100 * accuracy(one, FULL_INT8) for one in evaluations]
    costs = [report.cost for report in reports if report.cost is not None]
    arithmetic = [100 * cost.after.multiply_accumulates / cost.before.multiply_accumulates for cost in costs]
    sizes = {which: [(model(one, which).file_bytes or 0) / 1e6 for one in evaluations] for which in SIZED}
    speeds = [1 / model(one, EDGE_SHIPPED).own_latency_ratios[0].median for one in evaluations]
    minutes = [sum(step.seconds for step in report.steps) / 60 for report in reports]
    return [
        mean_of(f"{name}, full model: accuracy", full, "%", full_aim),
        mean_of(f"{name}, full model in INT8: points lost", differences(full, alone), "", "≤ 0.3"),
        mean_of(f"{name}, edge model in FP32: points lost", differences(full, fp32), ""),
        mean_of(f"{name}, edge model as shipped: accuracy", edge, "%", edge_aim),
        mean_of(f"{name}, edge model as shipped: points lost", differences(full, edge), "", "≤ 1.0"),
        mean_of(f"{name}, edge model: speed over its own FP32", speeds, "x", "≥ 2.3"),
        mean_of(f"{name}, edge model: multiply-accumulates of the full model's", arithmetic, "%", "≤ 40"),
        mean_of(f"{name}, full model: graph and weights", sizes[FULL_SHIPPED], "MB"),
        mean_of(f"{name}, edge model: graph and weights", sizes[EDGE_SHIPPED], "MB", "≤ 8"),
        mean_of(f"{name}, all steps", minutes, "min", "< 30"),
    ]


SIZED = (FULL_SHIPPED, EDGE_SHIPPED)


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


def differences(before: Sequence[float], after: Sequence[float]) -> list[float]:
    return [one - two for one, two in zip(before, after, strict=True)]


def mean_of(what: str, by_seed: Sequence[float], unit: str, aim: str = "") -> Figure:
    """The mean over seeds with their range; of so few, a median would hide one."""
    return Figure(
        f"{what}, mean of {len(by_seed)} seeds", statistics.mean(by_seed), min(by_seed), max(by_seed), unit, aim
    )


if __name__ == "__main__":
    main()
