from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from cloud_service.dashboard.offload_address import Dimension
from cloud_service.dashboard.offload_question import OffloadQuestion
from cloud_service.dashboard.ranges import RANGES, Axis, question
from cloud_service.fleet.buckets import DAY_S, HOUR_S, MINUTE_S
from cloud_service.storage.device_reader import DeviceReader
from cloud_service.storage.engine import open_engine
from cloud_service.storage.fleet_reader import FleetReader
from cloud_service.storage.offload_reader import OffloadReader
from cloud_service.storage.risk_reader import RiskReader
from tests.support.full_store import Extent, device_name, fill_store

NOW_S = 1_800_000_000
AXES = tuple(Axis(NOW_S - 40 * width_s, NOW_S, width_s) for width_s in (MINUTE_S, HOUR_S, DAY_S))


@dataclass
class Heard:
    """What was asked of the table of counts, with its parameters."""

    asked: list[tuple[str, Any]] = field(default_factory=list)

    def plans(self, connection: Connection) -> Iterator[tuple[str, str]]:
        """Each step of SQLite's plan that touches that table, with what was asked."""
        for statement, parameters in self.asked:
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters):
                if " counts" in row[3]:
                    yield row[3], statement


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    file: Path = tmp_path_factory.mktemp("plans") / "fleet.sqlite"
    fill_store(file, NOW_S, Extent(3, 2 * MINUTE_S, 2 * HOUR_S, 2 * DAY_S))
    return open_engine(f"sqlite:///{file}", writes=False)


@contextmanager
def listening(engine: Engine) -> Iterator[Heard]:
    heard = Heard()

    def hear(_: Connection, __: Any, statement: str, parameters: Any, ___: Any, ____: bool) -> None:
        if "FROM counts" in statement and not statement.startswith("EXPLAIN"):
            heard.asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", hear)
    yield heard
    event.remove(engine, "before_cursor_execute", hear)


def test_what_lies_outside_the_time_asked_for_costs_a_page_nothing(engine: Engine) -> None:
    """Every look at the counts is a search by width and owner, or by width and time: never through the whole table."""
    with listening(engine) as heard:
        for axis in AXES:
            for by in Dimension:
                assert OffloadReader(engine).read(OffloadQuestion(by, axis)) is not None
            assert DeviceReader(engine).device(device_name(1), axis) is not None
        for shown in RANGES.values():
            asked = question(shown, NOW_S, offline_after_s=60, device_limit=20)
            assert FleetReader(engine).read(asked) is not None
        assert RiskReader(engine).read("", "canary", NOW_S - DAY_S, NOW_S - 60) is not None
    assert len(heard.asked) > 30
    with engine.connect() as connection:
        plans = list(heard.plans(connection))
    assert len(plans) >= len(heard.asked)
    for step, statement in plans:
        assert step.startswith("SEARCH counts USING"), (step, statement)
        assert "width_s=?" in step and ("device_id=?" in step or "starts_s>?" in step), (step, statement)
