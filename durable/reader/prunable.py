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
# Flow runs with a cached result of a generator, and the flow runs that computed it.
GENERATED: Final = """
SELECT DISTINCT t.flow_run_id, u.flow_run_id
FROM task_run_state AS s JOIN result AS o ON o.id = s.result_id JOIN task_run AS u ON u.id = o.task_run_id
JOIN task_run AS t ON t.id = s.task_run_id
WHERE s.state = 8 AND u.flow_run_id IS NOT NULL
    AND EXISTS (SELECT 1 FROM task_run_yield AS y WHERE y.task_run_id = u.id)"""


def task_runs_of(reader: JournalReader, run: FlowRun) -> int:
    """How many task runs a flow run and its subflows have."""
    ((count,),) = reader.rows(COUNT_TASK_RUNS, run.row)
    return int(count)


def has_memo(reader: JournalReader, run: FlowRun) -> bool:
    """Whether other runs may be about to use a result of this one, by its cache key."""
    return bool(reader.rows(HAS_MEMO, run.row))


def without_needed(reader: JournalReader, runs: list[FlowRun]) -> list[FlowRun]:
    """`runs` without those that one which stays depends on: the original of a fork, and a run whose generator yielded
    what another run has taken from the cache (the values lie with the first).
    """
    root = {member: run.row for run in runs for member in reader.family(run.row)} if runs else {}
    needs = {(root.get(user, user), root[source]) for user, source in reader.rows(FORKS) if source in root}
    needs |= {(root.get(user, user), root[source]) for user, source in reader.rows(GENERATED) if source in root}
    chosen = {run.row for run in runs}
    while needed := {source for user, source in needs if user not in chosen} & chosen:
        chosen -= needed
    return [run for run in runs if run.row in chosen]
