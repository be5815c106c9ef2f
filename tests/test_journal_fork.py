"""A journal and fork(): the child inherits nothing that could harm the file, and both may go on."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from durable.journal import Entry, open_journal
from durable.journal import statements as sql

pytestmark = [
    pytest.mark.usefixtures("nothing_stays_open"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
]

SETUP = """
import os, sys
from durable.errors import JournalError
from durable.journal import Entry, close_journals, open_journal, statements as sql

def add(journal, name):
    return journal.commit(Entry(True, (sql.ADD_RESULT, (1, 0, None, None, None, name.encode()))))

class Turn:
    # One process waits for another.
    def __init__(self):
        self.read, self.write = os.pipe()
    def give(self):
        os.write(self.write, b"x")
    def wait(self):
        assert os.read(self.read, 1)

def fork(body):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            body()
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    return pid

def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

path = sys.argv[1]
journal = open_journal(path, "power")
add(journal, "parent 1")
sys.stdout.flush()
"""


def run(path, script):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SETUP + script, path],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def marks(path):
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return sorted(payload.decode() for (payload,) in connection.execute("SELECT payload FROM result"))


def test_the_parents_journal_object_writes_nothing_in_the_child_and_goes_on_in_the_parent(tmp_path):
    """A child may unwind through its parent's flow: that must neither fail nor be recorded."""
    said = run(
        tmp_path / "runs.db",
        """
def child():
    add(journal, "never")
    try:
        journal.rows("SELECT 1")
    except JournalError as error:
        print(type(error).__name__)

assert ended(fork(child)) == 0
add(journal, "parent 2")
""",
    )
    assert said.split() == ["JournalFailed"]
    assert marks(tmp_path / "runs.db") == ["parent 1", "parent 2"]


def test_what_a_child_commits_is_in_the_file_whoever_closes_first(tmp_path):
    """SQLite's tables of open files are the process's: inherited, they made a child write into a deleted log."""
    run(
        tmp_path / "runs.db",
        """
begun, go_on = Turn(), Turn()

def child():
    own = open_journal(path, "power")
    assert own is not journal
    add(own, "child 1")
    begun.give()
    go_on.wait()
    for n in range(2, 7):
        add(own, f"child {n}")

pid = fork(child)
begun.wait()
close_journals()

def third():
    another = open_journal(path, "power")
    for n in range(3):
        add(another, f"third {n}")
    close_journals()

assert ended(fork(third)) == 0
go_on.give()
assert ended(pid) == 0
""",
    )
    expected = ["parent 1", *(f"child {n}" for n in range(1, 7)), *(f"third {n}" for n in range(3))]
    assert marks(tmp_path / "runs.db") == sorted(expected)


def test_a_parent_and_its_children_write_at_once(tmp_path):
    run(
        tmp_path / "runs.db",
        """
def child(name):
    own = open_journal(path, "process")
    for n in range(100):
        add(own, f"{name} {n}")
    close_journals()

pids = [fork(lambda name=name: child(name)) for name in ("a", "b", "c")]
for n in range(100):
    add(journal, f"parent-{n}")
assert [ended(pid) for pid in pids] == [0, 0, 0]
add(journal, "parent end")
""",
    )
    expected = [f"{name} {n}" for name in "abc" for n in range(100)] + [f"parent-{n}" for n in range(100)]
    assert marks(tmp_path / "runs.db") == sorted([*expected, "parent 1", "parent end"])


def test_a_grandchild_writes_and_an_orphan_goes_on(tmp_path):
    run(
        tmp_path / "runs.db",
        """
turn, done = Turn(), Turn()

def grandchild():
    turn.wait()
    add(open_journal(path, "power"), "grandchild")
    close_journals()
    done.give()

def child():
    add(open_journal(path, "power"), "child")
    fork(grandchild)

assert ended(fork(child)) == 0
turn.give()
done.wait()
add(journal, "parent 2")
""",
    )
    assert marks(tmp_path / "runs.db") == ["child", "grandchild", "parent 1", "parent 2"]


def test_forking_while_threads_commit_loses_nothing(tmp_path):
    run(
        tmp_path / "runs.db",
        """
import threading, warnings
warnings.simplefilter("ignore")  # Python 3.12 warns of forking with threads

def work(name):
    for n in range(100):
        add(journal, f"{name} {n}")

threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
for thread in threads:
    thread.start()
for n in range(20):
    assert ended(fork(lambda: None)) == 0
for thread in threads:
    thread.join()
""",
    )
    expected = ["parent 1", *(f"{name} {n}" for name in "ab" for n in range(100))]
    assert marks(tmp_path / "runs.db") == sorted(expected)


def test_a_child_of_a_poisoned_parent_writes_nothing_to_that_file(tmp_path):
    """The poisoned connection cannot be closed, so what SQLite knows of the file would cross the fork."""
    said = run(
        tmp_path / "runs.db",
        """
try:
    journal.commit(Entry(True, ("DELETE FROM state_kind", ())))
except JournalError:
    pass

def child():
    add(open_journal(os.path.join(os.path.dirname(path), "other.db"), "power"), "elsewhere")
    try:
        add(open_journal(path, "power"), "never")
    except JournalError as error:
        print(error)

assert ended(fork(child)) == 0
""",
    )
    assert str(tmp_path / "runs.db") in said
    assert marks(tmp_path / "runs.db") == ["parent 1"]
    assert marks(tmp_path / "other.db") == ["elsewhere"]


def test_a_file_replaced_during_a_fork_is_not_written_by_the_old_object(tmp_path):
    said = run(
        tmp_path / "runs.db",
        """
assert ended(fork(lambda: None)) == 0
os.rename(path, path + ".old")
try:
    add(journal, "never")
except JournalError as error:
    print(type(error).__name__)
""",
    )
    assert said.split() == ["JournalFailed"]
    assert marks(tmp_path / "runs.db.old") == ["parent 1"]
    assert not (tmp_path / "runs.db").exists()


def test_multiprocessing_workers_call_tasks(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(
        """
import multiprocessing, sys
from durable import configure, task

configure(journal=sys.argv[1])

@task
def double(n):
    return 2 * n

def work(n):
    return double(n)

if __name__ == "__main__":
    assert double(0) == 0
    with multiprocessing.get_context(sys.argv[2]).Pool(2) as pool:
        assert pool.map(work, range(1, 9)) == [2 * n for n in range(1, 9)]
    assert double(9) == 18
"""
    )
    for method in ("fork", "spawn"):
        path = tmp_path / f"{method}.db"
        done = subprocess.run(
            [sys.executable, script, path, method], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        journal = open_journal(path, "power")
        assert journal.rows("SELECT count(*) FROM task_run") == [(10,)]
        assert journal.rows("SELECT count(*) FROM task_run_state WHERE state = 7") == [(10,)]


def test_starting_a_program_does_not_disturb_the_journal(tmp_path):
    journal = open_journal(tmp_path / "runs.db", "power")
    connection = journal._connection
    subprocess.run([sys.executable, "-c", ""], check=True)
    assert journal._connection is connection
    journal.commit(Entry(True, (sql.ADD_RESULT, (1, 0, None, None, None, b"after"))))
