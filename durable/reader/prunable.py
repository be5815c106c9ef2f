"""Which runs could be removed: facts only, the choice is `durable prune`'s."""

from __future__ import annotations

from typing import Final

from durable.reader.journal import JournalReader
from durable.reader.model import FlowRun

_FAMILY: Final = """
WITH RECURSIVE family(id) AS (
    VALUES (:a) UNION SELECT r.id FROM family JOIN flow_run AS r ON r.parent_flow_run_id = family.id)
"""
COUNT_TASK_RUNS: Final = _FAMILY + "SELECT count(*) FROM family JOIN task_run AS t ON t.flow_run_id = family.id"
HAS_MEMO: Final = (
    _FAMILY
    + """
SELECT 1 FROM family JOIN task_run AS t ON t.flow_run_id = family.id
JOIN task_run_state AS s ON s.task_run_id = t.id JOIN result AS o ON o.id = s.result_id
WHERE o.cache_key IS NOT NULL LIMIT 1"""
)
# Forks, and the runs they were made of.
FORKS: Final = "SELECT id, forked_from_id FROM flow_run WHERE forked_from_id IS NOT NULL"


def task_runs_of(reader: JournalReader, run: FlowRun) -> int:
    """How many task runs a flow run and its subflows have."""
    ((count,),) = reader.rows(COUNT_TASK_RUNS, run.row)
    return int(count)


def has_memo(reader: JournalReader, run: FlowRun) -> bool:
    """Whether other runs may be about to use a result of this one, by its cache key."""
    return bool(reader.rows(HAS_MEMO, run.row))


def without_originals(reader: JournalReader, runs: list[FlowRun]) -> list[FlowRun]:
    """`runs` without those of which a fork stays: it refers to them, and may still use their results."""
    forks = reader.rows(FORKS)
    chosen = {run.row for run in runs}
    while needed := {original for fork, original in forks if fork not in chosen} & chosen:
        chosen -= needed
    return [run for run in runs if run.row in chosen]
