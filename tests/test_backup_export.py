"""`durable backup` and `durable export`: a journal leaves its file whole, whatever is written to it meanwhile."""

import csv
import io
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from operating import durable, in_process
from scripts import Script, finish, query

JOB = """
import decimal

@task
def step(n):
    ran("step", n)
    if n == 1:
        signal_files("one")
    return {"n": n, "at": decimal.Decimal("1.50"), "raw": b"x"}

@task
def bad():
    raise ValueError("<b>\\x1b[31m")

@flow
def inner(n):
    return step(n)

@flow
def job(count: int = 3):
    for n in range(count):
        step(n)
    inner(7)
    try:
        bad()
    except ValueError:
        pass

if __name__ == "__main__":
    step(99)
    job()
"""


@pytest.fixture
def script(tmp_path):
    made = Script(tmp_path)
    made.write(JOB)
    return made


@pytest.fixture
def done(script):
    script.go("one")
    script.ok()
    return script


def test_a_backup_of_a_live_journal_is_one_moment_of_it(script):
    process = script.start()
    script.wait_for("one.here", process)
    ended = durable(script, "backup", "runs.db", "copy.db")
    assert ended.code == 0, ended
    script.go("one")
    assert finish(process).code == 0
    copy = script.folder / "copy.db"
    assert query(copy, "SELECT task, state FROM task_runs ORDER BY task_run_row") == [
        ("step", "Completed"),
        ("step", "Completed"),
        ("step", "Running"),
    ]
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert "copy" in durable(script, "inspect", "copy.db").out
    assert sorted(path.name for path in script.folder.glob("*copy.db*")) == ["copy.db"]
    assert len(query(script.journal, "SELECT 1 FROM task_runs")) == 6, "the writer went on undisturbed"


def test_backups_while_a_writer_never_stops(script):
    script.write("""
        @task
        def step(n):
            return "x" * 2000

        @flow
        def job():
            open("begun.here", "w").close()
            n = 0
            while not os.path.exists("stop.go"):
                step(n)
                n += 1

        job()
    """)
    process = script.start()
    script.wait_for("begun.here", process)
    counts = []
    for number in range(5):
        assert durable(script, "backup", "runs.db", f"copy{number}.db").code == 0
        copy = script.folder / f"copy{number}.db"
        counts.append(query(copy, "SELECT count(*) FROM task_runs")[0][0])
        assert durable(script, "check", f"copy{number}.db", "--full").code == 0
    script.go("stop")
    assert finish(process).code == 0
    assert counts == sorted(counts)


def test_a_backup_replaces_nothing_unless_it_is_told_to(done):
    (done.folder / "copy.db").write_text("precious", encoding="utf-8")
    ended = durable(done, "backup", "runs.db", "copy.db")
    assert ended.code == 3
    assert "is there already" in ended.err
    assert (done.folder / "copy.db").read_text(encoding="utf-8") == "precious"
    assert durable(done, "backup", "runs.db", "copy.db", "--force").code == 0
    assert durable(done, "check", "copy.db").code == 0
    assert "is the journal itself" in durable(done, "backup", "runs.db", "./runs.db", "--force").err
    (done.folder / "live.db-wal").touch()
    assert "may be in use" in durable(done, "backup", "runs.db", "live.db", "--force").err
    assert durable(done, "backup", "runs.db", "no/where.db").code == 2
    assert durable(done, "backup", "nothing.db", "x.db").code == 3
    assert not (done.folder / "x.db").exists()


def test_what_a_killed_backup_left_behind_goes_with_the_next_one(done):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = [f".copy.db.{gone.pid}.backup", f".copy.db.{gone.pid}.backup-journal"]
    others = [f".copy.db.{os.getpid()}.backup", ".copy.db.backup", f".other.db.{gone.pid}.backup"]
    for name in left + others:
        (done.folder / name).touch()
    assert durable(done, "backup", "runs.db", "copy.db").code == 0
    assert not [name for name in left if (done.folder / name).exists()]
    assert all((done.folder / name).exists() for name in others), "a live process's, and what is no backup's"


def test_a_damaged_journal_gives_no_backup(done):
    with done.journal.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096 * 4)
    ended = durable(done, "backup", "runs.db", "copy.db")
    assert ended.code == 5, ended
    assert "it is damaged" in ended.err
    assert not list(done.folder.glob("*copy.db*"))


def test_a_backup_can_be_resumed(script):
    process = script.start()
    script.wait_for("one.here", process)
    durable(script, "backup", "runs.db", "copy.db")
    script.go("one")
    finish(process)
    script.ran()
    script.ok(DURABLE_JOURNAL="copy.db")
    assert script.ran() == ["step 99", "step 1", "step 2", "step 7"], "step 0 is kept"


def test_everything_as_json_lines(done):
    ended = durable(done, "export", "runs.db")
    assert ended.code == 0
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert {line["schema"] for line in lines} == {1}
    flows = [line for line in lines if line["kind"] == "flow_run"]
    tasks = [line for line in lines if line["kind"] == "task_run"]
    states = [line for line in lines if line["kind"] == "state"]
    assert [flow["flow"] for flow in flows] == ["job", "inner"]
    assert flows[0]["arguments"] == {"count": 3}
    assert [task["task"] for task in tasks] == ["step", "step", "step", "bad", "step", "step"]
    assert tasks[0]["arguments"] == {"n": 0}
    assert tasks[0]["result"] == {"n": 0, "at": {"$repr": "Decimal('1.50')"}, "raw": {"$bytes": "eA=="}}
    assert tasks[3]["error"]["type"] == "ValueError"
    assert "\x1b" not in ended.out
    assert [state["state"] for state in states if state["run_id"] == tasks[0]["id"]] == ["Running", "Completed"]
    assert len(states) == 2 * (len(flows) + len(tasks))


def test_one_run_and_one_view(done):
    lines = [json.loads(line) for line in durable(done, "export", "--run", "-").out.splitlines()]
    assert [line["task"] for line in lines if line["kind"] == "task_run"] == ["step", "step", "step", "bad", "step"]
    text = durable(done, "export", "--format", "csv", "--run", "-").out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["task"] for row in rows] == ["step", "step", "step", "step", "bad"]
    for view in ("flow_runs", "task_runs", "states", "results", "processes", "yields", "dependencies"):
        found = durable(done, "export", "--format", "csv", "--view", view)
        assert found.code == 0, found
        assert len(list(csv.DictReader(io.StringIO(found.out)))) == done.query(f"SELECT count(*) FROM {view}")[0][0]
    assert durable(done, "export", "--view", "results").code == 2
    assert durable(done, "export", "--format", "csv", "--view", "results", "--run", "-").code == 2


def test_to_a_file_that_is_not_replaced_by_accident(done):
    assert durable(done, "export", "-o", "out.jsonl").code == 0
    first = (done.folder / "out.jsonl").read_text(encoding="utf-8")
    assert len(first.splitlines()) == 24
    assert durable(done, "export", "-o", "out.jsonl").code == 3
    assert durable(done, "export", "-o", "out.jsonl", "--force").code == 0
    assert durable(done, "export", "-o", "runs.db", "--force").code == 2
    assert durable(done, "check").code == 0


def test_a_reader_that_has_seen_enough_is_no_error(done):
    process = in_process(done, "export")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 0
    process.stderr.close()
