from __future__ import annotations

from shared.update.codec import MAX_ERROR_CHARACTERS, decode_report, encode_report
from shared.update.report import ErrorKind, InstalledRelease, Phase, UpdateReport


def told(error: str) -> str:
    """What the cloud hears of `error`."""
    active = InstalledRelease("1.0.0", "d" * 64)
    report = UpdateReport(
        "d1", "boot-1", 1, 0, "tiny", "default", "x86", "1.0", Phase.ROLLED_BACK, "a", active, error=error
    )
    heard = decode_report(encode_report(report))
    assert (heard.phase, heard.error_kind) == (Phase.ROLLED_BACK, ErrorKind.NONE)
    return heard.error


def test_a_report_is_heard_whatever_the_engine_wrote_into_its_error() -> None:
    assert told("load failed:\n\tno kernel for Gelu\x00") == "load failed:  no kernel for Gelu "
    assert len(told("é" * 2000)) == MAX_ERROR_CHARACTERS
