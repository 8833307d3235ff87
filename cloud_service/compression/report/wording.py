"""Numbers as the report says them."""

from __future__ import annotations

from cloud_service.compression.assessment.statistics import PairedDifference
from cloud_service.compression.report.making import PartShare

MISSING = "–"


def count(number: float | None) -> str:
    """12 345."""
    return MISSING if number is None else f"{number:,.0f}".replace(",", "\u202f")


def percent(share: float | None) -> str:
    """91.2 %."""
    return MISSING if share is None else f"{share * 100:.1f}\u202f%"


def interval(found: PartShare | None) -> str:
    """89.0 to 93.1 %."""
    return MISSING if found is None else f"{found.share.low * 100:.1f} to {percent(found.share.high)}"


def counted(found: PartShare | None) -> str:
    """712 of 781 test texts."""
    if found is None:
        return "not measured"
    return f"{count(found.share.right)} of {count(found.share.total)} {found.part.value} texts"


def points(share: float) -> str:
    """A difference of two shares, in percentage points: +0.4, 0.0 or −1.2."""
    said = f"{share * 100:+.1f}"
    return "0.0" if float(said) == 0 else said.replace("-", "−")


def difference(found: PairedDifference | None) -> str:
    """−0.4 (−1.3 to +0.5)."""
    if found is None:
        return MISSING
    return f"{points(found.value)} ({points(found.low)} to {points(found.high)})"


def probability(value: float) -> str:
    """0.034; tiny ones are said to be below what matters."""
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def megabytes(number: float | None) -> str:
    """21.4 MB, of 10⁶ bytes."""
    if number is None:
        return MISSING
    return f"{number / 1e6:.1f}\u202fMB" if number >= 1e5 else f"{number / 1e3:.1f}\u202fkB"


def milliseconds(value: float | None) -> str:
    """3.42 ms."""
    return MISSING if value is None else f"{value:.3g}\u202fms" if value < 100 else f"{value:.0f}\u202fms"


def millions(number: float) -> str:
    """1 360, 109.5 or 0.052, of a million."""
    if number >= 1e9:
        return count(number / 1e6)
    return f"{number / 1e6:.1f}" if number >= 1e6 else small(number / 1e6)


def seconds(value: float) -> str:
    """4.2 s, 3 min 20 s, or 2 h 5 min."""
    if value < 60:
        return f"{value:.1f}\u202fs"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60}\u202fmin {whole % 60}\u202fs"
    return f"{whole // 3600}\u202fh {whole % 3600 // 60}\u202fmin"


def share_left(before: float, after: float) -> str:
    """After as a share of before: 24.9 %."""
    return percent(after / before) if before else MISSING


def small(value: float | None) -> str:
    """Three significant digits."""
    return MISSING if value is None else f"{value:.3g}".replace("-", "−")
