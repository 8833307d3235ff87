"""The graph of a classifier of any family."""

from __future__ import annotations

from pathlib import Path

from cloud_service.compression.errors import ExportError
from cloud_service.compression.graphs.bert import write_bert_graph
from cloud_service.compression.graphs.ernie import write_graph
from cloud_service.compression.graphs.formats import WeightFormat
from cloud_service.compression.graphs.prefix import write_prefixed_graph
from cloud_service.compression.graphs.source import GraphSource
from cloud_service.compression.graphs.writer import GraphFiles
from cloud_service.compression.networks.shape import Family

WRITERS = {Family.ERNIE: write_graph, Family.BERT: write_bert_graph}


def write_network(source: GraphSource, form: WeightFormat, folder: Path) -> GraphFiles:
    """Write the graph of `source`, its matrices in `form`, into `folder`; a prefix is computed now, and kept in it.

    Raises:
        ExportError: no graph is written for the family, its prefix cannot be, or a weight is not finite.
    """
    if source.shape.prefix:
        return write_prefixed_graph(source, form, folder)
    writer = WRITERS.get(source.shape.family)
    if writer is None:
        raise ExportError(f"no graph is written for {source.shape.family.value}")
    return writer(source, form, folder)
