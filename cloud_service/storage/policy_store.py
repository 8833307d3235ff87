"""What an operator changes on the page of risks. Each call is a part of a caller's transaction."""

from __future__ import annotations

from sqlalchemy import Connection, func, insert, select, update

from cloud_service.storage.tables import gate_alarms, gate_policies
from cloud_service.storage.watch_rows import policy_row
from cloud_service.watch.records import IssuedPolicy


def newest_sequence(connection: Connection, ring: str, model: str) -> int:
    """The largest sequence of any policy for this ring and model; 0 where there is none."""
    columns = gate_policies.c
    query = select(func.max(columns.sequence)).where(columns.ring == ring, columns.model == model)
    return connection.execute(query).scalar() or 0


def add_policy(connection: Connection, issued: IssuedPolicy) -> None:
    """Hand a policy to the fleet service, which publishes what is not published yet.

    Raises:
        IntegrityError: another policy took its sequence at the same moment (SQLAlchemy's).
    """
    connection.execute(insert(gate_policies).values(policy_row(issued)))


def acknowledge(connection: Connection, alarm_id: str, by: str, now_s: int) -> bool:
    """Note who has seen an alarm. False where there is none such, or somebody has before."""
    columns = gate_alarms.c
    is_open = (columns.id == alarm_id) & columns.acknowledged_s.is_(None)
    change = update(gate_alarms).where(is_open).values(acknowledged_by=by, acknowledged_s=now_s)
    return connection.execute(change).rowcount == 1
