-- Format 2: versions, reasons, workers, forks, yielded values, dependencies; a memo's result knows whose it is.
-- The views are made anew after the last migration.

ALTER TABLE flow_run ADD COLUMN version TEXT;
ALTER TABLE flow_run ADD COLUMN forked_from_id INTEGER REFERENCES flow_run;
ALTER TABLE flow_run ADD COLUMN forked_before_id INTEGER REFERENCES task_run;
ALTER TABLE task_run ADD COLUMN version TEXT;
ALTER TABLE task_run ADD COLUMN reason TEXT;
ALTER TABLE task_run ADD COLUMN worker TEXT;
ALTER TABLE result ADD COLUMN task_run_id INTEGER REFERENCES task_run;

-- The one update: results that a memo may find learn whose they are.
DROP TRIGGER result_no_update;
UPDATE result SET task_run_id = s.task_run_id FROM task_run_state AS s
WHERE s.result_id = result.id AND s.state = 7 AND result.cache_key IS NOT NULL;
CREATE TRIGGER result_no_update BEFORE UPDATE ON result
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: result may not be updated'); END;

CREATE TABLE task_run_yield (
    task_run_id INTEGER NOT NULL REFERENCES task_run,
    number      INTEGER NOT NULL CHECK (number > 0),
    at          INTEGER NOT NULL,
    process_id  INTEGER NOT NULL REFERENCES process,
    result_id   INTEGER REFERENCES result,
    PRIMARY KEY (task_run_id, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE task_run_dependency (
    task_run_id INTEGER NOT NULL REFERENCES task_run,
    upstream_id INTEGER NOT NULL REFERENCES task_run,
    argument    TEXT NOT NULL,
    PRIMARY KEY (task_run_id, upstream_id, argument)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER task_run_yield_no_update BEFORE UPDATE ON task_run_yield
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: task_run_yield may not be updated'); END;
CREATE TRIGGER task_run_yield_no_delete BEFORE DELETE ON task_run_yield
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: task_run_yield may not be deleted from'); END;

CREATE TRIGGER task_run_dependency_no_update BEFORE UPDATE ON task_run_dependency
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: task_run_dependency may not be updated'); END;
CREATE TRIGGER task_run_dependency_no_delete BEFORE DELETE ON task_run_dependency
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: task_run_dependency may not be deleted from'); END;
