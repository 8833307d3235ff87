"""What the models reach in the end, on the test part, which nothing was tuned or calibrated on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_service.compression.assessment.fresh_process import Compared, Conditions, compare, ratios_of
from cloud_service.compression.assessment.reliability import reliability_of
from cloud_service.compression.assessment.statistics import accuracy_of, paired_difference
from cloud_service.compression.durable import write_durably
from cloud_service.compression.graphs.export import graph_source
from cloud_service.compression.graphs.formats import Float32Weights
from cloud_service.compression.graphs.session import GraphSession
from cloud_service.compression.judging import size_of
from cloud_service.compression.package import ShippedPair
from cloud_service.compression.quantization.menu import Choice, build
from cloud_service.compression.quantization.network import write_network
from cloud_service.compression.quantization.plan import Precision, Scheme, uniform
from cloud_service.compression.quantizing import Bench
from cloud_service.compression.report.document import Comparison, Evaluation, ModelEvaluation
from cloud_service.compression.report.making import Part, PartShare
from cloud_service.compression.sources import blocks_of
from cloud_service.compression.workshop import DIGEST_CHARACTERS, Learner, Workshop
from shared.documents import canonical_json, read_document

LENGTHS = (16, 32)
ROUNDS = 7

FULL_FP32, FULL_SHIPPED, FULL_INT8 = "full model, FP32", "full model as shipped, FP16", "full model, INT8 alone"
EDGE_FP32, EDGE_SHIPPED = "edge model, FP32", "edge model as shipped"
OWN_FP32 = {FULL_SHIPPED: FULL_FP32, FULL_INT8: FULL_FP32, EDGE_SHIPPED: EDGE_FP32}


@dataclass(frozen=True)
class _Candidate:
    """A graph to evaluate, with the learner whose tokenizer it takes."""

    name: str
    learner: Learner
    graph: Path
    size_bytes: int


def evaluate_models(
    workshop: Workshop, bench: Bench, pair: ShippedPair, teacher: Learner | None, rounds: int = ROUNDS
) -> Evaluation:
    """Accuracy with intervals, paired against the full model; latency and memory in `rounds` fresh processes each.

    Done once for these graphs, this test part and this number of threads, then read again.

    Raises:
        ExportError: a graph cannot be written, or ONNX Runtime does not take it.
    """
    path = pair.edge.files.graph.parent / f"evaluation-{_digest(workshop, bench, pair, teacher)}.json"
    if path.is_file():
        return read_document(Evaluation, path.read_bytes())
    candidates = _candidates(workshop, bench, pair)
    logits = {one.name: _test_logits(workshop, one) for one in candidates}
    measured = _measured(workshop, candidates, rounds)
    models = [_evaluated(workshop, one, logits[one.name], measured) for one in candidates]
    if teacher is not None:
        models.append(_teacher_row(workshop, teacher))
    meters = [one.measurement.meter for one in measured.values() if one.measurement is not None]
    evaluation = Evaluation(
        part=Part.TEST,
        models=tuple(models),
        comparisons=tuple(_comparison(workshop, logits, *names) for names in COMPARED),
        energy_meter=next(iter(meters), None),
        threads=workshop.config.tuning.threads,
    )
    write_durably(path, canonical_json(evaluation))
    return evaluation


def _digest(workshop: Workshop, bench: Bench, pair: ShippedPair, teacher: Learner | None) -> str:
    """Of all that the figures depend on."""
    state = hashlib.sha256()
    learners = [pair.full.learner, bench.learner] if teacher is None else [pair.full.learner, bench.learner, teacher]
    for said in (
        *(learner.folder.name for learner in learners),
        workshop.splits.test.digest(),
        workshop.config.tuning.threads,
    ):
        state.update(f"{said}\0".encode())
    for files in (pair.full.files, pair.edge.files):
        for path in (files.graph, files.weights):
            for block in blocks_of(path):
                state.update(block)
    return state.hexdigest()[:DIGEST_CHARACTERS]


def _measured(workshop: Workshop, candidates: Sequence[_Candidate], rounds: int) -> dict[str, Compared]:
    """Time and memory by name, the candidates taking turns."""
    limit = min(one.learner.model.shape.max_text_length for one in candidates)
    lengths = tuple(length for length in LENGTHS if length <= limit) or (min(4, limit),)
    bar = workshop.report.start("measuring in fresh processes", rounds * len(candidates))
    conditions = Conditions(
        threads=workshop.config.tuning.threads,
        token_limit=min(one.learner.model.shape.vocabulary_size for one in candidates),
    )
    graphs = [one.graph for one in candidates]
    found = compare(graphs, lengths, rounds, conditions, on_process=lambda _: workshop.report.step(bar))
    workshop.report.finish(bar)
    return {one.name: compared for one, compared in zip(candidates, found, strict=True)}


COMPARED = (
    (FULL_FP32, FULL_INT8),
    (FULL_FP32, EDGE_FP32),
    (FULL_FP32, EDGE_SHIPPED),
    (EDGE_FP32, EDGE_SHIPPED),
)


def right_answers(workshop: Workshop, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which texts of the test part `logits` [texts, labels] answer right."""
    return np.asarray(logits.argmax(axis=1) == np.asarray(workshop.splits.test.label_ids))


def _candidates(workshop: Workshop, bench: Bench, pair: ShippedPair) -> list[_Candidate]:
    full, folder = pair.full.learner, pair.full.files.graph.parent
    source = graph_source(full.model)
    exact = write_network(source, Float32Weights(), folder / "fp32")
    alone = build(source, Choice(uniform(Precision(Scheme.INT8_DYNAMIC))), None, folder / "int8")
    return [
        _Candidate(FULL_FP32, full, exact.graph, size_of(exact)),
        _Candidate(FULL_SHIPPED, full, pair.full.files.graph, size_of(pair.full.files)),
        _Candidate(FULL_INT8, full, alone.graph, size_of(alone)),
        _Candidate(EDGE_FP32, bench.learner, bench.reference.graph, size_of(bench.reference)),
        _Candidate(EDGE_SHIPPED, bench.learner, pair.edge.files.graph, size_of(pair.edge.files)),
    ]


def _test_logits(workshop: Workshop, one: _Candidate) -> NDArray[np.float32]:
    sequences = one.learner.encode(workshop.splits.test.texts)
    bar = workshop.report.start(f"testing the {one.name}", len(sequences))
    logits = GraphSession(one.graph).run_each(sequences, lambda count: workshop.report.step(bar, count))
    workshop.report.finish(bar)
    return logits


def _evaluated(
    workshop: Workshop, one: _Candidate, logits: NDArray[np.float32], measured: Mapping[str, Compared]
) -> ModelEvaluation:
    compared, own = measured[one.name], OWN_FP32.get(one.name)
    measurement = compared.measurement
    return ModelEvaluation(
        name=one.name,
        accuracy=PartShare(Part.TEST, accuracy_of(right_answers(workshop, logits))),
        reliability=reliability_of(logits, workshop.splits.test.label_ids),
        file_bytes=one.size_bytes,
        load_ms=measurement.load_ms if measurement is not None else None,
        peak_memory_bytes=measurement.peak_bytes if measurement is not None else None,
        latencies=measurement.lengths if measurement is not None else (),
        latency_ratios=compared.ratios,
        own_latency_ratios=ratios_of(measured[own].by_round, compared.by_round) if own is not None else (),
        failure=compared.failure,
    )


def _teacher_row(workshop: Workshop, teacher: Learner) -> ModelEvaluation:
    opinion = workshop.opinion_of(teacher, list(workshop.splits.test.texts))
    return ModelEvaluation(
        "teacher, in torch",
        PartShare(Part.TEST, accuracy_of(right_answers(workshop, opinion.logits))),
        reliability=reliability_of(opinion.logits, workshop.splits.test.label_ids),
    )


def _comparison(workshop: Workshop, logits: dict[str, NDArray[np.float32]], first: str, second: str) -> Comparison:
    difference = paired_difference(right_answers(workshop, logits[first]), right_answers(workshop, logits[second]))
    return Comparison(first, second, Part.TEST, difference)
