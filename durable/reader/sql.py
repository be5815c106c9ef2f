"""Every query of the reader, each with a name and a sentence. None sorts or scans a whole table of task runs.

Text is cut where nobody would read on: who made the file may have written millions of characters.
"""

from __future__ import annotations

from typing import Final

# The states, by number, as the file itself explains them.
STATES: Final = "SELECT code, substr(name, 1, 100), substr(type, 1, 100) FROM state_kind"

PROCESS: Final = """
SELECT id, pid, substr(host, 1, 1000), started_at, substr(python, 1, 1000), substr(durable, 1, 1000),
       substr(sqlite, 1, 1000), substr(durability, 1, 1000), substr(command, 1, 1000000), substr(folder, 1, 10000)
FROM process WHERE id = ?"""

# The functions: a few rows each.
FLOWS: Final = "SELECT id, substr(name, 1, 1000), substr(function, 1, 1000) FROM flow"
TASK: Final = "SELECT id, key, substr(name, 1, 1000), substr(function, 1, 1000) FROM task WHERE id = ?"

# Flow runs, without their transitions after the first.
_FLOW_RUN: Final = """
SELECT r.id, r.key, r.flow_id, substr(r.name, 1, 1000), r.state, r.at, r.process_id, r.idempotency_key,
       r.parent_flow_run_id, r.parent_task_run_id
FROM flow_run AS r """
FLOW_RUN: Final = _FLOW_RUN + "WHERE r.id = ?"
FLOW_RUNS_BY_KEY: Final = _FLOW_RUN + "WHERE r.key BETWEEN ? AND ? LIMIT ?"
FLOW_RUNS_SPOKEN: Final = _FLOW_RUN + "WHERE r.key BETWEEN ? AND ? AND r.name IS NULL LIMIT ?"
FLOW_RUNS_NAMED: Final = _FLOW_RUN + "WHERE r.name = ? ORDER BY r.id DESC LIMIT ?"
ROOT_RUNS: Final = _FLOW_RUN + "WHERE r.parent_flow_run_id IS NULL AND r.id < ? ORDER BY r.id DESC LIMIT ?"
# What is called is recorded after its caller. In a damaged file that may not be so, and a walk down must end.
SUBFLOWS: Final = _FLOW_RUN + "WHERE r.parent_flow_run_id = ? AND r.id > ? ORDER BY r.id"

# A flow run's transitions after the first, in order.
FLOW_STATES: Final = """
SELECT state, at, process_id, result_id, substr(message, 1, 100000)
FROM flow_run_state WHERE flow_run_id = ? ORDER BY seq"""

PARAMETERS: Final = "SELECT parameters FROM flow_run WHERE id = ?"

COUNT_ROOT_RUNS: Final = """
SELECT (SELECT count(*) FROM flow_run) - (SELECT count(*) FROM flow_run WHERE parent_flow_run_id IS NOT NULL)"""
COUNT_UNFINISHED: Final = """
SELECT count(*)
FROM (SELECT id, state FROM flow_run WHERE parent_flow_run_id IS NULL ORDER BY id DESC LIMIT 100000) AS r
WHERE coalesce(
    (SELECT state FROM flow_run_state WHERE flow_run_id = r.id ORDER BY seq DESC LIMIT 1), r.state)
    NOT IN (7, 8, 9, 14)"""
COUNT_OUTSIDE: Final = "SELECT count(*) FROM task_run WHERE flow_run_id IS NULL"

# When anything was last recorded under a flow run before a moment. A long run's last hundred task runs speak for it.
LAST_RECORD: Final = """
SELECT max(at) FROM (
    SELECT max(at) AS at FROM flow_run_state WHERE flow_run_id = :a AND at < :b
    UNION ALL SELECT at FROM flow_run WHERE id = :a
    UNION ALL SELECT max(t.at, coalesce(
        (SELECT max(s.at) FROM task_run_state AS s WHERE s.task_run_id = t.id AND s.at < :b), 0))
    FROM (SELECT id, at FROM task_run WHERE flow_run_id = :a AND at < :b ORDER BY id DESC LIMIT 100) AS t)"""

# UNION, not UNION ALL: in a damaged file a run may be its own ancestor.
_FAMILY: Final = """
WITH RECURSIVE family(id) AS (
    VALUES (:a) UNION SELECT r.id FROM family JOIN flow_run AS r ON r.parent_flow_run_id = family.id)
"""
FAMILY: Final = _FAMILY + "SELECT id FROM family"

# The task runs of a flow run and its subflows, counted by where they stand: :b is the process that executes it now.
_COUNTED: Final = """
SELECT count(*), sum(state = 7), sum(state = 8), sum(state IN (10, 11)), sum(state = 12), sum(state = 9),
       sum(state IN (3, 4, 5, 6, 13) AND process = :b), sum(state IN (3, 4, 5, 6, 13) AND process <> :b),
       max(iif(state = 12 OR state IN (3, 4, 5, 6, 13) AND process <> :b, id, NULL)),
       max(iif(state IN (3, 4, 5, 6, 13), id, NULL))
FROM (SELECT t.id AS id, coalesce(s.state, t.state) AS state, coalesce(s.process_id, t.process_id) AS process
    FROM {source}
    LEFT JOIN task_run_state AS s
        ON s.task_run_id = t.id AND s.seq = (SELECT max(seq) FROM task_run_state WHERE task_run_id = t.id))"""
COUNTS: Final = _FAMILY + _COUNTED.format(source="family JOIN task_run AS t ON t.flow_run_id = family.id")
COUNTS_OUTSIDE: Final = _COUNTED.format(source="(SELECT * FROM task_run WHERE flow_run_id IS :a) AS t")

# Task runs as they stand, with all that is shown of one. One that was rolled back had ended before.
_TASK_RUN: Final = """
SELECT t.id, t.key, t.task_id, substr(t.name, 1, 1000), t.state, t.at, t.process_id, t.occurrence, t.inputs,
       t.flow_run_id, t.parent_id,
       s.state, iif(s.state = 9, (SELECT max(b.at) FROM task_run_state AS b WHERE b.task_run_id = t.id AND b.state = 7),
                    s.at), s.process_id, substr(s.message, 1, 100000), s.result_id, length(o.payload),
       (SELECT max(b.at) FROM task_run_state AS b WHERE b.task_run_id = t.id AND b.state IN (5, 6)),
       (SELECT count(*) FROM task_run_state AS b WHERE b.task_run_id = t.id AND b.state IN (5, 6))
FROM task_run AS t
LEFT JOIN task_run_state AS s
    ON s.task_run_id = t.id AND s.seq = (SELECT max(seq) FROM task_run_state WHERE task_run_id = t.id)
LEFT JOIN result AS o ON o.id = s.result_id
"""
TASK_RUN: Final = _TASK_RUN + "WHERE t.id = ?"
TASK_RUNS_BY_KEY: Final = _TASK_RUN + "WHERE t.key BETWEEN ? AND ? LIMIT ?"
TASK_RUNS_OF: Final = _TASK_RUN + "WHERE t.flow_run_id IS ? AND t.id > ? AND t.parent_id IS NULL ORDER BY t.id LIMIT ?"

# The newest task run outside any flow.
LATEST_OUTSIDE: Final = _TASK_RUN + "WHERE t.flow_run_id IS NULL ORDER BY t.id DESC LIMIT 1"

# The transitions of the task runs of a flow run, in the order they began: of all between two numbers, read as they lie
# in the file or found by the index, and of some, whose numbers come in that order.
_TRANSITIONS: Final = "SELECT t.id, t.parent_id, t.task_id, t.state, t.at, t.process_id, s.state, s.at, s.process_id"
_BETWEEN: Final = """
LEFT JOIN task_run_state AS s ON s.task_run_id = t.id
WHERE t.flow_run_id IS ? AND t.id BETWEEN ? AND ? ORDER BY t.id, s.seq"""
TRANSITIONS: Final = f"{_TRANSITIONS} FROM task_run AS t NOT INDEXED {_BETWEEN}"
TRANSITIONS_SPARSE: Final = f"{_TRANSITIONS} FROM task_run AS t {_BETWEEN}"
TRANSITIONS_OF: Final = f"""{_TRANSITIONS}
FROM json_each(?) AS j CROSS JOIN task_run AS t ON t.id = j.value AND t.flow_run_id IS ?
LEFT JOIN task_run_state AS s ON s.task_run_id = t.id"""

# When a task run was called.
BEGAN: Final = "SELECT at FROM task_run WHERE id = ?"

# Which task runs were called in the body of another: of all of a flow run from one on, or between two numbers.
NESTED: Final = "SELECT id, parent_id FROM task_run WHERE flow_run_id IS ? AND id > ? AND parent_id < id ORDER BY id"
CALLERS: Final = """
SELECT parent_id FROM task_run NOT INDEXED WHERE flow_run_id IS ? AND id BETWEEN ? AND ? AND parent_id < id"""
CALLERS_SPARSE: Final = """
SELECT parent_id FROM task_run WHERE flow_run_id IS ? AND id BETWEEN ? AND ? AND parent_id < id"""

RESULT: Final = "SELECT format, length(payload), substr(payload, 1, :b) FROM result WHERE id = :a"

# All of the above: a journal they do not fit is read by its public views.
ALL: Final = tuple(text for name, text in sorted(globals().items()) if name.isupper() and not name.startswith("_"))

# What the public views offer of a journal whose tables are not known here.
_VIEWED_RUN: Final = """
SELECT id, flow, function, state, state_type, started, ended, executions, message, flow_run_row FROM flow_runs """
VIEWED_RUNS: Final = (
    _VIEWED_RUN + "WHERE parent_flow_run_id IS NULL AND flow_run_row < ? ORDER BY flow_run_row DESC LIMIT ?"
)
VIEWED_RUN: Final = _VIEWED_RUN + "WHERE substr(id, 1, length(:a)) = :a LIMIT 2"
VIEWED_TASKS: Final = """
SELECT id, task, state, state_type, started, seconds, attempts, result_bytes, message, task_run_row
FROM task_runs WHERE flow_run_row = ? AND task_run_row > ? ORDER BY task_run_row LIMIT ?"""

# For the report, which also reads journals without the columns of format 2: then NULL stands for them.
_SPANS: Final = """
SELECT t.id, t.parent_id, t.task_id, {worker}, t.state, t.at, t.process_id, s.state, s.at, s.process_id
FROM task_run AS t LEFT JOIN task_run_state AS s ON s.task_run_id = t.id
WHERE t.flow_run_id IS ? ORDER BY t.id, s.seq"""
SPANS: Final = _SPANS.format(worker="t.worker")
SPANS_OF_FORMAT_1: Final = _SPANS.format(worker="NULL")

# What one task run has on record beside where it stands.
REASON: Final = """
SELECT reason, version, worker, (SELECT count(*) FROM task_run_yield WHERE task_run_id = t.id)
FROM task_run AS t WHERE t.id = ?"""
HISTORY: Final = """
SELECT state, at, substr(message, 1, 1000) FROM task_run_state WHERE task_run_id = ? ORDER BY seq LIMIT ?"""

# What waited for what: of one task run, and between the tasks of a flow run.
UPSTREAM: Final = """
SELECT u.id, u.key, d.argument FROM task_run_dependency AS d JOIN task_run AS u ON u.id = d.upstream_id
WHERE d.task_run_id = ? LIMIT ?"""
DEPENDENCIES: Final = """
SELECT t.task_id, u.task_id, substr(d.argument, 1, 100)
FROM task_run AS t JOIN task_run_dependency AS d ON d.task_run_id = t.id JOIN task_run AS u ON u.id = d.upstream_id
WHERE t.flow_run_id = ?"""
