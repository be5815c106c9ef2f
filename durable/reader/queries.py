"""The queries behind `why`, `diff`, `result`, `plan` and the page of a task run.

As in `durable.reader.sql`, none sorts or scans a whole table of task runs.
"""

from __future__ import annotations

from typing import Final

# One call as it stands: what is compared of it, and nothing that is as long as its result. durable writes no longer
# arguments; whoever did does not get them read.
_CALL: Final = """
SELECT t.id, t.key, t.task_id, t.flow_run_id, t.parent_id, t.process_id, t.state, t.at, t.occurrence,
       iif(length(t.inputs) <= 65536, t.inputs, NULL), substr(t.reason, 1, 4000),
       s.seq, s.state, s.at, s.process_id, substr(s.message, 1, 4000), s.result_id,
       (SELECT max(b.at) FROM task_run_state AS b WHERE b.task_run_id = t.id AND b.state IN (5, 6)),
       (SELECT x.task_id FROM task_run_state AS x WHERE x.task_run_id = t.id AND x.task_id IS NOT NULL
        ORDER BY x.seq DESC LIMIT 1),
       o.format, o.checksum, o.cache_key, o.expires_at, length(o.payload)
FROM task_run AS t
LEFT JOIN task_run_state AS s
    ON s.task_run_id = t.id AND s.seq = (SELECT max(seq) FROM task_run_state WHERE task_run_id = t.id)
LEFT JOIN result AS o ON o.id = s.result_id
"""
CALL: Final = _CALL + "WHERE t.id = ?"
CALL_BY_KEY: Final = _CALL + "WHERE t.key = ?"
CALLS_OF: Final = _CALL + "WHERE t.flow_run_id = ? AND t.id > ? ORDER BY t.id LIMIT ?"
ROWS_OF_TASK: Final = """
SELECT t.id FROM task_run AS t JOIN task AS d ON d.id = t.task_id
WHERE t.flow_run_id = ? AND t.id > ? AND (d.name = ? OR t.id IN (SELECT value FROM json_each(?)))
ORDER BY t.id LIMIT ?"""
COUNT_CALLS: Final = "SELECT count(*) FROM task_run AS t WHERE t.flow_run_id = ?"
COUNT_AFTER: Final = "SELECT count(*) FROM task_run AS t WHERE t.flow_run_id = ? AND t.id > ?"
ROWS_BETWEEN: Final = "SELECT t.id FROM task_run AS t WHERE t.flow_run_id = ? AND t.id BETWEEN ? AND ? ORDER BY t.id"

# Where a call was made, of what: enough to tell what the same call of another run is called.
IDENTITY: Final = """
SELECT d.key, t.inputs, t.occurrence, t.parent_id FROM task_run AS t JOIN task AS d ON d.id = t.task_id
WHERE t.id = ?"""
WHERE_CALLED: Final = "SELECT flow_run_id FROM task_run WHERE key = ?"

# The transitions of one task run after the first, in order.
TASK_STATES: Final = """
SELECT s.seq, s.state, s.at, s.process_id, substr(s.message, 1, 4000), s.result_id, s.task_id, length(o.payload)
FROM task_run_state AS s LEFT JOIN result AS o ON o.id = s.result_id WHERE s.task_run_id = ? ORDER BY s.seq LIMIT ?"""

# What is written about one task run beside its states.
TASK_RUN_EXTRAS: Final = """
SELECT substr(t.reason, 1, 4000), substr(t.version, 1, 400), substr(t.worker, 1, 400), substr(t.tags, 1, 65536),
       t.process_id, t.state, t.at, t.task_id
FROM task_run AS t WHERE t.id = ?"""
SOURCE: Final = """
SELECT key, source, substr(name, 1, 1000), substr(function, 1, 1000), substr(tags, 1, 65536),
       iif(length(parts) <= 4000000, parts, '{}')
FROM task WHERE id = ?"""

YIELDS: Final = """
SELECT y.number, y.at, y.process_id, y.result_id, length(o.payload)
FROM task_run_yield AS y LEFT JOIN result AS o ON o.id = y.result_id
WHERE y.task_run_id = ? AND y.number > ? ORDER BY y.number LIMIT ?"""
COUNT_YIELDS: Final = "SELECT count(*) FROM task_run_yield WHERE task_run_id = ?"
UPSTREAM: Final = """
SELECT upstream_id, argument FROM task_run_dependency WHERE task_run_id = ? ORDER BY upstream_id, argument LIMIT ?"""
# Nobody indexes who waited for a run. Those who did began after it, in the same flow run, mostly soon.
DOWNSTREAM: Final = """
SELECT d.task_run_id, d.argument
FROM (SELECT id FROM task_run WHERE flow_run_id = :a AND id > :b ORDER BY id LIMIT 100000) AS n
CROSS JOIN task_run_dependency AS d ON d.task_run_id = n.id AND d.upstream_id = :b LIMIT 20"""

# A result without its bytes; whose it is stands behind them, so only what is short, or needed, is asked for it.
RESULT_HEAD: Final = "SELECT format, checksum, cache_key, expires_at, length(payload) FROM result WHERE id = ?"
RESULT_OWNER: Final = "SELECT task_run_id FROM result WHERE id = ?"
RESULT_PART: Final = "SELECT substr(payload, ?, ?) FROM result WHERE id = ?"

# Flow runs: those called in another, the newest earlier one of the same flow, what a fork came from.
CHILDREN: Final = """
SELECT id, key, flow_id, parameters FROM flow_run WHERE parent_flow_run_id = ? AND id > ? ORDER BY id"""
FLOW_RUN_EXTRAS: Final = """
SELECT r.key, r.flow_id, r.parameters, r.parameters_digest, r.version, r.forked_from_id, r.idempotency_key
FROM flow_run AS r WHERE r.id = ?"""
PARAMETERS: Final = "SELECT parameters FROM flow_run WHERE id = ?"
EARLIER_RUN: Final = """
SELECT r.id FROM flow_run AS r WHERE r.id < ? AND +r.flow_id = ? AND r.parent_flow_run_id IS NULL
ORDER BY r.id DESC LIMIT 1"""
NEWEST_RUN_OF: Final = """
SELECT r.id FROM flow_run AS r JOIN flow AS f ON f.id = r.flow_id
WHERE r.parent_flow_run_id IS NULL AND substr(f.function, 1, length(:a)) = :a ORDER BY r.id DESC LIMIT 1"""
LAST_FAILURE: Final = """
SELECT coalesce(max(result_id), 0) FROM flow_run_state WHERE flow_run_id = ? AND state IN (3, 6, 10, 11)"""

# The task runs of a flow run that are called so, or are runs of the task called so.
NAMED: Final = """
SELECT t.id FROM task_run AS t JOIN task AS d ON d.id = t.task_id
WHERE t.flow_run_id IS :a AND (t.name = :b OR d.name = :b) ORDER BY t.id LIMIT 6"""
# For completion: the newest task runs of a flow run.
NEWEST_TASKS: Final = """
SELECT t.key, d.name FROM task_run AS t JOIN task AS d ON d.id = t.task_id
WHERE t.flow_run_id = ? ORDER BY t.id DESC LIMIT ?"""

ALL: Final = tuple(text for name, text in sorted(globals().items()) if name.isupper() and not name.startswith("_"))
