"""One risk of one gate, from increases of counts to bounds, alarms and the step to tighten to. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cloud_service.watch.confidence import BetaMixture
from cloud_service.watch.cusum import CusumRule, cusum_rule
from cloud_service.watch.evidence import Counts, step_at
from cloud_service.watch.promise import Promise
from cloud_service.watch.records import (
    GateWatch,
    LabelFigures,
    StepFigures,
    WatchDetail,
    WatchKey,
    WatchState,
)
from cloud_service.watch.settings import CUSUM_SHARE, WatchRules
from shared.types import StepCounts

_ALPHA_WHERE_NONE_IS_PROMISED = 0.05
_NONE: Counts = (0, 0)


@dataclass(frozen=True)
class RiskIncrease:
    """What was newly judged, by step's threshold and by label."""

    steps: Mapping[float, Counts]
    labels: Mapping[str, Counts]

    @property
    def judges_any(self) -> bool:
        """Whether anything was judged. Steps leave out critical labels, so either may be alone."""
        return bool(self.labels) or any(judged for judged, _ in self.steps.values())


def begun(key: WatchKey, promise: Promise, now_s: int) -> GateWatch:
    """A watch that has seen nothing under what is in force now."""
    return GateWatch(
        key,
        promise.state(key.kind),
        promise.alphas.get(key.kind),
        promise.threshold,
        detail=WatchDetail(promise.policy_id),
        since_s=now_s,
        updated_s=now_s,
    )


def after(watch: GateWatch, promise: Promise, increase: RiskIncrease, rules: WatchRules, now_s: int) -> GateWatch:
    """The watch once `increase` was judged. Where all is escalated nothing more is counted."""
    if watch.state is WatchState.UNCERTIFIED or not (increase.steps or increase.labels):
        return watch
    thresholds = _thresholds(watch, promise, increase)
    alpha = watch.alpha or _ALPHA_WHERE_NONE_IS_PROMISED
    mixture = BetaMixture.around(alpha)
    before = {step.threshold: (step.judged, step.wrong) for step in watch.steps}
    steps = _figures(mixture, thresholds, _sums(thresholds, before, increase.steps), rules.delta)
    watch = replace(
        watch,
        steps=steps,
        labels=_labels(watch, promise, increase.labels, mixture, rules.delta),
        updated_s=now_s,
    )
    if steps:
        last = steps[-1]
        watch = replace(watch, judged=last.judged, wrong=last.wrong, lower=last.lower, upper=last.upper)
    return _summed(watch, thresholds, increase.steps, rules) if watch.alpha is not None else watch


def is_alarming(watch: GateWatch, rules: WatchRules) -> bool:
    """Whether the risk in force is shown to be over its alpha: by the sum, or by the confidence sequence."""
    if watch.alpha is None or watch.state is WatchState.UNCERTIFIED:
        return False
    return has_risen(watch) or _is_over(watch, watch.alpha, rules)


def has_risen(watch: GateWatch) -> bool:
    """Whether the sum says that the risk rose."""
    return 0 < watch.cusum_limit <= watch.cusum


def lower_bound(watch: GateWatch, rules: WatchRules) -> float:
    """The time-uniform lower bound that the alarm looks at."""
    mixture = BetaMixture.around(watch.alpha or _ALPHA_WHERE_NONE_IS_PROMISED)
    return mixture.lower_bound(watch.wrong, watch.judged, _sequence_level(rules))


def step_to_tighten_to(watch: GateWatch, rules: WatchRules) -> float | None:
    """The loosest stricter step whose risk is at most alpha by its upper bound; None where audits show none.

    Where the sum raised the alarm, what is counted is what came since the sum was last zero. That is where the evidence
    against the gate begins, so it tends to show the steps worse than they are, never better. Delta is shared by
    the steps looked at.
    """
    if watch.alpha is None:
        return None
    counted: Iterable[StepCounts | StepFigures] = watch.detail.window if has_risen(watch) else watch.steps
    stricter = list(counted)[:-1]
    mixture = BetaMixture.around(watch.alpha)
    for step in reversed(stricter):
        if step.judged and mixture.upper_bound(step.wrong, step.judged, rules.delta / len(stricter)) <= watch.alpha:
            return step.threshold
    return None


def alarmed_labels(watch: GateWatch, promise: Promise) -> tuple[str, ...]:
    """Critical labels whose lower bound is newly over their own alpha. Others are promised nothing of their own."""
    return tuple(
        label
        for label, figures in watch.labels.items()
        if (alpha := promise.critical_alpha(watch.key.kind, label)) is not None
        and not figures.alarmed
        and figures.lower > alpha
    )


def _is_over(watch: GateWatch, alpha: float, rules: WatchRules) -> bool:
    """Whether `lower_bound` is over alpha, without working it out."""
    if watch.wrong <= alpha * watch.judged:
        return False
    evidence = BetaMixture.around(alpha).log_evidence_above(watch.wrong, watch.judged, alpha)
    return float(evidence) >= -math.log(_sequence_level(rules))


def _sequence_level(rules: WatchRules) -> float:
    return rules.delta * (1.0 - CUSUM_SHARE)


def _thresholds(watch: GateWatch, promise: Promise, increase: RiskIncrease) -> list[float]:
    """The steps down to the one in force; of a gate that the cloud does not know, those that were told of."""
    known = promise.steps or sorted({*(step.threshold for step in watch.steps), *increase.steps}, reverse=True)
    if promise.threshold is None:
        return list(known)
    return list(known[: step_at(known, promise.threshold) + 1])


def _sums(thresholds: list[float], before: Mapping[float, Counts], more: Mapping[float, Counts]) -> list[Counts]:
    return [_added(before.get(each, _NONE), more.get(each, _NONE)) for each in thresholds]


def _added(before: Counts, more: Counts) -> Counts:
    return before[0] + more[0], before[1] + more[1]


def _figures(
    mixture: BetaMixture, thresholds: list[float], sums: list[Counts], level: float
) -> tuple[StepFigures, ...]:
    if not thresholds:
        return ()
    lower, upper = mixture.interval([wrong for _, wrong in sums], [judged for judged, _ in sums], level)
    return tuple(
        StepFigures(threshold, judged, wrong, float(low), float(high))
        for threshold, (judged, wrong), low, high in zip(thresholds, sums, lower, upper, strict=True)
    )


def _labels(
    watch: GateWatch, promise: Promise, more: Mapping[str, Counts], mixture: BetaMixture, delta: float
) -> Mapping[str, LabelFigures]:
    """Only those that were judged anew are worked out; delta is shared by all labels of the model."""
    if not more:
        return watch.labels
    before = {label: (figures.judged, figures.wrong) for label, figures in watch.labels.items()}
    names = list(more)
    sums = [_added(before.get(name, _NONE), more[name]) for name in names]
    level = delta / max(1, promise.labels, len({*before, *names}))
    lower, upper = mixture.interval([wrong for _, wrong in sums], [judged for judged, _ in sums], level)
    found = dict(watch.labels)
    for name, (judged, wrong), low, high in zip(names, sums, lower, upper, strict=True):
        alarmed = name in found and found[name].alarmed
        alpha = promise.label_alpha(watch.key.kind, name)
        found[name] = LabelFigures(judged, wrong, float(low), float(high), alpha, alarmed)
    return found


def _summed(watch: GateWatch, thresholds: list[float], more: Mapping[float, Counts], rules: WatchRules) -> GateWatch:
    """The CUSUM of the step in force, and the counts since it was last zero."""
    assert watch.alpha is not None
    rule: CusumRule = cusum_rule(watch.alpha, rules.delta * CUSUM_SHARE, rules.period)
    judged, wrong = more.get(thresholds[-1], _NONE) if thresholds else _NONE
    value = rule.after(int(watch.cusum), judged, wrong)
    before = {step.threshold: (step.judged, step.wrong) for step in watch.detail.window}
    window: tuple[StepCounts, ...] = ()
    if value > 0:
        sums = _sums(thresholds, before, more)
        window = tuple(StepCounts(each, *counts) for each, counts in zip(thresholds, sums, strict=True))
    detail = replace(watch.detail, window=window)
    return replace(watch, cusum=float(value), cusum_limit=float(rule.limit), detail=detail)
