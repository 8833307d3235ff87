"""Errors of model making; a branch of the tree in `shared.errors` that devices need not carry.

TandemError
└── CompressionError
    ├── DatasetError      the training data cannot be used
    ├── CheckpointError   a checkpoint is damaged or belongs to another run
    ├── ExportError       a trained model cannot be written as a graph, or the graph disagrees with it
    └── WriteError        a result cannot be written, mostly for want of room
"""

import errno
from pathlib import Path

from shared.errors import TandemError

MAKE_ROOM = "see that the disk has room and run the same command again: it goes on from what is finished"


class CompressionError(TandemError):
    """Base of the errors of model making."""


class DatasetError(CompressionError):
    """The training data is missing, malformed or too small."""


class CheckpointError(CompressionError):
    """A checkpoint is damaged, or belongs to another run."""


class ExportError(CompressionError):
    """A model cannot be written as a graph, or the graph's answers differ from the model's."""


class WriteError(CompressionError):
    """The file `path` cannot be written; results that were finished before it stay."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: cannot be written: {reason}; {MAKE_ROOM}")
        self.path = path


def is_for_want_of_room(error: OSError) -> bool:
    """Whether a disk, or its owner's quota, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
