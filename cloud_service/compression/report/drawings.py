"""From the report's sections to its pictures. None where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from markupsafe import Markup

from cloud_service.compression.report.axes import axis_over
from cloud_service.compression.report.choosing import LayerSensitivity, Sensitivity, Variant
from cloud_service.compression.report.document import Report
from cloud_service.compression.report.making import Distillation, Pruning
from cloud_service.compression.report.pareto import Point, pareto_front
from cloud_service.compression.report.pictures import Bar, BarGroup, Curve, Dot, bars, curves, scatter
from cloud_service.compression.report.wording import (
    count,
    counted,
    interval,
    megabytes,
    milliseconds,
    percent,
    points,
    small,
)

_ROOM_FOR_TEXT = 1.3


def accuracy_against_size(report: Report) -> Markup | None:
    """Every variant by its bytes on disk."""
    return _against(
        report,
        "size on disk, MB (10⁶ bytes)",
        lambda each: None if each.file_bytes is None else each.file_bytes / 1e6,
        lambda each: megabytes(each.file_bytes),
    )


def accuracy_against_latency(report: Report) -> Markup | None:
    """Every variant that was timed, by its latency; where plans have forecasts, the menu alone."""
    return _against_milliseconds(report, "median latency of one text, ms", report.forecast_for is None)


def accuracy_against_forecast(report: Report) -> Markup | None:
    """Every plan by the latency that a device's table forecasts, where one does."""
    if report.forecast_for is None:
        return None
    return _against_milliseconds(report, "forecast latency of one text, ms", with_trials=True, with_menu=False)


def _against_milliseconds(report: Report, title: str, with_trials: bool, with_menu: bool = True) -> Markup | None:
    menu_size = _menu_size(report)
    return _against(
        report,
        title,
        lambda each: each.latency_ms,
        lambda each: milliseconds(each.latency_ms),
        lambda number: with_menu if number <= menu_size else with_trials,
    )


def _menu_size(report: Report) -> int:
    return len(report.menu.rows) if report.menu is not None else 0


def _against(
    report: Report,
    title: str,
    cost: Callable[[Variant], float | None],
    say: Callable[[Variant], str],
    is_shown: Callable[[int], bool] = lambda _: True,
) -> Markup | None:
    chosen = report.choice.name if report.choice is not None else None
    dots = [
        _dot_of(
            variant, number, x, say(variant), is_of_menu=number <= _menu_size(report), is_chosen=variant.name == chosen
        )
        for number, variant in enumerate(report.variants(), start=1)
        if is_shown(number) and variant.accuracy is not None and (x := cost(variant)) is not None
    ]
    if not dots:
        return None
    reached = [value for dot in dots for value in (dot.y, dot.low, dot.high) if value is not None]
    across = axis_over(title, [dot.x for dot in dots], lambda value: f"{value:g}", from_zero=True)
    part = ", ".join(sorted({each.accuracy.part.value for each in report.variants() if each.accuracy is not None}))
    up = axis_over(f"accuracy on {part} texts, %", reached, lambda value: f"{value * 100:g}")
    dots.sort(key=lambda dot: (dot.kind == "chosen", dot.kind == "menu"))
    return scatter(dots, _front(dots), across, up, f"Accuracy against {title}, {len(dots)} variants")


def _dot_of(variant: Variant, number: int, cost: float, said: str, *, is_of_menu: bool, is_chosen: bool) -> Dot:
    """Those of the menu and the chosen one carry their number in the table and their interval."""
    assert variant.accuracy is not None
    share = variant.accuracy.share
    title = (
        f"{variant.name}: {percent(share.value)} ({interval(variant.accuracy)}), {said}, {counted(variant.accuracy)}"
    )
    if not (is_of_menu or is_chosen):
        return Dot(cost, share.value, title, "trial")
    kind, label = ("chosen", "chosen") if is_chosen else ("menu", "")
    return Dot(cost, share.value, title, kind, str(number), share.low, share.high, label)


def _front(dots: Sequence[Dot]) -> list[tuple[float, float]]:
    """The front's points in order of cost."""
    flags = pareto_front([Point(dot.y, (dot.x,)) for dot in dots])
    return sorted({(dot.x, dot.y) for dot, is_on_front in zip(dots, flags, strict=True) if is_on_front})


def precisions(sensitivity: Sensitivity) -> list[str]:
    """Every precision tried, in the order met: the order of the colours."""
    return list(dict.fromkeys(each.precision for each in sensitivity.layers))


def measures_accuracy(sensitivity: Sensitivity) -> bool:
    """Whether accuracy was counted; else the picture is of the divergence."""
    return any(each.change is not None for each in sensitivity.layers)


def sensitivity_bars(sensitivity: Sensitivity) -> Markup | None:
    """What each layer lost in each precision: accuracy in percentage points, or else the divergence in nats."""
    colours = precisions(sensitivity)
    counts = measures_accuracy(sensitivity)
    groups = []
    for layer, cases in groupby(sensitivity.layers, key=lambda each: each.layer):
        drawn = [_loss_bar(case, colours.index(case.precision), counts) for case in cases]
        groups.append(BarGroup(layer, tuple(bar for bar in drawn if bar is not None)))
    ends = [end for group in groups for bar in group.bars for end in (bar.value, bar.low, bar.high) if end is not None]
    if not ends:
        return None
    title, write = ("accuracy lost, percentage points", points) if counts else ("divergence, nats", small)
    axis = axis_over(title, [*ends, max(ends) * _ROOM_FOR_TEXT], write, from_zero=True)
    return bars(groups, axis, "What each layer loses in each precision")


def _loss_bar(case: LayerSensitivity, place: int, counts_accuracy: bool) -> Bar | None:
    if not counts_accuracy:
        if case.divergence_nats is None:
            return None
        return Bar(case.divergence_nats, f"{case.precision} {small(case.divergence_nats)}", place)
    if case.change is None:
        return None
    loss = -case.change.value
    return Bar(loss, f"{case.precision} {points(loss)}", place, None, -case.change.high, -case.change.low)


def kept_bars(pruning: Pruning) -> Markup | None:
    """Heads and channels that each layer kept, over those it had."""
    if not pruning.layers:
        return None
    groups = []
    for each in pruning.layers:
        heads = each.heads_kept / max(1, each.heads_before)
        channels = each.channels_kept / max(1, each.channels_before)
        written = (
            f"{count(each.heads_kept)} of {count(each.heads_before)}",
            f"{count(each.channels_kept)} of {count(each.channels_before)}",
        )
        groups.append(BarGroup(each.layer, (Bar(heads, written[0], 0, 1.0), Bar(channels, written[1], 1, 1.0))))
    return bars(groups, axis_over("", [0.0, _ROOM_FOR_TEXT], percent, from_zero=True), "What each layer kept")


def loss_curves(distillation: Distillation) -> Markup | None:
    """Training and validation loss, epoch by epoch."""
    epochs = distillation.epochs
    training = tuple((float(each.number), each.training_loss) for each in epochs)
    validation = tuple(
        (float(each.number), each.validation_loss) for each in epochs if each.validation_loss is not None
    )
    lines = [
        Curve(name, line, place)
        for place, (name, line) in enumerate((("training", training), ("validation", validation)))
    ]
    return _curves([line for line in lines if line.points], "loss", small, True)


def accuracy_curve(distillation: Distillation) -> Markup | None:
    """Accuracy after each epoch."""
    scored = [each for each in distillation.epochs if each.accuracy is not None]
    shares = [each.accuracy.share for each in scored if each.accuracy is not None]
    if not scored or scored[0].accuracy is None:
        return None
    part = scored[0].accuracy.part.value
    line = tuple((float(each.number), share.value) for each, share in zip(scored, shares, strict=True))
    curve = Curve(part, line, 1, tuple((share.low, share.high) for share in shares))
    return _curves([curve], f"accuracy on {part} texts, %", lambda value: f"{value * 100:g}", False)


def _curves(lines: Sequence[Curve], title: str, write: Callable[[float], str], from_zero: bool) -> Markup | None:
    places = [place for line in lines for place in line.points]
    if not places:
        return None
    highest = max(x for x, _ in places)
    across = axis_over("epoch", [x for x, _ in places], lambda value: f"{value:g}", min(8, int(highest)) or 1)
    reached = [y for _, y in places] + [end for line in lines for reach in line.reaches for end in reach]
    up = axis_over(title, reached, write, from_zero=from_zero)
    return curves(lines, across, up, f"{title}, epoch by epoch")
