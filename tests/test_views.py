"""The public views: their columns are promised, and they tell what the reader tells."""

import sqlite3
from collections import Counter

import pytest
from inspecting import run_script

from durable.reader import JournalReader, TaskRun, every

COLUMNS = {
    "flow_runs": "id flow function name state state_type started ended executions idempotency_key message "
    "parent_flow_run_id process_row flow_run_row version forked_from",
    "task_runs": "id task function name state state_type started ended seconds attempts occurrence result_bytes "
    "message parent_task_run_row flow_run_row process_row task_run_row version reason worker yielded",
    "states": "run_kind run_id seq state state_type at message process_row result_row run_row",
    "results": "result_row format bytes expires",
    "processes": "process_row pid host started python durable sqlite durability command folder",
    "yields": "task_run_id number at bytes process_row result_row task_run_row",
    "dependencies": "task_run_id upstream_task_run_id argument task_run_row upstream_task_run_row",
}
LATER = {"yields", "dependencies"}  # what the script below has none of


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A journal with all of it: a killed run, resumed and failed, finished, a subflow, tasks in tasks and outside."""
    folder = tmp_path_factory.mktemp("views")
    for how in ("die", "fail", ""):
        run_script(folder, how)
    return folder / "runs.db"


@pytest.fixture
def db(file):
    connection = sqlite3.connect(file)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA trusted_schema = OFF")
    yield connection
    connection.close()


@pytest.mark.parametrize("view", COLUMNS)
def test_the_columns_are_there_and_only_added_to(db, view):
    found = [row["name"] for row in db.execute(f"PRAGMA table_info({view})")]
    promised = COLUMNS[view].split()
    assert found[: len(promised)] == promised
    assert (db.execute(f"SELECT count(*) FROM {view}").fetchone()[0] > 0) is (view not in LATER)


def test_every_view_is_promised_here(db):
    assert {row["name"] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'view'")} == set(COLUMNS)


def test_flow_runs_are_the_readers(db, file):
    with JournalReader(file) as reader:
        viewed = db.execute(
            "SELECT * FROM flow_runs WHERE parent_flow_run_id IS NULL ORDER BY flow_run_row DESC"
        ).fetchall()
        runs = reader.flow_runs(100)
        assert [row["id"] for row in viewed] == [run.id for run in runs] and len(runs) == 1
        for row, run in zip(viewed, runs, strict=True):
            assert (row["flow"], row["function"], row["state"], row["state_type"]) == (
                run.flow,
                run.function,
                run.state,
                run.type,
            )
            assert row["executions"] == run.executions == 3
            assert row["process_row"] == run.process.row
        subflow = db.execute("SELECT * FROM flow_runs WHERE parent_flow_run_id IS NOT NULL").fetchone()
        assert subflow["parent_flow_run_id"] == runs[0].id and subflow["flow"] == "sub"


def test_task_runs_are_the_readers(db, file):
    with JournalReader(file) as reader:
        run = reader.flow_runs(1)[0]
        tasks = {node.first.row: node.first for node in every(reader, run) if isinstance(node.first, TaskRun)}
        viewed = {
            row["task_run_row"]: row for row in db.execute("SELECT * FROM task_runs WHERE flow_run_row IS NOT NULL")
        }
        assert viewed.keys() == tasks.keys() and len(tasks) > 30
        for key, row in viewed.items():
            task = tasks[key]
            assert (row["id"], row["task"], row["state"], row["attempts"]) == (
                task.id,
                task.task,
                task.state,
                task.attempts,
            )
            assert row["result_bytes"] == task.result_bytes
            assert row["seconds"] == pytest.approx(task.took / 1e6)
            assert row["parent_task_run_row"] == task.parent_row
    retried = [row["attempts"] for row in viewed.values() if row["task"] == "load" and row["attempts"] > 1]
    assert retried == [3], "killed, failed, completed"


def test_states_tell_every_transition_in_order(db):
    told = db.execute("SELECT * FROM states WHERE run_kind = 'flow run' ORDER BY run_row, seq").fetchall()
    by_run = {}
    for row in told:
        by_run.setdefault(row["run_row"], []).append(row["state"])
    assert by_run[1] == ["Running", "Crashed", "Running", "Failed", "Running", "Completed"]
    (rows,) = db.execute("SELECT (SELECT count(*) FROM task_run) + (SELECT count(*) FROM task_run_state)").fetchone()
    assert db.execute("SELECT count(*) FROM states WHERE run_kind = 'task run'").fetchone()[0] == rows
    ids = {row[0] for row in db.execute("SELECT id FROM task_runs UNION SELECT id FROM flow_runs")}
    assert {row[0] for row in db.execute("SELECT DISTINCT run_id FROM states")} == ids


def test_results_say_what_they_are_without_the_bytes(db):
    formats = Counter(row["format"] for row in db.execute("SELECT format FROM results"))
    assert formats["exception"] >= 2 and formats["durable"] > 30 and set(formats) <= {"durable", "exception", "pickle"}
    joined = db.execute("SELECT count(*) FROM states JOIN results USING (result_row)").fetchone()[0]
    assert joined == sum(formats.values())


def test_times_are_iso_8601_utc(db):
    for view, column in (
        ("flow_runs", "started"),
        ("task_runs", "started"),
        ("states", "at"),
        ("processes", "started"),
    ):
        (text,) = db.execute(f"SELECT {column} FROM {view} LIMIT 1").fetchone()
        assert len(text) == 24 and text[10] == "T" and text.endswith("Z")


def test_one_runs_tasks_are_found_without_reading_the_others(db):
    plan = [row["detail"] for row in db.execute("EXPLAIN QUERY PLAN SELECT * FROM task_runs WHERE flow_run_row = 1")]
    assert not [step for step in plan if step.startswith("SCAN")], plan
