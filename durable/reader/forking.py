"""Which task run a person means within one flow run."""

from __future__ import annotations

from typing import Final

from durable.reader.journal import JournalReader
from durable.reader.model import FlowRun, TaskRun

_FAMILY: Final = """
WITH RECURSIVE family(id) AS (
    VALUES (:a) UNION SELECT r.id FROM family JOIN flow_run AS r ON r.parent_flow_run_id = family.id)
"""
# The first call of a task in a flow run or its subflows.
FIRST_OF_NAME: Final = (
    _FAMILY
    + """
SELECT min(t.id) FROM family JOIN task_run AS t ON t.flow_run_id = family.id JOIN task AS d ON d.id = t.task_id
WHERE d.name = :b"""
)
# What a fork would reuse: completed task runs begun before another one.
REUSED: Final = (
    _FAMILY
    + """
SELECT count(*) FROM family JOIN task_run AS t ON t.flow_run_id = family.id
JOIN task_run_state AS s
    ON s.task_run_id = t.id AND s.seq = (SELECT max(seq) FROM task_run_state WHERE task_run_id = t.id)
WHERE s.state IN (7, 8) AND s.result_id IS NOT NULL AND t.id < :b"""
)


def task_run_in(reader: JournalReader, run: FlowRun, wanted: str) -> list[TaskRun]:
    """The task runs of a flow run and its subflows that `wanted` names: the first call of the task of that name, or
    those whose id begins so (a few at most).
    """
    ((first,),) = reader.rows(FIRST_OF_NAME, run.row, wanted)
    if first is not None:
        return [reader.task_run(first)]
    family = set(reader.family(run.row))
    return [found for found in reader.find(wanted) if isinstance(found, TaskRun) and found.flow_run_row in family]


def reused_before(reader: JournalReader, run: FlowRun, task: TaskRun) -> int:
    """How many task runs of `run` a fork made at `task` would reuse."""
    ((count,),) = reader.rows(REUSED, run.row, task.row)
    return int(count)
