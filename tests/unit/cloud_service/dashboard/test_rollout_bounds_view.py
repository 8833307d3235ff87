from __future__ import annotations

import random

from cloud_service.dashboard.rollout_bounds_view import bound_rows
from cloud_service.rollout.judging import fault_of
from cloud_service.rollout.plan import Stage
from cloud_service.rollout.records import FieldFigures, FieldSide, Seen, StageFigures, StageProgress, StageState
from tests.support.rollout_parts import NOW_S, a_plan


def a_side(draw: random.Random) -> FieldSide:
    requests, audited = draw.choice([0, 50, 400, 4000]), draw.choice([0, 20, 400])
    latency_ms = draw.uniform(5.0, 12.0) if requests else None
    return FieldSide(requests, draw.randint(0, requests // 3), latency_ms, audited, draw.randint(0, audited // 2))


def a_stage(draw: random.Random) -> StageProgress:
    committed, failed, under_way = (draw.randint(0, most) for most in (30, 6, 2))
    figures = StageFigures(
        eligible=committed + failed + under_way + draw.randint(0, 4),
        committed=committed,
        failed=failed,
        under_way=under_way,
        crashed=draw.randint(0, failed),
        compared=400,
        disagreed=draw.randint(0, 200),
    )
    opened_s = NOW_S - draw.choice([10, 300])
    return StageProgress(StageState.OPEN, opened_s, figures=figures, forgiven=draw.randint(0, 2))


def test_a_bound_is_shown_as_broken_just_where_the_rollout_is_stopped_by_it() -> None:
    draw = random.Random(7)
    stopped = 0
    for _ in range(600):
        plan = a_plan(Stage("canary", shadow_share=draw.choice([0.0, 0.5])), Stage("canary"))
        progress, field = a_stage(draw), FieldFigures(a_side(draw), a_side(draw))
        fault = fault_of(plan, 0, progress, Seen((progress.figures, StageFigures()), {"canary": field}), NOW_S)
        rows = bound_rows(plan, 0, progress, field, NOW_S)
        assert any(row.verdict == "over" for row in rows) == bool(fault), (fault, rows)
        stopped += bool(fault)
    assert 100 < stopped < 590


def test_what_was_not_counted_yet_breaks_nothing() -> None:
    rows = bound_rows(a_plan(), 0, StageProgress(StageState.OPEN, NOW_S), FieldFigures(), NOW_S)
    assert {row.verdict for row in rows} == {"open"}
