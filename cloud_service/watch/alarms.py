"""Alarms in words and figures. Pure."""

from __future__ import annotations

from cloud_service.watch.records import AlarmKind, GateAlarm, GateKey, GateWatch, WatchKind
from cloud_service.watch.risk_watch import has_risen
from shared.documents import sha256

_JUDGES = {WatchKind.DISAGREEMENT: "the full model", WatchKind.ERROR: "the true label"}


def risk_alarm(watch: GateWatch, target: float | None, lower: float, now_ms: int) -> GateAlarm:
    """A risk is over its alpha. `target`: the threshold to tighten to (None: everything is escalated)."""
    gate, judge, alpha = watch.key.gate, _JUDGES[watch.key.kind], watch.alpha or 0.0
    window = watch.detail.window[-1] if has_risen(watch) and watch.detail.window else None
    judged, wrong = (window.judged, window.wrong) if window else (watch.judged, watch.wrong)
    since = "since evidence began to gather" if window else "since this gate has been in force"
    consequence = (
        "No stricter step has enough of them to show that it keeps its promise, so everything is escalated"
        if target is None
        else f"The gate keeps answers from {target:.4g} on now"
    )
    text = (
        f"{_place(gate)}: {wrong} of {judged} kept answers that were looked into differed from {judge} {since} "
        f"({wrong / max(judged, 1):.1%}), where at most {alpha:.1%} was promised. {consequence}."
    )
    figures = {
        "alpha": alpha,
        "judged": watch.judged,
        "wrong": watch.wrong,
        "lower": lower,
        "upper": watch.upper,
        "cusum": watch.cusum,
        "cusum_limit": watch.cusum_limit,
        "window_judged": judged,
        "window_wrong": wrong,
        **({} if watch.threshold is None else {"threshold_before": watch.threshold}),
        **({} if target is None else {"threshold_after": target}),
    }
    return GateAlarm(_id(watch, "", now_ms), gate, AlarmKind(watch.key.kind.value), now_ms // 1000, text, "", figures)


def label_alarm(watch: GateWatch, label: str, alpha: float, now_ms: int) -> GateAlarm:
    """A critical label's risk is over its own alpha."""
    gate, figures = watch.key.gate, watch.labels[label]
    text = (
        f"{_place(gate)}: of the kept answers “{label}”, {figures.wrong} of {figures.judged} that were looked into "
        f"differed from {_JUDGES[watch.key.kind]} (at least {figures.lower:.1%}), where at most {alpha:.1%} was "
        "promised."
    )
    told = {
        "alpha": alpha,
        "judged": figures.judged,
        "wrong": figures.wrong,
        "lower": figures.lower,
        "upper": figures.upper,
    }
    return GateAlarm(_id(watch, label, now_ms), gate, AlarmKind.LABEL, now_ms // 1000, text, label, told)


def drift_alarm(watch: GateWatch, now_ms: int) -> GateAlarm:
    """Scores are not distributed as in calibration."""
    gate = watch.key.gate
    text = (
        f"{_place(gate)}: the scores of {watch.judged} requests are not distributed as in calibration "
        f"({watch.lower:.1%} of them lie elsewhere). A warning: what the gate promises was found out on other requests."
    )
    told = {
        "requests": watch.judged,
        "share_moved": watch.lower,
        "log_evidence": watch.cusum,
        "log_evidence_limit": watch.cusum_limit,
    }
    return GateAlarm(_id(watch, "", now_ms), gate, AlarmKind.DRIFT, now_ms // 1000, text, "", told)


def _place(gate: GateKey) -> str:
    return f"{gate.model} {gate.model_version} in ring {gate.ring}"


def _id(watch: GateWatch, label: str, now_ms: int) -> str:
    gate = watch.key.gate
    told = "/".join((gate.model, gate.model_version, gate.gate_digest, gate.ring, watch.key.kind.value, label))
    return f"a{now_ms}-{sha256(told.encode())[:16]}"
