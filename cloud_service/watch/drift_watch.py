"""The scores of one gate, from increases of counts to a warning. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from cloud_service.watch.drift import log_evidence_of_drift, share_moved
from cloud_service.watch.promise import Promise
from cloud_service.watch.records import GateWatch
from cloud_service.watch.settings import WatchRules


def after_scores(watch: GateWatch, promise: Promise, scores: Sequence[int], rules: WatchRules, now_s: int) -> GateWatch:
    """The watch once more `scores` [bins] were counted; others than the calibration's bins change nothing."""
    calibration = promise.calibration
    if not scores or len(scores) != len(calibration):
        return watch
    before = watch.detail.scores or (0,) * len(scores)
    seen = tuple(was + more for was, more in zip(before, scores, strict=True))
    moved = share_moved(calibration, seen)
    return replace(
        watch,
        judged=sum(seen),
        lower=moved,
        upper=moved,
        cusum=log_evidence_of_drift(calibration, seen),
        cusum_limit=-math.log(rules.drift_delta),
        detail=replace(watch.detail, scores=seen),
        updated_s=now_s,
    )


def is_drifting(watch: GateWatch) -> bool:
    """Whether the evidence has reached its limit for the first time."""
    return not watch.detail.alarmed and 0 < watch.cusum_limit <= watch.cusum
