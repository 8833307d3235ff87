"""Risk over offload, as characters for a terminal and as one HTML file that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cloud_service.calibration.explanation import RISK_WORDS, explain_gate, promise_words
from shared.gate import Certificate, Gate, Risk

COLUMNS, ROWS = 64, 14
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 300, 56, 44, 14, 24


@dataclass(frozen=True)
class Points:
    """A certificate's picture: (offload, risk) of the curve, of the certified steps, and of the one in force."""

    curve: tuple[tuple[float, float], ...]
    certified: tuple[tuple[float, float], ...]
    in_force: tuple[float, float] | None
    alpha: float | None

    @property
    def highest(self) -> float:
        """The top of the risk axis."""
        risks = [risk for _, risk in (*self.curve, *self.certified)]
        return max(1e-3, 1.1 * max([*risks, self.alpha or 0.0]))


def points_of(certificate: Certificate, alpha: float | None) -> Points:
    """What of `certificate` is drawn; `alpha` is the one in force."""
    of_all = certificate.risk is Risk.JOINT

    def point(kept: int, errors: int) -> tuple[float, float]:
        return 1.0 - kept / certificate.n, errors / (certificate.n if of_all else kept)

    steps = [step for step in certificate.steps if step.threshold is not None and step.kept]
    chosen = [point(step.kept, step.errors) for step in steps if step.alpha == alpha]
    return Points(
        tuple(point(each.kept, each.errors) for each in certificate.curve if each.kept),
        tuple(point(step.kept, step.errors) for step in steps),
        chosen[0] if chosen else None,
        alpha,
    )


def text_picture(points: Points) -> Iterator[str]:
    """Risk upwards, offload to the right."""
    highest = points.highest
    grid = [[" "] * COLUMNS for _ in range(ROWS)]

    def put(x: float, y: float, mark: str) -> None:
        row = ROWS - 1 - min(ROWS - 1, int(y / highest * ROWS))
        grid[row][min(COLUMNS - 1, int(x * COLUMNS))] = mark

    if points.alpha is not None:
        for column in range(COLUMNS):
            put(column / COLUMNS, points.alpha, "-")
    for marks, mark in ((points.curve, "."), (points.certified, "o")):
        for x, y in marks:
            put(x, y, mark)
    if points.in_force:
        put(*points.in_force, "#")
    for number, row in enumerate(grid):
        label = f"{(ROWS - number) / ROWS * highest:7.1%}" if number % 4 == 0 else " " * 7
        yield f"{label} |{''.join(row).rstrip()}"
    yield " " * 7 + " +" + "-" * COLUMNS
    yield " " * 9 + "0%" + "offload".center(COLUMNS - 6) + "100%"
    yield " " * 9 + ". risk seen   o certified   # in force   - alpha in force"


def html_page(gate: Gate, model: str) -> str:
    """Words and a picture for each certificate, for light and dark screens."""
    words = "\n".join(html.escape(line) for line in explain_gate(gate, model))
    pictures = "\n".join(_figure(certificate, gate.in_force.get(certificate.risk)) for certificate in gate.certificates)
    title = html.escape(f"The gate of {model}")
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{_STYLE}</style>\n'
        f"<h1>{title}</h1>\n{pictures}\n<pre>{words}</pre>\n</html>\n"
    )


_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6676; --line: #d5dae1; --page: #fff; --curve: #2f6fde;
  --good: #0a7d4f; --limit: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa6b5; --line: #36404d; --page: #12161c;
  --curve: #7fb0ff; --good: #3ecf8e; --limit: #ff9a62; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 0 auto;
  padding: 1.5rem; max-width: 60rem; }
h1 { font-size: 1.3rem; } figure { margin: 1.5rem 0; } figcaption { color: var(--soft); }
svg { width: 100%; max-width: 44rem; height: auto; } text { fill: var(--soft); font-size: 12px; }
pre { white-space: pre-wrap; font-size: 12.5px; border-top: 1px solid var(--line); padding-top: 1rem; }
.axis { stroke: var(--line); } .curve { fill: none; stroke: var(--curve); stroke-width: 2; }
.certified { fill: var(--page); stroke: var(--good); stroke-width: 2; } .force { fill: var(--good); }
.limit { stroke: var(--limit); stroke-dasharray: 5 4; } .limit-name { fill: var(--limit); }
"""


def _figure(certificate: Certificate, alpha: float | None) -> str:
    points = points_of(certificate, alpha)
    caption = f"{certificate.risk.value}: {RISK_WORDS[certificate.risk]}; promised {promise_words(certificate)}."
    body = "".join((*_axes(points.highest), *_marks(points)))
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="risk over offload">{body}</svg>'
        f"<figcaption>{html.escape(caption)} Line: risk seen. Rings: certified. Dot: in force.</figcaption></figure>"
    )


def _x(offload: float) -> float:
    return LEFT + offload * (WIDTH - LEFT - RIGHT)


def _y(risk: float, highest: float) -> float:
    return HEIGHT - BOTTOM - risk / highest * (HEIGHT - BOTTOM - TOP)


def _axes(highest: float) -> Iterator[str]:
    for part in range(5):
        share, risk = part / 4, part / 4 * highest
        y, x = _y(risk, highest), _x(share)
        yield f'<line class="axis" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{risk:.1%}</text>'
        yield f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{share:.0%}</text>'
    yield f'<text x="{_x(0.5):.1f}" y="{HEIGHT - 6}" text-anchor="middle">offload</text>'
    yield f'<text x="14" y="{_y(highest / 2, highest):.1f}" transform="rotate(-90 14 {_y(highest / 2, highest):.1f})" '
    yield 'text-anchor="middle">risk</text>'


def _marks(points: Points) -> Iterator[str]:
    highest = points.highest
    if points.alpha is not None:
        y = _y(points.alpha, highest)
        yield f'<line class="limit" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
        yield f'<text class="limit-name" x="{WIDTH - RIGHT}" y="{y - 5:.1f}" text-anchor="end">alpha in force</text>'
    yield f'<polyline class="curve" points="{_path(points.curve, highest)}"/>'
    for x, y in points.certified:
        yield f'<circle class="certified" cx="{_x(x):.1f}" cy="{_y(y, highest):.1f}" r="4.5"/>'
    if points.in_force:
        x, y = points.in_force
        yield f'<circle class="force" cx="{_x(x):.1f}" cy="{_y(y, highest):.1f}" r="5.5"/>'


def _path(curve: Sequence[tuple[float, float]], highest: float) -> str:
    return " ".join(f"{_x(x):.1f},{_y(y, highest):.1f}" for x, y in curve)
