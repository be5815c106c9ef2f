"""What a flow run is executing at the moment."""

from __future__ import annotations

from typing import Final

from durable.reader.journal import JournalReader
from durable.reader.model import FlowRun, TaskRun

# Task runs of a flow run and its subflows without a recorded end, oldest first.
IN_FLIGHT: Final = """
WITH RECURSIVE family(id) AS (
    VALUES (:a) UNION SELECT r.id FROM family JOIN flow_run AS r ON r.parent_flow_run_id = family.id)
SELECT t.id FROM family JOIN task_run AS t ON t.flow_run_id = family.id
LEFT JOIN task_run_state AS s
    ON s.task_run_id = t.id AND s.seq = (SELECT max(seq) FROM task_run_state WHERE task_run_id = t.id)
WHERE coalesce(s.state, t.state) IN (3, 4, 5, 6, 13) ORDER BY t.id LIMIT :b"""


def in_flight(reader: JournalReader, run: FlowRun, limit: int) -> list[TaskRun]:
    """The first `limit` task runs that are being executed."""
    found = (reader.task_run(row) for (row,) in reader.rows(IN_FLIGHT, run.row, limit))
    return [task for task in found if task.status != "lost"]
