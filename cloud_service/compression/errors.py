"""Errors of model making; a branch of the tree in `shared.errors` that devices need not carry.

TandemError
└── CompressionError
    ├── DatasetError      the training data cannot be used
    ├── CheckpointError   a checkpoint is damaged or belongs to another run
    └── ExportError       a trained model cannot be written as a graph, or the graph disagrees with it
"""

from shared.errors import TandemError


class CompressionError(TandemError):
    """Base of the errors of model making."""


class DatasetError(CompressionError):
    """The training data is missing, malformed or too small."""


class CheckpointError(CompressionError):
    """A checkpoint is damaged, or belongs to another run."""


class ExportError(CompressionError):
    """A model cannot be written as a graph, or the graph's answers differ from the model's."""
