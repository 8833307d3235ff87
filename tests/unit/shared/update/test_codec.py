from __future__ import annotations

from dataclasses import replace

import pytest

from shared.errors import MessageError
from shared.update.codec import MAX_ERROR_CHARACTERS, MAX_REPORT_BYTES, decode_report, encode_report
from shared.update.labels import MAX_LABELS
from shared.update.report import ErrorKind, InstalledRelease, Phase, UpdateReport

REPORT = UpdateReport(
    "d1", "boot-1", 1, 0, "tiny", "default", "x86", "1.0", Phase.ROLLED_BACK, "a", InstalledRelease("1.0.0", "d" * 64)
)


def told(error: str) -> str:
    """What the cloud hears of `error`."""
    heard = decode_report(encode_report(replace(REPORT, error=error)))
    assert (heard.phase, heard.error_kind) == (Phase.ROLLED_BACK, ErrorKind.NONE)
    return heard.error


def test_a_report_is_heard_whatever_the_engine_wrote_into_its_error() -> None:
    assert told("load failed:\n\tno kernel for Gelu\x00") == "load failed:  no kernel for Gelu "
    assert len(told("é" * 2000)) == MAX_ERROR_CHARACTERS


def test_a_device_says_its_labels() -> None:
    longest = {f"{number:x}" + "k" * 63: "v" * 64 for number in range(MAX_LABELS)}
    for labels in ({}, {"site": "berlin", "line": "3"}, longest):
        payload = encode_report(replace(REPORT, labels=labels))
        assert decode_report(payload).labels == labels
        assert len(payload) < MAX_REPORT_BYTES // 4


@pytest.mark.parametrize(
    "labels", [{"site": "no name"}, {"": "x"}, {"a/b": "x"}, {f"k{number}": "v" for number in range(MAX_LABELS + 1)}]
)
def test_labels_that_are_none_are_not_heard(labels: dict[str, str]) -> None:
    with pytest.raises(MessageError, match="device label"):
        decode_report(encode_report(replace(REPORT, labels=labels)))
