"""The figures in the end are those of what is shipped, of this test part and of this number of threads."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from cloud_service.compression.config import CompressConfig, DataConfig, FullConfig, TuningConfig
from cloud_service.compression.dataset import Questions, Splits
from cloud_service.compression.final_figures import EDGE_SHIPPED, FULL_FP32, FULL_INT8, evaluate_models
from cloud_service.compression.graphs.export import graph_source
from cloud_service.compression.graphs.formats import Float16Storage
from cloud_service.compression.graphs.session import GraphSession
from cloud_service.compression.networks.build import new_classifier
from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling
from cloud_service.compression.package import Shipped, ShippedPair
from cloud_service.compression.progress import ProgressReport, progress_report
from cloud_service.compression.quantization.menu import Choice
from cloud_service.compression.quantization.network import write_network
from cloud_service.compression.quantization.plan import Precision, Scheme, uniform
from cloud_service.compression.quantizing import Bench, open_bench
from cloud_service.compression.report.document import Evaluation, ModelEvaluation
from cloud_service.compression.training import History
from cloud_service.compression.workshop import Learner, Workshop

PART = Questions(("my card", "the rate", "card rate", "rate my"), (0, 1, 0, 1))
SPLITS = Splits(("card", "rate"), train=PART, validation=PART, calibration=PART, test=PART)
SHAPE = NetworkShape(Family.BERT, 5, 8, 32, 16, (LayerShape(2, 2, 32),), norm_epsilon=1e-6, pooling=Pooling.MEAN)
FP32, DYNAMIC = Choice(uniform(Precision(Scheme.FP32))), Choice(uniform(Precision(Scheme.INT8_DYNAMIC)))


@dataclass(frozen=True)
class Made:
    """Two untrained models, and how to ship and evaluate them."""

    workshop: Workshop
    bench: Bench
    full: Shipped

    def evaluation(self, choice: Choice, workshop: Workshop | None = None, rounds: int = 2) -> Evaluation:
        files = self.bench.build(choice, self.bench.folder / "graph")
        edge = Shipped(self.bench.learner, files, GraphSession(files.graph))
        pair = ShippedPair(self.full, edge)
        return evaluate_models(workshop or self.workshop, self.bench, pair, None, rounds)


def learner(name: str, folder: Path, seed: int) -> Learner:
    words = {"[UNK]": 0, "my": 1, "card": 2, "rate": 3, "the": 4}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    model = new_classifier(SHAPE, len(SPLITS.labels), seed).eval()
    return Learner(name, model, tokenizer, folder / f"{name}-{seed}", History((0.5,)))


def workshop_in(folder: Path, report: ProgressReport) -> Workshop:
    config = CompressConfig(
        name="tiny",
        work_dir=folder / "work",
        bundles_dir=folder / "bundles",
        data=DataConfig(dataset="tiny", max_length=8),
        full=FullConfig(checkpoint="unused"),
    )
    return Workshop(config, SPLITS, report)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    with progress_report(quiet=True) as report:
        workshop = workshop_in(tmp_path, report)
        full, edge = learner("full", tmp_path, seed=1), learner("edge", tmp_path, seed=2)
        files = write_network(graph_source(full.model), Float16Storage(), full.folder / "graph")
        return Made(workshop, open_bench(workshop, edge), Shipped(full, files, GraphSession(files.graph)))


def model(evaluation: Evaluation, name: str) -> ModelEvaluation:
    return next(one for one in evaluation.models if one.name == name)


def test_what_was_evaluated_is_read_again(made: Made) -> None:
    first = made.evaluation(FP32)
    assert made.evaluation(FP32) == first


def test_other_precisions_are_evaluated_anew(made: Made) -> None:
    exact, small = (model(made.evaluation(choice), EDGE_SHIPPED) for choice in (FP32, DYNAMIC))
    assert exact.file_bytes is not None and small.file_bytes is not None
    assert small.file_bytes < exact.file_bytes
    assert small.reliability != exact.reliability


def test_another_test_part_is_evaluated_anew(made: Made) -> None:
    made.evaluation(FP32)
    other = dataclasses.replace(made.workshop, splits=dataclasses.replace(SPLITS, test=PART.take(np.array([0, 1]))))
    accuracy = model(made.evaluation(FP32, other), EDGE_SHIPPED).accuracy
    assert accuracy is not None and accuracy.share.total == 2


def test_with_other_threads_it_is_evaluated_anew(made: Made) -> None:
    made.evaluation(FP32, rounds=1)
    config = made.workshop.config.model_copy(update={"tuning": TuningConfig(threads=2)})
    assert made.evaluation(FP32, dataclasses.replace(made.workshop, config=config), rounds=1).threads == 2


def test_each_shipped_model_has_its_time_against_its_own_network_in_fp32(made: Made) -> None:
    evaluation = made.evaluation(DYNAMIC)
    alone = model(evaluation, FULL_INT8)
    assert alone.own_latency_ratios == alone.latency_ratios
    assert model(evaluation, FULL_FP32).own_latency_ratios == ()
    edge = model(evaluation, EDGE_SHIPPED)
    assert [ratio.tokens for ratio in edge.own_latency_ratios] == [length.tokens for length in edge.latencies]
    assert edge.own_latency_ratios != edge.latency_ratios
