"""A journal is created whole or not at all, whoever dies and however many try at once; and what a sync costs."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from durable.errors import JournalBusy, NotAJournal
from durable.journal import close_journals, open_journal, opening, schema

pytestmark = [
    pytest.mark.usefixtures("nothing_stays_open"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes to kill them"),
]


def run(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def schema_of(path):
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA application_id").fetchone() == (schema.APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
        return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name").fetchall()


# Forks children that kill themselves before each line of opening a journal, and opens what they leave. A line that is
# run many times, once a statement of the schema say, counts at the first and the fifth time.
KILL_AT_EVERY_LINE = """
import os, signal, sys
from pathlib import Path
from durable.journal import Entry, close_journals, open_journal, opening, schema
from durable.journal import statements as sql

folder = Path(sys.argv[1])

def killer(number):
    left, times = [number], {}
    def trace(frame, event, argument):
        if frame.f_code.co_filename != opening.__file__ and frame.f_code is not schema.create.__code__:
            return None
        if event == "line":
            place = frame.f_code, frame.f_lineno
            times[place] = times.get(place, 0) + 1
            left[0] -= times[place] in (1, 5)
            if left[0] <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    return trace

def in_a_child(body):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            body()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def create(path, number):
    sys.settrace(killer(number))
    open_journal(path, "power")
    sys.settrace(None)

def again(path):
    journal = open_journal(path, "power")
    assert journal.commit(Entry(True, (sql.ADD_RESULT, (1, 0, None, None, None, b"after")))) == 1
    close_journals()

number = 0
while True:
    number += 1
    path = folder / f"{number}.db"
    died = in_a_child(lambda: create(path, number)) == -signal.SIGKILL
    left = sorted(name.name for name in folder.glob(f"{number}.db*"))
    assert in_a_child(lambda: again(path)) == 0, f"after a kill before line {number}: {left}"
    print(number, died, len(left), path.name in left)
    if not died:
        break
"""


def test_a_kill_at_any_moment_of_the_creation_leaves_a_file_that_opens(tmp_path):
    said = [line.split() for line in run(KILL_AT_EVERY_LINE, tmp_path).splitlines()]
    assert len(said) > 50
    assert said[-1][1] == "False", "the last one was not killed"
    expected = schema_of(tmp_path / f"{len(said)}.db")
    assert len(expected) > 30
    for path in tmp_path.glob("*.db"):
        assert schema_of(path) == expected, path
    assert {there for _, died, _, there in said if died == "True"} == {"False", "True"}, (
        "killed before and after its birth"
    )
    assert any(int(count) > 1 for _, died, count, _ in said if died == "True"), "killed with something half made"
    left = {path.name for path in tmp_path.glob("*.new*")}
    assert not left, "what a killed process left is cleared away by the next"


MANY_AT_ONCE = """
import os, sys
from durable.journal import Entry, close_journals, open_journal
from durable.journal import statements as sql

path, count = sys.argv[1], int(sys.argv[2])
read, write = os.pipe()
pids = []
for number in range(count):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.close(write)
            os.read(read, 1)  # returns when the parent closes its end: all start together
            journal = open_journal(path, "power")
            journal.commit(Entry(True, (sql.ADD_RESULT, (1, 0, None, None, None, b"%d" % number))))
            close_journals()
            code = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    pids.append(pid)
os.close(write)
assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * count
"""


@pytest.mark.parametrize("attempt", range(4))
def test_sixteen_processes_create_one_journal_at_once(tmp_path, attempt):
    path = tmp_path / "runs.db"
    run(MANY_AT_ONCE, path, 16)
    assert len(schema_of(path)) > 30
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM result").fetchone() == (16,)
        assert connection.execute("SELECT count(*) FROM state_kind").fetchone() == (len(schema.STATES),)
    # Now: two that close at once each take the other for a user of the log, and SQLite leaves it.
    assert [file.name for file in tmp_path.iterdir()] == ["runs.db"]


def test_the_schema_is_in_the_file_itself_before_the_first_task(tmp_path):
    """A power cut may take the log; it must not take the schema."""
    open_journal(tmp_path / "runs.db", "process")
    copy = tmp_path / "copy" / "runs.db"
    copy.parent.mkdir()
    copy.write_bytes((tmp_path / "runs.db").read_bytes())  # without the log
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
        assert connection.execute("SELECT count(*) FROM state_kind").fetchone() == (len(schema.STATES),)


def test_the_schema_is_created_under_full_whatever_the_durability(tmp_path, monkeypatch):
    levels, create = [], schema.create

    def watched(connection):
        levels.append(connection.execute("PRAGMA synchronous").fetchone()[0])
        create(connection)

    monkeypatch.setattr(schema, "create", watched)
    for durability in ("power", "process"):
        open_journal(tmp_path / f"{durability}.db", durability)
    full = 2
    assert levels == [full, full]


# What the kernel is asked for


FIFTY_TASKS = """
import sys
from durable import configure, flow, task

configure(journal=sys.argv[1], durability=sys.argv[2])

@task
def step(n):
    return n

@flow
def job(count):
    for n in range(count):
        step(n)

job(int(sys.argv[3]))
"""


def syncs(path, durability, count):
    trace = path.with_suffix(".strace")
    command = ["strace", "-f", "-e", "trace=fsync,fdatasync", "-o", trace, sys.executable, "-c", FIFTY_TASKS]
    done = subprocess.run([*command, path, durability, str(count)], capture_output=True, text=True, check=False)
    if done.returncode and "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    return len(re.findall(r"\bf(?:data)?sync\(", trace.read_text()))


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_a_task_is_one_fsync_in_power_and_none_in_process(tmp_path):
    base = {durability: syncs(tmp_path / f"{durability}-0.db", durability, 0) for durability in ("power", "process")}
    fifty = {durability: syncs(tmp_path / f"{durability}-50.db", durability, 50) for durability in ("power", "process")}
    assert fifty["power"] - base["power"] == 50
    assert fifty["process"] - base["process"] == 0


def test_who_had_the_empty_file_open_does_not_delete_the_log_of_the_journal_it_becomes(tmp_path):
    """SQLite deletes what is named like the log of a file that is empty, and an inode that lost its name stays so."""
    path = tmp_path / "runs.db"
    script = """
import sqlite3, sys
other = sqlite3.connect(sys.argv[1], isolation_level=None)
assert other.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
print("ready", flush=True)
input()
for _ in range(3):
    print(other.execute("SELECT count(*) > 0 FROM sqlite_master").fetchone()[0], flush=True)
    other.execute("BEGIN IMMEDIATE")
    other.execute("ROLLBACK")
"""
    other = subprocess.Popen(
        [sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "ready\n"
    journal = open_journal(path, "power")
    log = path.with_name("runs.db-wal").stat().st_ino
    assert other.communicate("go\n", timeout=300)[0].split() == ["1", "1", "1"]
    assert path.with_name("runs.db-wal").stat().st_ino == log
    journal.rows("SELECT 1")


@pytest.mark.parametrize("spilled", [True, False])
def test_a_half_filled_file_is_filled_anew(tmp_path, spilled):
    path, whole = tmp_path / "runs.db", tmp_path / "whole.db"
    path.touch()
    script = f"""
import os, signal, sqlite3, sys
from durable.journal import schema
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_spill = {10 if spilled else 0}")
connection.execute("PRAGMA cache_size = 10")
connection.execute("BEGIN EXCLUSIVE")
schema.create(connection)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script, path], check=False).returncode == -9
    assert (path.stat().st_size > 0) == spilled
    open_journal(path, "power")
    open_journal(whole, "power")
    close_journals()
    assert schema_of(path) == schema_of(whole)
    assert sorted(file.name for file in tmp_path.glob("runs.db-*")) == []


def test_an_empty_file_that_another_program_fills_first_is_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "CREATION_SECONDS", 1.0)
    path = tmp_path / "runs.db"
    path.touch()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        other.execute("CREATE TABLE theirs (n)")
        with pytest.raises(JournalBusy, match="writing to the empty file"):
            open_journal(path, "power")
        other.execute("COMMIT")
    with pytest.raises(NotAJournal):
        open_journal(path, "power")
    with closing(sqlite3.connect(path)) as again:
        assert again.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_another_programs_rollback_journal_may_vanish_while_it_is_looked_at(tmp_path, monkeypatch):
    path = tmp_path / "runs.db"
    path.touch()
    rollback = path.with_name("runs.db-journal")
    rollback.write_bytes(b"x" * 512)

    def vanishes(_, *, begun=False):
        if begun:
            rollback.unlink()
        return False

    monkeypatch.setattr(opening, "_rolls_back_to_nothing", vanishes)
    open_journal(path, "power")
    assert not rollback.exists()
    assert not list(tmp_path.glob("*orphan*"))
