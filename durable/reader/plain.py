"""The calls of a flow run, with the plain ones counted together: what makes a look at a million of them a short one.

Rules:

1. A call is plain if it has nothing to tell but its task, its process and its times: it completed at its first attempt,
   in one process, with a result that no other call looks for, and neither it nor its start says anything. A call in a
   task's body is only plain if what called it is done in the same way.
2. Pages are made by the task runs' numbers. A page is read from `task_run_state`, where the transitions of what began
   together lie together; the plain calls of a page are grouped by SQLite, which sorts no more than a page.
3. What is not plain, and what has fewer than `ALIKE` like it in a page, is handed out by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from durable.reader import queries
from durable.reader.calls import Call, call, calls_between
from durable.reader.journal import JournalReader
from durable.reader.model import Execution

ALIKE: Final = 4  # calls from which on equal ones are counted together, as in a tree
PAGE: Final = 20_000
_SPARSE: Final = 16  # numbers for each task run from which on a page is looked at call by call


class Plain(NamedTuple):
    """Plain calls of one page.

    Attributes:
        task: row of the task they are of; `process`: of the process that executed them.
        nested: they were called in the bodies of tasks.
        number: how many there are.
        first, last: rows of the first and the last of them.
        took: how long they took together.
    """

    task: int
    process: int
    nested: bool
    number: int
    first: int
    last: int
    took: int


_NO_MEMO: Final = "\n    AND (SELECT o.cache_key FROM result AS o WHERE o.id = {s}.result_id) IS NULL"
_FIRST_ONLY: Final = """
    AND NOT EXISTS (SELECT 1 FROM task_run_state AS n WHERE n.task_run_id = {row} AND n.seq = 2)"""
_CALLER_DONE: Final = (
    """
    AND (t.parent_id IS NULL OR t.parent_id < t.id AND EXISTS (
        SELECT 1 FROM task_run_state AS p WHERE p.task_run_id = t.parent_id AND p.seq = 1 AND p.state = 7
        AND p.result_id IS NOT NULL{memo}"""
    + _FIRST_ONLY.format(row="t.parent_id")
    + "))"
)
_IS_PLAIN: Final = """s.seq = 1 AND s.state = 7 AND t.state = 5 AND t.process_id = s.process_id
    AND s.result_id IS NOT NULL AND s.message IS NULL AND s.task_id IS NULL AND t.reason IS NULL{more}"""
# The table of transitions leads: the planner would begin with the task runs, whose order in the file is the same.
_FROM: Final = f"""
FROM task_run_state AS s CROSS JOIN task_run AS t ON t.id = s.task_run_id AND t.flow_run_id = ?
WHERE s.task_run_id BETWEEN ? AND ? AND {_IS_PLAIN}"""
_GROUPS: Final = (
    "SELECT t.task_id, s.process_id, t.parent_id IS NOT NULL, count(*), min(t.id), max(t.id), sum(max(0, s.at - t.at))"
    + _FROM
    + "\nGROUP BY 1, 2, 3"
)
_ROWS: Final = "SELECT t.task_id, s.process_id, t.parent_id IS NOT NULL, t.id" + _FROM
_ARE_PLAIN: Final = "SELECT t.id" + _FROM
AGAIN: Final = """
SELECT 1 FROM task_run_state AS s WHERE s.task_run_id BETWEEN ? AND ? AND s.seq > 1 LIMIT 1"""
MEMOS: Final = "SELECT 1 FROM result WHERE cache_key IS NOT NULL LIMIT 1"
PAGE_END: Final = f"""
SELECT t.id FROM task_run AS t WHERE t.flow_run_id = ? AND t.id > ? ORDER BY t.id LIMIT 1 OFFSET {PAGE - 1}"""
FIRST: Final = "SELECT t.id FROM task_run AS t WHERE t.flow_run_id = ? AND t.id > ? ORDER BY t.id LIMIT 1"
LAST: Final = "SELECT t.id FROM task_run AS t WHERE t.flow_run_id = ? ORDER BY t.id DESC LIMIT 1"
COUNT: Final = "SELECT count(*) FROM task_run AS t WHERE t.flow_run_id = ? AND t.id BETWEEN ? AND ?"


def plain_and_others(
    reader: JournalReader,
    flow_run: int,
    after: int = 0,
    *,
    nested: bool = False,
    without: Collection[int] = (),
) -> Iterator[Plain | Call]:
    """The calls made in a flow run, those in tasks' bodies too, from row `after` on, a page at a time.

    Args:
        nested: a call in a task's body is plain whatever became of its caller.
        without: rows of processes whose calls are all to be told by themselves.
    """
    memos = bool(reader.rows(MEMOS))
    excluded = f"\n    AND s.process_id NOT IN ({', '.join(map(str, without))})" if without else ""
    for low, high in _pages(reader, flow_run, after):
        ((there,),) = reader.rows(COUNT, flow_run, low, high)
        if high - low >= _SPARSE * there:
            yield from calls_between(reader, flow_run, low, high)
            continue
        more = excluded + (_NO_MEMO.format(s="s") if memos else "")
        if reader.rows(AGAIN, low, high):
            more += _FIRST_ONLY.format(row="t.id")
        if not nested:
            more += _CALLER_DONE.format(memo=_NO_MEMO.format(s="p") if memos else "")
        asked = flow_run, low, high
        found = [Plain(*row) for row in reader.rows(_GROUPS.format(more=more), *asked)]
        yield from (one for one in found if one.number >= ALIKE)
        few = {one[:3] for one in found if one.number < ALIKE}
        if few:
            rows = [row for *kind, row in reader.rows(_ROWS.format(more=more), *asked) if tuple(kind) in few]
            yield from (one for row in rows if (one := call(reader, row)) is not None)
        if sum(one.number for one in found) < there:
            plain = {row for (row,) in reader.rows(_ARE_PLAIN.format(more=more), *asked)}
            others = (row for (row,) in reader.rows(queries.ROWS_BETWEEN, flow_run, low, high) if row not in plain)
            yield from (one for row in others if (one := call(reader, row)) is not None)


def recurring(executions: list[Execution]) -> set[int]:
    """Rows of the processes that executed a flow run more than once: which time it was, only the time tells."""
    times = Counter(one.process.row for one in executions)
    return {row for row, number in times.items() if number > 1}


def _pages(reader: JournalReader, flow_run: int, after: int) -> Iterator[tuple[int, int]]:
    """The first and the last number of each page. What a live run adds meanwhile is left out."""
    newest = reader.rows(LAST, flow_run)
    while (first := reader.rows(FIRST, flow_run, after)) and first <= newest:
        ((after,),) = reader.rows(PAGE_END, flow_run, after) or newest
        yield first[0][0], after
