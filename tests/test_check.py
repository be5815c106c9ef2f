"""`durable check` sees every invariant broken, and none in a journal that durable wrote."""

import json
import re
import sqlite3
from contextlib import closing

import pytest
from operating import durable
from scripts import Script

JOB = """
from durable.cache_policies import INPUTS

@task(retries=2)
def flaky():
    ran("flaky")
    if len(open("ran.log").readlines()) < 3:
        raise ValueError("again")
    return 1

@task(retries=1, retry_delay_seconds=0.001)
def waiting():
    raise ValueError("no")

@task(cache_policy=INPUTS)
def memo(n):
    return n

@task
def outer():
    return memo(1)

@task(timeout_seconds=0.01)
def late():
    time.sleep(30)

@flow
def inner():
    outer()
    die("inner")

@flow
def job():
    flaky()
    for _ in range(2):
        memo(1)
    for failing in (waiting, late):
        try:
            failing()
        except Exception:
            pass
    inner()

if __name__ == "__main__":
    outer()
    job()
"""


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A journal with every kind of history: a crash, a resume, retries, timeouts, memos, a fork and a cancelled run."""
    script = Script(tmp_path_factory.mktemp("sound"))
    script.write(JOB)
    script.killed("inner")
    script.ok()
    made = durable(script, "fork", "runs.db", "-", "--from", "memo").out.strip()
    assert durable(script, "resume", "runs.db", made, DIE="inner").code == -9
    assert durable(script, "cancel", "runs.db", "-").code == 0
    durable(script, "fork", "runs.db", "-", "--from", "memo")
    return script


@pytest.fixture
def damaged(sound, tmp_path):
    """A copy to be broken by SQL, with the triggers in the way gone."""
    script = Script(tmp_path)
    assert durable(sound, "backup", "runs.db", str(script.journal)).code == 0

    def break_by(*statements):
        with closing(sqlite3.connect(script.journal, isolation_level=None)) as connection:
            triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
            connection.execute("PRAGMA ignore_check_constraints = ON")
            for name, _ in triggers:
                connection.execute(f"DROP TRIGGER {name}")
            for statement in statements:
                assert connection.execute(statement).rowcount != 0, "nothing was broken"
            for _, text in triggers:
                connection.execute(text)
        return script

    return break_by


def test_what_durable_wrote_is_sound(sound):
    for options in ((), ("--full",)):
        ended = durable(sound, "check", *options)
        assert ended.code == 0, ended
        assert "BAD" not in ended.out
    states = {state for (state,) in sound.query("SELECT DISTINCT state FROM states")}
    assert states >= {"Completed", "Cached", "Crashed", "Cancelled", "Retrying", "AwaitingRetry", "TimedOut", "Pending"}


def test_the_place_is_told_and_left_as_it_was(sound):
    before = sorted(path.name for path in sound.folder.iterdir())
    found = json.loads(durable(sound, "check", "--json").out)
    assert sorted(path.name for path in sound.folder.iterdir()) == before
    assert found["sound"] is True
    assert found["place"]["sqlite"] == sqlite3.sqlite_version
    assert found["place"]["fsync_seconds"] > 0
    assert found["place"]["pragmas"]["journal_mode"] == "wal"
    assert found["place"]["live_runs"] == []
    assert {each["name"] for each in found["checks"]} >= {"structure", "append-only", "task histories", "results"}


SOME = "(SELECT min(task_run_id) FROM task_run_state WHERE state = 7)"
BREAKS = {
    "a gap": (f"UPDATE task_run_state SET seq = 5 WHERE task_run_id = {SOME}", "transition 1 is missing, 5 is there"),
    "illegal": (f"UPDATE task_run_state SET state = 9 WHERE task_run_id = {SOME}", "RolledBack may not follow"),
    "illegal flow": ("UPDATE flow_run SET state = 12", "flow run 1 begins with state 12"),
    "unknown": (f"UPDATE task_run_state SET state = 99 WHERE task_run_id = {SOME}", "99 may not follow Running"),
    "no exception": ("UPDATE task_run_state SET result_id = NULL WHERE state = 11", "TimedOut without a result"),
    "no origin": ("UPDATE task_run_state SET result_id = NULL WHERE state = 8", "Cached without a result"),
    "lost result": (f"DELETE FROM result WHERE id = (SELECT result_id FROM task_run_state WHERE task_run_id = {SOME})",
                    "its result"),
    "wrong format": ("UPDATE result SET format = 1 WHERE format = 3", "has a result of format 1"),
    "bytes": ("UPDATE result SET payload = CAST(payload || x'00' AS BLOB) WHERE id = 2",
              "result 2: its bytes do not match"),
    "time": (f"UPDATE task_run_state SET at = -5 WHERE task_run_id = {SOME}", "its time is -5"),
    "reference": ("UPDATE task_run SET task_id = 777 WHERE id = 1", "it names a row of task that is missing"),
    "order": ("UPDATE task_run SET parent_id = id WHERE id = 3", "is recorded before what called it"),
    "names": ("UPDATE state_kind SET name = 'Done' WHERE code = 7", "state 7 is not Completed there"),
    "parts": ("UPDATE task SET parts = 'x' WHERE id = 1", "its tags or its source's parts are not JSON"),
    "yields": ("INSERT INTO task_run_yield VALUES (1, 2, 0, 1, NULL)", "yielded value 1 is missing, 2 is there"),
    "later": ("UPDATE task_run_state SET result_id = 1 WHERE seq = 2 AND result_id > 1", "is no later than"),
}  # fmt: skip


@pytest.mark.parametrize("broken", BREAKS)
def test_every_break_is_seen(damaged, broken):
    statement, message = BREAKS[broken]
    script = damaged(statement)
    ended = durable(script, "check")
    assert ended.code == 5, ended
    assert message in ended.out
    assert "Traceback" not in ended.err


def test_a_missing_or_weakened_trigger_is_seen(damaged):
    script = damaged()
    with closing(sqlite3.connect(script.journal)) as connection:
        connection.execute("DROP TRIGGER result_no_update")
        connection.execute("DROP TRIGGER task_no_update")
        connection.execute("CREATE TRIGGER task_no_update BEFORE UPDATE ON task BEGIN SELECT 1; END")
        connection.commit()
    ended = durable(script, "check")
    assert ended.code == 5
    assert "the trigger result_no_update is missing" in ended.out
    assert "the trigger task_no_update is not the schema's" in ended.out


def test_many_breaks_are_counted_and_some_shown(damaged):
    script = damaged("UPDATE task_run_state SET at = -1", "UPDATE task_run SET at = -1", "UPDATE flow_run SET at = -1",
                     "UPDATE flow_run_state SET at = -1")  # fmt: skip
    found = json.loads(durable(script, "check", "--json").out)
    (tasks,) = [each for each in found["checks"] if each["name"] == "task histories"]
    assert len(tasks["examples"]) == 20 < tasks["found"]
    assert re.search(r"and \d+ more", durable(script, "check").out)


def test_torn_bytes_are_told_without_a_traceback(damaged):
    script = damaged()
    size = script.journal.stat().st_size
    with script.journal.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xa5" * (size // 4))
    ended = durable(script, "check", "--full")
    assert ended.code == 5
    assert "Traceback" not in ended.err + ended.out


def test_what_is_no_journal_is_told(tmp_path):
    script = Script(tmp_path)
    script.journal.write_text("no", encoding="utf-8")
    assert durable(script, "check").code == 3
