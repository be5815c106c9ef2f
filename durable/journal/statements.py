"""Every SQL statement the engine runs, each with a name and a sentence. Layout and life cycle: schema/journal.sql."""

from __future__ import annotations

from typing import Final

# A process lifetime introduces itself, once, with its first write.
ADD_PROCESS: Final = """
INSERT INTO process (pid, host, started_at, python, durable, sqlite, durability, command, folder)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""

# A flow's function, unless it is known.
ADD_FLOW: Final = "INSERT INTO flow (key, name, function) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
FIND_FLOW: Final = "SELECT id FROM flow WHERE key = ?"

# A task's function in one version of its source, unless it is known.
ADD_TASK: Final = """
INSERT INTO task (key, source, name, function, tags, parts) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"""
FIND_TASK: Final = "SELECT id FROM task WHERE key = ? AND source = ?"

# A flow run begins. If its idempotency key was just taken by another process, nothing is inserted.
ADD_FLOW_RUN: Final = """
INSERT INTO flow_run (key, flow_id, parent_flow_run_id, parent_task_run_id, process_id, state, at, parameters,
                      parameters_digest, idempotency_key, name, tags, version)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"""

# The first transition of a flow run just written: a fork reuses a subflow of its original.
ADD_FIRST_FLOW_STATE: Final = """
INSERT INTO flow_run_state (flow_run_id, seq, state, at, process_id, result_id)
VALUES (last_insert_rowid(), 1, ?, ?, ?, ?)"""

# What happens to a flow run next, with or without a result written just before in the same transaction.
ADD_FLOW_STATE: Final = """
INSERT INTO flow_run_state (flow_run_id, seq, state, at, process_id, message) VALUES (?, ?, ?, ?, ?, ?)"""
ADD_FLOW_STATE_WITH_RESULT: Final = """
INSERT INTO flow_run_state (flow_run_id, seq, state, at, process_id, result_id, message)
VALUES (?, ?, ?, ?, ?, last_insert_rowid(), ?)"""

# A task run starts: the row is its first transition. Of most there is less to say. What is NULL in nearly every row is
# left out, not bound: sqlite3 looks for an adapter of each None, and raises errors inside until it has found none.
ADD_PLAIN_TASK_RUN: Final = """
INSERT INTO task_run (key, task_id, flow_run_id, parent_id, process_id, state, at, occurrence, inputs, worker)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
ADD_TASK_RUN: Final = """
INSERT INTO task_run (key, task_id, flow_run_id, parent_id, process_id, state, at, occurrence, inputs, name, tags,
                      version, reason, worker)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

# What happens to a task run next: without a result, with one written just before, with another run's.
ADD_TASK_STATE: Final = """
INSERT INTO task_run_state (task_run_id, seq, state, at, process_id, message) VALUES (?, ?, ?, ?, ?, ?)"""
ADD_TASK_STATE_WITH_RESULT: Final = """
INSERT INTO task_run_state (task_run_id, seq, state, at, process_id, result_id, message)
VALUES (?, ?, ?, ?, ?, last_insert_rowid(), ?)"""
ADD_FIRST_STATE: Final = """
INSERT INTO task_run_state (task_run_id, seq, state, at, process_id, result_id, message)
VALUES (last_insert_rowid(), 1, ?, ?, ?, ?, ?)"""

# What a generator yields next: a value written just before, or one that cannot be recorded.
ADD_YIELD: Final = """
INSERT INTO task_run_yield (task_run_id, number, at, process_id, result_id) VALUES (?, ?, ?, ?, last_insert_rowid())"""
ADD_UNKEPT_YIELD: Final = "INSERT INTO task_run_yield (task_run_id, number, at, process_id) VALUES (?, ?, ?, ?)"
# What a generator has yielded, in order, from one value on.
NEXT_YIELDS: Final = """
SELECT y.number, o.format, o.checksum, o.payload
FROM task_run_yield AS y LEFT JOIN result AS o ON o.id = y.result_id
WHERE y.task_run_id = ? AND y.number >= ? ORDER BY y.number LIMIT ?"""
COUNT_YIELDS: Final = "SELECT coalesce(max(number), 0) FROM task_run_yield WHERE task_run_id = ?"
COUNT_UNKEPT_YIELDS: Final = "SELECT count(*) FROM task_run_yield WHERE task_run_id = ? AND result_id IS NULL"

# What a task run waited for: the upstream by its id, so that one written in the same transaction is found.
ADD_DEPENDENCY: Final = """
INSERT INTO task_run_dependency (task_run_id, upstream_id, argument)
SELECT d.id, u.id, ? FROM task_run AS d, task_run AS u WHERE d.key = ? AND u.key = ? ON CONFLICT DO NOTHING"""

# The bytes a run returned or raised; most are found under no cache key.
ADD_PLAIN_RESULT: Final = "INSERT INTO result (format, checksum, payload) VALUES (?, ?, ?)"
ADD_RESULT: Final = """
INSERT INTO result (format, checksum, cache_key, expires_at, task_run_id, payload) VALUES (?, ?, ?, ?, ?, ?)"""
NEWEST_RESULT: Final = "SELECT coalesce(max(id), 0) FROM result"
FIND_RESULT: Final = "SELECT format, checksum, cache_key, payload, task_run_id FROM result WHERE id = ?"

# The newest result under a cache key whose task run still stands Completed, and the arguments it was computed from.
FIND_CACHED: Final = """
SELECT o.id, o.expires_at, t.inputs, t.id, o.format, o.checksum, o.payload
FROM result AS o
JOIN task_run AS t ON t.id = o.task_run_id
JOIN task_run_state AS s
    ON s.task_run_id = t.id
    AND s.seq = (SELECT seq FROM task_run_state WHERE task_run_id = o.task_run_id ORDER BY seq DESC LIMIT 1)
WHERE o.cache_key = ? AND s.state = 7 AND s.result_id = o.id ORDER BY o.id DESC LIMIT 1"""

# What a memo could have been: the other sources of a task, and its newest calls made elsewhere, among recent ones.
OTHER_SOURCES: Final = "SELECT id, source FROM task WHERE key = ? AND id <> ? ORDER BY id DESC LIMIT 20"
RECENT_INPUTS: Final = """
SELECT t.inputs FROM task_run AS t JOIN task AS d ON d.id = t.task_id
WHERE t.id > (SELECT max(id) - 500 FROM task_run) AND d.key = :a AND t.inputs IS NOT NULL
  AND (:b IS NULL OR t.flow_run_id IS NOT :b)
ORDER BY t.id DESC LIMIT 20"""

FIND_INPUTS: Final = "SELECT inputs FROM task_run WHERE id = ?"
TASK_ROWS: Final = "SELECT id FROM task WHERE key = ?"

# Where task runs stand now: by their identities, or the next of a flow run in the order they began. A result comes
# along unless it is long, for records are read ahead; length() does not read it. The newest transition is found without
# max(), which costs a tenth of the whole: here and for memos it counts.
_TASK_RECORD: Final = """
SELECT t.id, t.key, t.task_id, coalesce(s.seq, 0), coalesce(s.state, t.state), coalesce(s.at, t.at),
       s.result_id, s.message, o.format, o.checksum, CASE WHEN length(o.payload) <= 4096 THEN o.payload END,
       o.cache_key, o.task_run_id
FROM task_run AS t
LEFT JOIN task_run_state AS s
    ON s.task_run_id = t.id
    AND s.seq = (SELECT seq FROM task_run_state WHERE task_run_id = t.id ORDER BY seq DESC LIMIT 1)
LEFT JOIN result AS o ON o.id = s.result_id
"""
FIND_TASK_RUN: Final = _TASK_RECORD + "WHERE t.key = ?"
AT_ONCE: Final = 256  # identities of one query
FIND_TASK_RUNS: Final = f"{_TASK_RECORD}WHERE t.key IN ({', '.join('?' * AT_ONCE)})"
NEXT_TASK_RUNS: Final = _TASK_RECORD + "WHERE t.flow_run_id = ? AND t.id > ? ORDER BY t.id LIMIT ?"

NEWEST_TASK_RUN: Final = "SELECT coalesce(max(id), 0) FROM task_run WHERE flow_run_id = ?"

# A task run's failed attempts since a given result: how many since it last ended well or was rolled back (its retry
# budget spent), and the newest one's result.
FIND_RETRIES: Final = """
SELECT coalesce(sum(seq > coalesce((
    SELECT max(e.seq) FROM task_run_state AS e WHERE e.task_run_id = :a AND e.state IN (7, 8, 9)), 0)), 0),
    coalesce(max(result_id), 0)
FROM task_run_state WHERE task_run_id = :a AND state IN (3, 6) AND result_id > :b"""

# A task run is executed again, from another version of the source than its row names; and which one was the last.
ADD_EXECUTION: Final = """
INSERT INTO task_run_state (task_run_id, seq, state, at, process_id, message, task_id) VALUES (?, ?, ?, ?, ?, ?, ?)"""
FIND_EXECUTED_SOURCE: Final = """
SELECT task_id FROM task_run_state WHERE task_run_id = ? AND task_id IS NOT NULL ORDER BY seq DESC LIMIT 1"""

# The version of the source that a task run's result was computed with.
FIND_COMPUTED_SOURCE: Final = """
SELECT coalesce(
    (SELECT s.task_id FROM task_run_state AS s WHERE s.task_run_id = t.id AND s.task_id IS NOT NULL AND s.seq < (
        SELECT max(c.seq) FROM task_run_state AS c WHERE c.task_run_id = t.id AND c.result_id = ?)
     ORDER BY s.seq DESC LIMIT 1), t.task_id)
FROM task_run AS t WHERE t.id = ?"""

# When a task run began, and in what it was called.
CALLER_OF_TASK: Final = "SELECT flow_run_id, parent_id FROM task_run WHERE id = ?"
CALLER_OF_FLOW: Final = "SELECT parent_flow_run_id, parent_task_run_id FROM flow_run WHERE id = ?"
FIND_BEGUN: Final = "SELECT at FROM task_run WHERE id = ?"

# How often a task run's body has begun.
COUNT_EXECUTIONS: Final = """
SELECT (t.state IN (5, 6)) + (SELECT count(*) FROM task_run_state AS s WHERE s.task_run_id = t.id AND s.state IN (5, 6))
FROM task_run AS t WHERE t.id = ?"""

# The name a task run was given when it began.
FIND_TASK_RUN_NAME: Final = "SELECT name FROM task_run WHERE id = ?"

# A version of a task's source.
FIND_SOURCE: Final = "SELECT source, parts FROM task WHERE id = ?"

# Where flow runs stand now: by id, by idempotency key, or the unfinished ones of one call, newest first.
_FLOW_RECORD: Final = """
SELECT r.id, r.key, r.at, coalesce(s.seq, 0), coalesce(s.state, r.state), coalesce(s.at, r.at), s.result_id,
       p.pid, p.host, p.started_at, s.message, r.parameters_digest, r.name,
       (SELECT o.key FROM flow_run AS o WHERE o.id = r.forked_from_id), r.forked_before_id
FROM flow_run AS r
LEFT JOIN flow_run_state AS s
    ON s.flow_run_id = r.id AND s.seq = (SELECT max(seq) FROM flow_run_state WHERE flow_run_id = r.id)
JOIN process AS p ON p.id = coalesce(s.process_id, r.process_id)
"""
FIND_FLOW_RUN: Final = _FLOW_RECORD + "WHERE r.key = ?"
FIND_FLOW_RUN_BY_IDEMPOTENCY_KEY: Final = _FLOW_RECORD + "WHERE r.flow_id = ? AND r.idempotency_key = ?"
UNFINISHED_FLOW_RUNS: Final = (
    _FLOW_RECORD
    + """WHERE r.flow_id = ? AND r.parameters_digest = ? AND r.parent_flow_run_id IS NULL AND r.idempotency_key IS NULL
  AND coalesce(s.state, r.state) NOT IN (7, 8, 14) AND NOT (r.forked_from_id IS NOT NULL AND s.seq IS NULL)
ORDER BY r.id DESC LIMIT 50"""  # a fork is begun by whoever asks for it, not by the next run of the script
)

# A person's choice of run: at most two, to tell one from several.
CHOOSE_FLOW_RUN: Final = """
SELECT flow_id, parameters_digest, key FROM flow_run WHERE parent_flow_run_id IS NULL AND hex(key) LIKE ? || '%'
LIMIT 2"""

# Whether a flow run is that of an idempotency key.
HAS_IDEMPOTENCY_KEY: Final = "SELECT idempotency_key IS NOT NULL FROM flow_run WHERE id = ?"

# How many failed attempts a flow run has on record since it last ended Failed: its retry budget spent.
COUNT_FLOW_RETRIES: Final = """
SELECT count(*) FROM flow_run_state WHERE flow_run_id = :a AND state IN (3, 6) AND result_id > (
    SELECT coalesce(max(result_id), 0) FROM flow_run_state WHERE flow_run_id = :a AND state IN (10, 11))"""

# The newest failure recorded for a flow run: task failures before it get a new chance.
LAST_FAILURE: Final = (
    "SELECT coalesce(max(result_id), 0) FROM flow_run_state WHERE flow_run_id = ? AND state IN (3, 6, 10, 11)"
)

# When anything was last recorded under a flow run. A long run's last hundred task runs speak for it.
LAST_RECORD: Final = """
SELECT max(at) FROM (
    SELECT max(at) AS at FROM flow_run_state WHERE flow_run_id = :a
    UNION ALL SELECT at FROM flow_run WHERE id = :a
    UNION ALL SELECT max(t.at, coalesce((SELECT max(s.at) FROM task_run_state AS s WHERE s.task_run_id = t.id), 0))
    FROM (SELECT id, at FROM task_run WHERE flow_run_id = :a ORDER BY id DESC LIMIT 100) AS t)"""

# What a resume restores: completed task runs of a flow run and its subflows, and the microseconds they took, among so
# many task runs at most. What was rolled back, or executed again since, does not count.
COUNT_RESTORED: Final = """
WITH RECURSIVE family(id) AS (
    VALUES (?) UNION ALL SELECT r.id FROM flow_run AS r JOIN family ON r.parent_flow_run_id = family.id)
SELECT count(*), coalesce(sum(max(0, s.at - t.at)), 0)
FROM (SELECT t.id, t.at FROM family JOIN task_run AS t ON t.flow_run_id = family.id LIMIT ?) AS t
JOIN task_run_state AS s ON s.task_run_id = t.id AND s.state IN (7, 8)
WHERE NOT EXISTS (SELECT 1 FROM task_run_state AS n WHERE n.task_run_id = s.task_run_id AND n.seq = s.seq + 1)"""

# Whether a task run was rolled back, ever; and whether any was in a flow run.
WAS_ROLLED_BACK: Final = "SELECT EXISTS (SELECT 1 FROM task_run_state WHERE task_run_id = ? AND state = 9)"
HAS_ROLLBACKS: Final = """
SELECT EXISTS (SELECT 1 FROM task_run AS t JOIN task_run_state AS s ON s.task_run_id = t.id AND s.state = 9
               WHERE t.flow_run_id = ?)"""

# For a rollback: the calls made in a flow run (or outside any) after a task run, and the subflows, each with the task
# run whose body made it.
CALLS_IN: Final = "SELECT id, parent_id FROM task_run WHERE flow_run_id IS ? AND id > ? ORDER BY id"
SUBFLOWS_IN: Final = "SELECT id, parent_task_run_id FROM flow_run WHERE parent_flow_run_id = ?"

# For a rollback: where a run stands, what it was before, and what it last returned.
STANDING_TASK_RUN: Final = """
SELECT coalesce(s.seq, 0), coalesce(s.state, t.state),
       (SELECT state FROM task_run_state AS b WHERE b.task_run_id = t.id AND b.seq = s.seq - 1), d.key,
       (SELECT max(c.result_id) FROM task_run_state AS c WHERE c.task_run_id = t.id AND c.state = 7)
FROM task_run AS t
JOIN task AS d ON d.id = t.task_id
LEFT JOIN task_run_state AS s
    ON s.task_run_id = t.id AND s.seq = (SELECT max(seq) FROM task_run_state WHERE task_run_id = t.id)
WHERE t.id = ?"""
STANDING_FLOW_RUN: Final = """
SELECT coalesce(max(s.seq), 0), coalesce((
    SELECT state FROM flow_run_state WHERE flow_run_id = r.id ORDER BY seq DESC LIMIT 1), r.state)
FROM flow_run AS r LEFT JOIN flow_run_state AS s ON s.flow_run_id = r.id WHERE r.id = ?"""

# The newest task run of a flow run and its subflows.
NEWEST_IN_FAMILY: Final = """
WITH RECURSIVE family(id) AS (
    VALUES (?) UNION ALL SELECT r.id FROM flow_run AS r JOIN family ON r.parent_flow_run_id = family.id)
SELECT coalesce(max(t.id), 0) FROM family JOIN task_run AS t ON t.flow_run_id = family.id"""

# A new run with the parameters of another one, whose completed calls it reuses up to a task run. It has not begun.
FORK_FLOW_RUN: Final = """
INSERT INTO flow_run (key, flow_id, process_id, state, at, parameters, parameters_digest, tags, version,
                      forked_from_id, forked_before_id)
SELECT ?, flow_id, ?, ?, ?, parameters, parameters_digest, tags, version, id, ? FROM flow_run WHERE id = ?"""

# The run that a line of forks begins with.
FIRST_OF_LINE: Final = """
WITH RECURSIVE line(id) AS (
    VALUES (?) UNION SELECT r.forked_from_id FROM line JOIN flow_run AS r ON r.id = line.id
    WHERE r.forked_from_id IS NOT NULL)
SELECT r.key FROM line JOIN flow_run AS r ON r.id = line.id ORDER BY r.id LIMIT 1"""
