-- The public views: what sqlite3, sqlite-utils, Datasette and your own queries should read. Columns are only ever added.
-- Ids are text (32 hex digits), times are ISO 8601 UTC, durations are seconds. `*_row` columns join the views fast.

-- One row a flow run, with where it stands now. A run that says Running may have lost its process: `durable inspect` can tell.
CREATE VIEW flow_runs AS
SELECT
    lower(hex(r.key))                                        AS id,
    f.name                                                   AS flow,
    f.function                                               AS function,
    r.name                                                   AS name,
    k.name                                                   AS state,
    k.type                                                   AS state_type,
    strftime('%Y-%m-%dT%H:%M:%fZ', r.at / 1e6, 'unixepoch')  AS started,
    CASE WHEN k.type IN ('COMPLETED', 'FAILED', 'CRASHED', 'CANCELLED')
        THEN strftime('%Y-%m-%dT%H:%M:%fZ', s.at / 1e6, 'unixepoch') END AS ended,
    (SELECT 1 + count(*) FROM flow_run_state AS e WHERE e.flow_run_id = r.id AND e.state = 5) AS executions,
    r.idempotency_key                                        AS idempotency_key,
    s.message                                                AS message,
    (SELECT lower(hex(p.key)) FROM flow_run AS p WHERE p.id = r.parent_flow_run_id) AS parent_flow_run_id,
    coalesce(s.process_id, r.process_id)                     AS process_row,
    r.id                                                     AS flow_run_row,
    r.version                                                AS version,
    (SELECT lower(hex(o.key)) FROM flow_run AS o WHERE o.id = r.forked_from_id) AS forked_from
FROM flow_run AS r
JOIN flow AS f ON f.id = r.flow_id
LEFT JOIN flow_run_state AS s
    ON s.flow_run_id = r.id AND s.seq = (SELECT max(seq) FROM flow_run_state WHERE flow_run_id = r.id)
JOIN state_kind AS k ON k.code = coalesce(s.state, r.state);

-- One row a task run, with where it stands now.
CREATE VIEW task_runs AS
SELECT
    lower(hex(t.key))                                        AS id,
    d.name                                                   AS task,
    d.function                                               AS function,
    t.name                                                   AS name,
    k.name                                                   AS state,
    k.type                                                   AS state_type,
    strftime('%Y-%m-%dT%H:%M:%fZ', t.at / 1e6, 'unixepoch')  AS started,
    CASE WHEN k.type IN ('COMPLETED', 'FAILED', 'CRASHED', 'CANCELLED')
        THEN strftime('%Y-%m-%dT%H:%M:%fZ', s.at / 1e6, 'unixepoch') END AS ended,
    CASE WHEN k.type IN ('COMPLETED', 'FAILED', 'CRASHED', 'CANCELLED')
        THEN (s.at - coalesce(
            (SELECT max(b.at) FROM task_run_state AS b WHERE b.task_run_id = t.id AND b.state IN (5, 6)), t.at)) / 1e6
        END                                                  AS seconds,
    (t.state IN (5, 6)) + (SELECT count(*) FROM task_run_state AS e
        WHERE e.task_run_id = t.id AND e.state IN (5, 6))    AS attempts,
    t.occurrence                                             AS occurrence,
    length(o.payload)                                        AS result_bytes,
    s.message                                                AS message,
    t.parent_id                                              AS parent_task_run_row,
    t.flow_run_id                                            AS flow_run_row,
    coalesce(s.process_id, t.process_id)                     AS process_row,
    t.id                                                     AS task_run_row,
    t.version                                                AS version,
    t.reason                                                 AS reason,
    t.worker                                                 AS worker,
    (SELECT count(*) FROM task_run_yield AS y WHERE y.task_run_id = t.id) AS yielded
FROM task_run AS t
JOIN task AS d ON d.id = t.task_id
LEFT JOIN task_run_state AS s
    ON s.task_run_id = t.id AND s.seq = (SELECT max(seq) FROM task_run_state WHERE task_run_id = t.id)
LEFT JOIN result AS o ON o.id = s.result_id
JOIN state_kind AS k ON k.code = coalesce(s.state, t.state);

-- Every transition of every run, in order within a run. `run_kind` is 'flow run' or 'task run'.
CREATE VIEW states AS
SELECT 'flow run' AS run_kind, lower(hex(r.key)) AS run_id, h.seq, k.name AS state, k.type AS state_type,
       strftime('%Y-%m-%dT%H:%M:%fZ', h.at / 1e6, 'unixepoch') AS at, h.message, h.process_id AS process_row,
       h.result_id AS result_row, r.id AS run_row
FROM (SELECT id AS flow_run_id, 0 AS seq, state, at, process_id, NULL AS result_id, NULL AS message FROM flow_run
      UNION ALL SELECT flow_run_id, seq, state, at, process_id, result_id, message FROM flow_run_state) AS h
JOIN flow_run AS r ON r.id = h.flow_run_id JOIN state_kind AS k ON k.code = h.state
UNION ALL
SELECT 'task run', lower(hex(t.key)), h.seq, k.name, k.type,
       strftime('%Y-%m-%dT%H:%M:%fZ', h.at / 1e6, 'unixepoch'), h.message, h.process_id,
       h.result_id, t.id
FROM (SELECT id AS task_run_id, 0 AS seq, state, at, process_id, NULL AS result_id, NULL AS message FROM task_run
      UNION ALL SELECT task_run_id, seq, state, at, process_id, result_id, message FROM task_run_state) AS h
JOIN task_run AS t ON t.id = h.task_run_id JOIN state_kind AS k ON k.code = h.state;

-- What runs returned or raised, without the bytes.
CREATE VIEW results AS
SELECT id AS result_row,
       CASE format WHEN 1 THEN 'durable' WHEN 2 THEN 'pickle' ELSE 'exception' END AS format,
       length(payload) AS bytes,
       strftime('%Y-%m-%dT%H:%M:%fZ', expires_at / 1e6, 'unixepoch') AS expires
FROM result;

-- The process lifetimes that wrote to this journal.
CREATE VIEW processes AS
SELECT id AS process_row, pid, host, strftime('%Y-%m-%dT%H:%M:%fZ', started_at / 1e6, 'unixepoch') AS started,
       python, durable, sqlite, durability, command, folder
FROM process;

-- What generator tasks yielded, in order, without the bytes.
CREATE VIEW yields AS
SELECT lower(hex(t.key)) AS task_run_id, y.number, strftime('%Y-%m-%dT%H:%M:%fZ', y.at / 1e6, 'unixepoch') AS at,
       length(o.payload) AS bytes, y.process_id AS process_row, y.result_id AS result_row, y.task_run_id AS task_run_row
FROM task_run_yield AS y JOIN task_run AS t ON t.id = y.task_run_id LEFT JOIN result AS o ON o.id = y.result_id;

-- Which task run waited for which, and in which argument it got the other's result.
CREATE VIEW dependencies AS
SELECT lower(hex(t.key)) AS task_run_id, lower(hex(u.key)) AS upstream_task_run_id, d.argument,
       d.task_run_id AS task_run_row, d.upstream_id AS upstream_task_run_row
FROM task_run_dependency AS d JOIN task_run AS t ON t.id = d.task_run_id JOIN task_run AS u ON u.id = d.upstream_id;
