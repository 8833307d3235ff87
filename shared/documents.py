"""Strict reading of JSON documents into frozen dataclasses, and canonical writing of them.

A document is read as its dataclass says and no other way: an unknown field, a missing one or one of
another type is an error that names the field.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError


class Document:
    """Base of the dataclasses that are read from JSON; makes an unknown field an error."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]  # each has them, by its decorator


D = TypeVar("D", bound=Document)
_readers: dict[type[Document], TypeAdapter[Any]] = {}


class DocumentError(ValueError):
    """A document is not what it should be. `unknown_field`: its only fault is that it says more than we know."""

    def __init__(self, problem: str, *, unknown_field: bool = False) -> None:
        super().__init__(problem)
        self.unknown_field = unknown_field


def read_document(kind: type[D], data: bytes) -> D:
    """Parse JSON `data` into the dataclass `kind`.

    Raises:
        DocumentError: not JSON, or not of the fields and types of `kind`.
    """
    try:
        return _reader(kind).validate_json(data, strict=True)
    except ValidationError as error:
        faults = error.errors()
        where = ".".join(str(part) for part in faults[0]["loc"]) or "the document"
        unknown = all(fault["type"] == "unexpected_keyword_argument" for fault in faults)
        raise DocumentError(f"{where}: {faults[0]['msg']}", unknown_field=unknown) from error


def _reader(kind: type[D]) -> TypeAdapter[D]:
    # To build one takes tens of milliseconds on a device.
    reader: TypeAdapter[D] | None = _readers.get(kind)
    if reader is None:
        reader = _readers[kind] = TypeAdapter(kind)
    return reader


def format_of(data: bytes) -> int:
    """The `format` that a JSON document states, however else it may have changed; 0 where it states none."""
    try:
        fields = json.loads(data)
    except ValueError:
        return 0
    found = fields.get("format") if isinstance(fields, dict) else None
    return found if isinstance(found, int) else 0


def canonical_json(document: Document) -> bytes:
    """The one JSON text of `document`: sorted keys, no NaN, UTF-8, ending in a newline."""
    return canonical_fields(dataclasses.asdict(document))


def canonical_fields(fields: Mapping[str, Any]) -> bytes:
    """The same for a document's fields, where not all of them are written."""
    return (json.dumps(fields, sort_keys=True, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()


def sha256(data: bytes) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
