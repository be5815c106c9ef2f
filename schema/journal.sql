-- The journal of `durable`: one SQLite file that remembers what a batch script did.
--
-- WHAT IT HOLDS. A process opens the journal and is given a row in `process`. It executes flow runs (`flow_run`: one
-- logical execution of a @flow, over as many process lifetimes as it takes) and task runs (`task_run`: one logical call
-- of a @task, inside a flow run or on its own). What happened to them is appended to `flow_run_state` and
-- `task_run_state`; the bytes they returned or raised go to `result`. `flow` and `task` describe the functions, one row
-- for each version of the source that was executed. `state_kind` names the states.
--
-- THE LIFE OF A TASK RUN. Two commits.
--   1. Before the body runs: the `task_run` row. The row is also the run's transition number 0 (columns `state`, `at`,
--      `process_id`), nearly always Running. This commit needs no fsync of its own: a kill keeps it, and a power cut
--      takes it only together with everything after it.
--   2. When the body has ended, before its caller is told: the encoded value or exception in `result`, and a transition
--      (Completed, Failed, ...) that points to it. With durability "power" this commit is synced, and it carries the
--      start with it: one fsync a task.
-- A retry, a crash found later, an execution by another process: each appends transitions with the next `seq`; nothing
-- is ever changed. A run whose newest transition is Running and whose process is gone was in flight when it died.
--
-- GENERATORS. Each value a generator task yields is a row of `task_run_yield` and its bytes one of `result`, committed
-- before its consumer has it (synced every so often: a kill loses none, a power cut the newest few). Completed with a
-- result: the generator was exhausted, and that is what it returned; Completed without one: its consumer closed it.
--
-- WHY A TASK RAN. `task_run.reason` says why nothing recorded was used where there was something to use ('source
-- changed: clean'); NULL means that there was nothing: it had never run. Executed again, the message of its Running
-- transition says why.
--
-- HOW A TASK RUN IS FOUND AGAIN. `task_run.key` is a digest of (where it was called: the flow run or the parent task
-- run, which task, its arguments, how many equal calls came before). The same call in a resumed run has the same key;
-- any other call has another one. `result.cache_key` is set only under a memo policy and finds results across runs.
--
-- INVARIANTS. `durable` writes them, tests hold them, readers may rely on them.
--   I1  Rows are inserted, never updated or deleted (the triggers below refuse it). Only `durable prune` removes whole
--       runs, on request.
--   I2  `seq` counts from 1 without gaps within a run; transition 0 is the run's own row.
--   I3  Every transition is legal by durable/states.py TRANSITIONS.
--   I4  Every Completed transition of a task points to a result, unless the task was asked not to keep it
--       (persist_result=False) or is a generator that was closed early; every Failed, TimedOut, Retrying and AwaitingRetry points to the exception.
--   I5  `result.id` grows with time, whatever the clock says: later facts have larger ids.
--   I6  `result.checksum` is xxh3_64 of `payload` (as a signed integer).
--   I7  `task_run_yield.number` counts from 1 without gaps within a run.
--   I8  Times are whole microseconds since 1970-01-01 UTC, by the clock of the process that wrote them.
--
-- WHO MAY RELY ON WHAT. The views in views.sql are the public interface and keep their columns; these tables may change
-- with `PRAGMA user_version`. Table names are singular, view names plural.

-- The states, so that the file explains itself. Filled from durable/states.py; a test holds the two together.
CREATE TABLE state_kind (
    code INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL
) STRICT;

-- One lifetime of one process that wrote to this journal.
CREATE TABLE process (
    id          INTEGER PRIMARY KEY,
    pid         INTEGER NOT NULL,
    host        TEXT NOT NULL,
    started_at  INTEGER NOT NULL,          -- when it first wrote here
    python      TEXT NOT NULL,             -- version of the interpreter
    durable     TEXT NOT NULL,             -- version of this library
    sqlite      TEXT NOT NULL,             -- version of the SQLite that wrote
    durability  TEXT NOT NULL CHECK (durability IN ('power', 'process')),
    command     TEXT NOT NULL,             -- sys.argv as a JSON array
    folder      TEXT NOT NULL              -- its working directory
) STRICT;

-- A function decorated with @flow.
CREATE TABLE flow (
    id       INTEGER PRIMARY KEY,
    key      BLOB NOT NULL UNIQUE CHECK (length(key) = 16),  -- digest of name and qualified function name
    name     TEXT NOT NULL,
    function TEXT NOT NULL                                   -- module:qualname; __main__ is the script's stem
) STRICT;

-- A function decorated with @task: one row for each source of it that was executed.
CREATE TABLE task (
    id       INTEGER PRIMARY KEY,
    key      BLOB NOT NULL CHECK (length(key) = 16),     -- digest of name, qualified function name and tags
    source   BLOB NOT NULL CHECK (length(source) = 16),  -- digest of its source fingerprint
    name     TEXT NOT NULL,
    function TEXT NOT NULL,                              -- module:qualname; __main__ is the script's stem
    tags     TEXT NOT NULL,                              -- JSON array, sorted
    parts    TEXT NOT NULL,                              -- JSON object: each component of the fingerprint and its digest
    UNIQUE (key, source)
) STRICT;

-- One logical execution of a flow. The row is its transition 0.
CREATE TABLE flow_run (
    id                 INTEGER PRIMARY KEY,
    key                BLOB NOT NULL UNIQUE CHECK (length(key) = 16),  -- the public run id; of a subflow: derived, like a task run's
    flow_id            INTEGER NOT NULL REFERENCES flow,
    parent_flow_run_id INTEGER REFERENCES flow_run,   -- of a subflow: the flow run it was called in
    parent_task_run_id INTEGER REFERENCES task_run,   -- of a subflow called in a task: that task run
    process_id         INTEGER NOT NULL REFERENCES process,
    state              INTEGER NOT NULL REFERENCES state_kind,
    at                 INTEGER NOT NULL,
    name               TEXT,                          -- its run name; NULL: the flow's name and the short id
    parameters         BLOB,                          -- canonical bytes of the bound parameters
    parameters_digest  BLOB NOT NULL CHECK (length(parameters_digest) = 16),
    idempotency_key    TEXT,
    tags               TEXT,                          -- JSON array beyond the flow's own; NULL: none
    version            TEXT,                          -- the flow's version, if it was given one
    forked_from_id     INTEGER REFERENCES flow_run,   -- of a fork: the run whose completed calls it reuses,
    forked_before_id   INTEGER REFERENCES task_run    -- up to, and without, this one
) STRICT;
CREATE INDEX flow_run_by_call ON flow_run (flow_id, parameters_digest) WHERE parent_flow_run_id IS NULL;
CREATE UNIQUE INDEX flow_run_by_idempotency_key ON flow_run (flow_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX flow_run_by_parent ON flow_run (parent_flow_run_id) WHERE parent_flow_run_id IS NOT NULL;

CREATE TABLE flow_run_state (
    flow_run_id INTEGER NOT NULL REFERENCES flow_run,
    seq         INTEGER NOT NULL CHECK (seq > 0),
    state       INTEGER NOT NULL REFERENCES state_kind,
    at          INTEGER NOT NULL,
    process_id  INTEGER NOT NULL REFERENCES process,
    result_id   INTEGER REFERENCES result,
    message     TEXT,
    PRIMARY KEY (flow_run_id, seq)
) STRICT, WITHOUT ROWID;

-- One logical call of a task. The row is its transition 0, and a task needs nothing more to have started.
CREATE TABLE task_run (
    id          INTEGER PRIMARY KEY,
    key         BLOB NOT NULL CHECK (length(key) = 16),  -- its identity and public id
    task_id     INTEGER NOT NULL REFERENCES task,
    flow_run_id INTEGER REFERENCES flow_run,             -- NULL: called outside any flow
    parent_id   INTEGER REFERENCES task_run,             -- the task run whose body made the call
    process_id  INTEGER NOT NULL REFERENCES process,
    state       INTEGER NOT NULL REFERENCES state_kind,
    at          INTEGER NOT NULL,
    occurrence  INTEGER NOT NULL,                        -- 1 for the first of equal calls in one place, 2 for the second, ...
    inputs      BLOB,                                    -- canonical bytes of the bound arguments, long ones as digests
    name        TEXT,                                    -- its run name; NULL: the task's name and the short id
    tags        TEXT,                                    -- JSON array beyond the task's own; NULL: none
    version     TEXT,                                    -- the task's version, if it was given one
    reason      TEXT,                                    -- why nothing recorded was used; NULL: there was nothing
    worker      TEXT                                     -- what executes it, if a task runner does; NULL: its caller
) STRICT;
CREATE UNIQUE INDEX task_run_by_key ON task_run (key);
CREATE INDEX task_run_by_flow_run ON task_run (flow_run_id);

CREATE TABLE task_run_state (
    task_run_id INTEGER NOT NULL REFERENCES task_run,
    seq         INTEGER NOT NULL CHECK (seq > 0),
    state       INTEGER NOT NULL REFERENCES state_kind,
    at          INTEGER NOT NULL,
    process_id  INTEGER NOT NULL REFERENCES process,
    result_id   INTEGER REFERENCES result,
    message     TEXT,
    task_id     INTEGER REFERENCES task,  -- of an execution from another source than the row's: that source, from here on
    PRIMARY KEY (task_run_id, seq)
) STRICT, WITHOUT ROWID;

-- What a run returned or raised. A rowid table, so that long payloads do not fatten the narrow b-trees above.
CREATE TABLE result (
    id         INTEGER PRIMARY KEY,
    format     INTEGER NOT NULL CHECK (format IN (1, 2, 3)),  -- 1: durable's codec, 2: pickle (opt-in), 3: an exception
    checksum   INTEGER NOT NULL,                              -- xxh3_64 of payload, signed
    cache_key  BLOB CHECK (length(cache_key) = 16),           -- under a memo policy, or a checkpoint with more to agree on
    expires_at INTEGER,                                       -- no memo hit from then on; NULL: never expires
    payload    BLOB NOT NULL,
    task_run_id INTEGER REFERENCES task_run                   -- whose it is; only where there is a cache_key
) STRICT;
CREATE INDEX result_by_cache_key ON result (cache_key) WHERE cache_key IS NOT NULL;

-- What a generator task yielded, in order.
CREATE TABLE task_run_yield (
    task_run_id INTEGER NOT NULL REFERENCES task_run,
    number      INTEGER NOT NULL CHECK (number > 0),  -- 1 for the first value
    at          INTEGER NOT NULL,
    process_id  INTEGER NOT NULL REFERENCES process,
    result_id   INTEGER REFERENCES result,            -- NULL: the value could not be recorded
    PRIMARY KEY (task_run_id, number)
) STRICT, WITHOUT ROWID;

-- What a task run waited for: task runs whose futures or states were among its arguments, or in `wait_for`.
CREATE TABLE task_run_dependency (
    task_run_id INTEGER NOT NULL REFERENCES task_run,
    upstream_id INTEGER NOT NULL REFERENCES task_run,
    argument    TEXT NOT NULL,                        -- the parameter's name, or wait_for
    PRIMARY KEY (task_run_id, upstream_id, argument)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER state_kind_no_update BEFORE UPDATE ON state_kind
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: state_kind may not be updated'); END;
CREATE TRIGGER state_kind_no_delete BEFORE DELETE ON state_kind
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: state_kind may not be deleted from'); END;

CREATE TRIGGER process_no_update BEFORE UPDATE ON process
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: process may not be updated'); END;
CREATE TRIGGER process_no_delete BEFORE DELETE ON process
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: process may not be deleted from'); END;

CREATE TRIGGER flow_no_update BEFORE UPDATE ON flow
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: flow may not be updated'); END;
CREATE TRIGGER flow_no_delete BEFORE DELETE ON flow
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: flow may not be deleted from'); END;

CREATE TRIGGER task_no_update BEFORE UPDATE ON task
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: task may not be updated'); END;
CREATE TRIGGER task_no_delete BEFORE DELETE ON task
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: task may not be deleted from'); END;

CREATE TRIGGER flow_run_no_update BEFORE UPDATE ON flow_run
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: flow_run may not be updated'); END;
CREATE TRIGGER flow_run_no_delete BEFORE DELETE ON flow_run
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: flow_run may not be deleted from'); END;

CREATE TRIGGER flow_run_state_no_update BEFORE UPDATE ON flow_run_state
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: flow_run_state may not be updated'); END;
CREATE TRIGGER flow_run_state_no_delete BEFORE DELETE ON flow_run_state
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: flow_run_state may not be deleted from'); END;

CREATE TRIGGER task_run_no_update BEFORE UPDATE ON task_run
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: task_run may not be updated'); END;
CREATE TRIGGER task_run_no_delete BEFORE DELETE ON task_run
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: task_run may not be deleted from'); END;

CREATE TRIGGER task_run_state_no_update BEFORE UPDATE ON task_run_state
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: task_run_state may not be updated'); END;
CREATE TRIGGER task_run_state_no_delete BEFORE DELETE ON task_run_state
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: task_run_state may not be deleted from'); END;

CREATE TRIGGER result_no_update BEFORE UPDATE ON result
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: result may not be updated'); END;
CREATE TRIGGER result_no_delete BEFORE DELETE ON result
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: result may not be deleted from'); END;

CREATE TRIGGER task_run_yield_no_update BEFORE UPDATE ON task_run_yield
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: task_run_yield may not be updated'); END;
CREATE TRIGGER task_run_yield_no_delete BEFORE DELETE ON task_run_yield
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: task_run_yield may not be deleted from'); END;

CREATE TRIGGER task_run_dependency_no_update BEFORE UPDATE ON task_run_dependency
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: task_run_dependency may not be updated'); END;
CREATE TRIGGER task_run_dependency_no_delete BEFORE DELETE ON task_run_dependency
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: task_run_dependency may not be deleted from'); END;
