"""Which task run a person means within one flow run, and whose result a fork's call took."""

from __future__ import annotations

from typing import Final

from durable.reader import queries
from durable.reader.calls import Call
from durable.reader.comparing import Side, members
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
# What a fork would reuse: completed task runs begun before another one, without those that one was called in.
REUSED: Final = (
    _FAMILY
    + """, around(task, flow) AS (
    SELECT parent_id, flow_run_id FROM task_run WHERE id = :b
    UNION SELECT iif(task IS NULL, r.parent_task_run_id, t.parent_id),
                 iif(task IS NULL, r.parent_flow_run_id, t.flow_run_id)
    FROM around LEFT JOIN task_run AS t ON t.id = task LEFT JOIN flow_run AS r ON task IS NULL AND r.id = flow
    WHERE task IS NOT NULL OR flow IS NOT NULL)
SELECT count(*) FROM family JOIN task_run AS t ON t.flow_run_id = family.id
JOIN task_run_state AS s
    ON s.task_run_id = t.id AND s.seq = (SELECT max(seq) FROM task_run_state WHERE task_run_id = t.id)
WHERE s.state IN (7, 8) AND s.result_id IS NOT NULL AND t.id < :b
    AND t.id NOT IN (SELECT task FROM around WHERE task IS NOT NULL)"""
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


class Line:
    """The line of forks that a flow run is the last of."""

    def __init__(self, reader: JournalReader, run: int) -> None:
        self._reader = reader
        self._run = run
        self._matches: dict[int, tuple[int, dict[int, int]]] = {}  # by run: its original, and flow runs of both
        self._side: tuple[tuple[int, int], Side] | None = None

    def origin(self, found: Call) -> int | None:
        """The row of the task run of an earlier run in line that computed the result which a call took; None: none."""
        run, name = self._run, "Cached"
        while name == "Cached":
            original, matches = self._matched(run)
            old = self._equal(found, matches.get(found.flow_run or 0))
            if old is None or old.result != found.result:
                return None
            run, found, name = original, old, self._reader.state(old.state).name
        return found.row

    def _matched(self, run: int) -> tuple[int, dict[int, int]]:
        if run not in self._matches:
            original = self._reader.rows(queries.FLOW_RUN_EXTRAS, run)[0][5]
            both = members(self._reader, original, run) if original is not None and original < run else ()
            self._matches[run] = original or 0, {new: old for old, new in both if old is not None and new is not None}
        return self._matches[run]

    def _equal(self, found: Call, old: int | None) -> Call | None:
        """The same call in another flow run. One side is kept: calls come flow run by flow run."""
        new = found.flow_run
        if old is None or new is None:
            return None
        if self._side is None or self._side[0] != (old, new):
            self._side = (old, new), Side(self._reader, old, new)
        return self._side[1].equal(found)
