"""A tiny bundle of every kind of graph that model making can ship, each with the golden set of its own answers."""

from __future__ import annotations

from pathlib import Path

from cloud_service.compression.graphs.export import graph_source
from cloud_service.compression.graphs.session import GraphSession
from cloud_service.compression.networks.shape import Family
from cloud_service.compression.package import Shipped, draft_bundle
from cloud_service.compression.quantization.menu import Choice, build
from cloud_service.compression.quantization.plan import Precision, Scheme, uniform
from cloud_service.compression.quantization.statistics import collect_statistics
from shared.bundle import Tier, write_bundle
from tests.support.tiny_compression import open_tiny_workshop, tiny_learner

KINDS = {
    "ernie-int8-dynamic": (Family.ERNIE, Precision(Scheme.INT8_DYNAMIC)),
    "ernie-int8-static": (Family.ERNIE, Precision(Scheme.INT8_STATIC)),
    "ernie-int8-blocks": (Family.ERNIE, Precision(Scheme.INT8_BLOCKS, 32)),
    "ernie-int4-blocks": (Family.ERNIE, Precision(Scheme.INT4_BLOCKS, 32)),
    "ernie-fp16": (Family.ERNIE, Precision(Scheme.FP16)),
    "bert-int8-dynamic": (Family.BERT, Precision(Scheme.INT8_DYNAMIC)),
}


def write_golden_bundles(folder: Path) -> tuple[Path, ...]:
    """Write a bundle of each of `KINDS` into `folder`; returns their folders."""
    workshop = open_tiny_workshop(folder)
    bundles = []
    for name, (family, precision) in KINDS.items():
        learner = tiny_learner(workshop, family)
        source = graph_source(learner.model)
        statistics = collect_statistics(source, learner.encode(workshop.splits.train.texts[:64]))
        files = build(source, Choice(uniform(precision)), statistics, folder / "graphs" / name)
        draft = draft_bundle(workshop, Tier.EDGE, "1.0.0", Shipped(learner, files, GraphSession(files.graph)))
        write_bundle(draft, None, folder / "bundles" / name)
        bundles.append(folder / "bundles" / name)
    return tuple(bundles)
