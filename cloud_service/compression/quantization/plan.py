"""Which precision each matrix of a network is kept in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from cloud_service.compression.errors import ExportError
from cloud_service.compression.graphs.blocks import Blocks
from cloud_service.compression.graphs.formats import Float16Storage, Float32Weights, Int8Dynamic, Matrix, WeightFormat
from cloud_service.compression.graphs.products import product_of
from cloud_service.compression.graphs.static import ActivationRange, Int8Static
from cloud_service.compression.graphs.writer import GraphWriter
from cloud_service.compression.networks.shape import Family, NetworkShape, Pooling
from shared.documents import Document


class Scheme(str, Enum):
    """How a matrix is stored and multiplied."""

    FP32 = "fp32"
    FP16 = "fp16"  # stored; computed in FP32
    INT8_DYNAMIC = "int8-dynamic"
    INT8_STATIC = "int8-static"
    INT8_BLOCKS = "int8-blocks"
    INT4_BLOCKS = "int4-blocks"


BLOCK_BITS: Mapping[Scheme, int] = {Scheme.INT8_BLOCKS: 8, Scheme.INT4_BLOCKS: 4}
WHOLE_MATRICES: Mapping[Scheme, WeightFormat] = {
    Scheme.FP32: Float32Weights(),
    Scheme.FP16: Float16Storage(),
    Scheme.INT8_DYNAMIC: Int8Dynamic(),
}


@dataclass(frozen=True)
class Precision(Document):
    """A scheme, and how many weights share a scale where it has blocks (else 0)."""

    scheme: Scheme
    block_size: int = 0

    def __post_init__(self) -> None:
        if (self.block_size > 0) != (self.scheme in BLOCK_BITS):
            raise ValueError(f"{self.scheme.value} with blocks of {self.block_size}")

    @property
    def name(self) -> str:
        """As reports show it: `int4-blocks-32`."""
        return f"{self.scheme.value}-{self.block_size}" if self.block_size else self.scheme.value


@dataclass(frozen=True)
class PrecisionPlan(Document):
    """The precision of every product and of the embedding table: `default`, save for `exceptions` by name."""

    name: str
    default: Precision
    exceptions: Mapping[str, Precision]

    def precision_of(self, product: str) -> Precision:
        """What `product` is kept in."""
        return self.exceptions.get(product, self.default)

    def precisions(self) -> frozenset[Precision]:
        """All that occur."""
        return frozenset((self.default, *self.exceptions.values()))


def uniform(precision: Precision) -> PrecisionPlan:
    """Everything in one precision."""
    return PrecisionPlan(precision.name, precision, {})


class PlannedWeights:
    """The `WeightFormat` that keeps each matrix as the plan says."""

    def __init__(self, plan: PrecisionPlan, ranges: Mapping[str, ActivationRange] | None = None) -> None:
        """`ranges`: of the products' inputs by product, for those that are int8-static.

        Raises:
            ExportError: ONNX Runtime has no such blocks.
        """
        self.name = plan.name
        self._plan = plan
        self._forms = {precision: form_of(precision, ranges or {}) for precision in plan.precisions()}

    def matmul(self, graph: GraphWriter, x: str, name: str, weight: Matrix) -> str:
        """See `WeightFormat`."""
        return self._forms[self._plan.precision_of(product_of(name))].matmul(graph, x, name, weight)

    def lookup(self, graph: GraphWriter, ids: str, name: str, table: Matrix) -> str:
        """See `WeightFormat`."""
        return self._forms[self._plan.precision_of(name)].lookup(graph, ids, name, table)


def form_of(precision: Precision, ranges: Mapping[str, ActivationRange]) -> WeightFormat:
    """The format that writes `precision`.

    Raises:
        ExportError: ONNX Runtime has no such blocks.
    """
    if precision.scheme in BLOCK_BITS:
        return Blocks(BLOCK_BITS[precision.scheme], precision.block_size)
    if precision.scheme is Scheme.INT8_STATIC:
        return Int8Static(ranges)
    return WHOLE_MATRICES[precision.scheme]


def product_names(shape: NetworkShape) -> tuple[str, ...]:
    """The matrices that a plan may name, in the order of the graph; the embedding table is the first.

    Raises:
        ExportError: no graph is written for the family.
    """
    if shape.family is Family.ERNIE:
        parts = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
        return ("embed_tokens.weight", *_in_layers("layers", parts, shape), "head.weight")
    if shape.family is Family.BERT:
        parts = ("attention.self.qkv", "attention.output.dense", "intermediate.dense", "output.dense")
        pooler = ("pooler.dense.weight",) if shape.pooling is Pooling.POOLER else ()
        table = "embeddings.word_embeddings.weight"
        return (table, *_in_layers("encoder.layer", parts, shape), *pooler, "head.weight")
    raise ExportError(f"no graph is written for {shape.family.value}")


def _in_layers(prefix: str, parts: tuple[str, ...], shape: NetworkShape) -> tuple[str, ...]:
    return tuple(f"{prefix}.{index}.{part}.weight" for index in range(len(shape.layers)) for part in parts)


def is_table(name: str) -> bool:
    """Whether `name` is the embedding table, looked up and not multiplied with."""
    return name.endswith(("embed_tokens.weight", "word_embeddings.weight"))
