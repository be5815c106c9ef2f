"""Removing whole runs: the only thing that ever deletes from a journal.

Rules:

1. A run goes with its subflows, their task runs, all transitions, yields and dependencies, in one transaction that also
   drops the triggers in the way and makes them anew: nobody else ever sees the file without them.
2. A result goes with the last run that points to it: one that was taken from a cache has several.
3. A transaction holds the write lock, and other processes wait for it: so there are several, each of some whole runs.
"""

from __future__ import annotations

import json
from typing import Final

from durable.journal.entries import Entry, Statement
from durable.journal.journal import Journal

_TABLES: Final = (
    "CREATE TEMP TABLE IF NOT EXISTS gone_flow_run (id INTEGER PRIMARY KEY)",
    "CREATE TEMP TABLE IF NOT EXISTS gone_task_run (id INTEGER PRIMARY KEY)",
    "CREATE TEMP TABLE IF NOT EXISTS gone_result (id INTEGER PRIMARY KEY)",
    "DELETE FROM temp.gone_flow_run",
    "DELETE FROM temp.gone_task_run",
    "DELETE FROM temp.gone_result",
)
_TRIGGERS: Final = """
SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name IN (
    'flow_run', 'flow_run_state', 'task_run', 'task_run_state', 'task_run_yield', 'task_run_dependency', 'result')"""
_CHOOSE: Final = """
INSERT INTO temp.gone_flow_run
WITH RECURSIVE family(id) AS (
    SELECT value FROM json_each(?)
    UNION SELECT r.id FROM family JOIN flow_run AS r ON r.parent_flow_run_id = family.id)
SELECT id FROM family"""
_DELETE: Final = (
    """
INSERT INTO temp.gone_task_run
SELECT t.id FROM temp.gone_flow_run AS g JOIN task_run AS t ON t.flow_run_id = g.id""",
    """
INSERT OR IGNORE INTO temp.gone_result
SELECT s.result_id FROM temp.gone_task_run AS g JOIN task_run_state AS s ON s.task_run_id = g.id
WHERE s.result_id IS NOT NULL
UNION SELECT y.result_id FROM temp.gone_task_run AS g JOIN task_run_yield AS y ON y.task_run_id = g.id
WHERE y.result_id IS NOT NULL
UNION SELECT s.result_id FROM temp.gone_flow_run AS g JOIN flow_run_state AS s ON s.flow_run_id = g.id
WHERE s.result_id IS NOT NULL""",
    """
DELETE FROM task_run_dependency
WHERE task_run_id IN (SELECT id FROM temp.gone_task_run) OR upstream_id IN (SELECT id FROM temp.gone_task_run)""",
    "DELETE FROM task_run_yield WHERE task_run_id IN (SELECT id FROM temp.gone_task_run)",
    "DELETE FROM task_run_state WHERE task_run_id IN (SELECT id FROM temp.gone_task_run)",
    "DELETE FROM flow_run_state WHERE flow_run_id IN (SELECT id FROM temp.gone_flow_run)",
    "DELETE FROM task_run WHERE id IN (SELECT id FROM temp.gone_task_run)",
    "DELETE FROM flow_run WHERE id IN (SELECT id FROM temp.gone_flow_run)",
    # A run that stays may have taken its result from one that goes, and the other way round. The order of the joins is
    # given, because there is no index to go from a result to its transitions: one pass over them.
    """
DELETE FROM temp.gone_result WHERE id IN (
    SELECT s.result_id FROM task_run_state AS s CROSS JOIN temp.gone_result AS g ON g.id = s.result_id
    UNION SELECT s.result_id FROM flow_run_state AS s CROSS JOIN temp.gone_result AS g ON g.id = s.result_id
    UNION SELECT y.result_id FROM task_run_yield AS y CROSS JOIN temp.gone_result AS g ON g.id = y.result_id)""",
    "DELETE FROM result WHERE id IN (SELECT id FROM temp.gone_result)",
)
_FORGET: Final = """
UPDATE result SET task_run_id = NULL WHERE id IN (
    SELECT result_id FROM task_run_state WHERE state = 8) AND task_run_id IN (SELECT id FROM temp.gone_task_run)"""


def remove_runs(journal: Journal, roots: list[int]) -> None:
    """Remove the flow runs in rows `roots`, none of them a subflow, in one transaction."""
    for text in _TABLES:
        journal.rows(text)
    triggers: list[tuple[str, str]] = journal.rows(_TRIGGERS)
    statements: list[Statement] = [(_CHOOSE, (json.dumps(roots),))]
    statements += [(f"DROP TRIGGER {name}", ()) for name, _ in triggers]
    statements += [(text, ()) for text in (*_DELETE, _FORGET)]
    statements += [(text, ()) for _, text in triggers]
    journal.commit(Entry(True, *statements))


def free_bytes(journal: Journal) -> tuple[int, int]:
    """Bytes in pages that nothing uses, and in all pages."""
    ((free,),), ((pages,),), ((size,),) = (
        journal.rows(f"PRAGMA {name}") for name in ("freelist_count", "page_count", "page_size")
    )
    return free * size, pages * size


def vacuum(journal: Journal) -> None:
    """Give free pages back to the file system. The write lock is held all the while."""
    journal.rows("VACUUM")
