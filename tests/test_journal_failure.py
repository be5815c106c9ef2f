"""A write that fails leaves its outcome unknown: the journal stops, tells everybody, and loses nothing before it."""

import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from durable import configure, settings, task
from durable.errors import JournalFailed
from durable.journal import Entry, close_journals, open_journal
from durable.journal import statements as sql

pytestmark = pytest.mark.usefixtures("nothing_stays_open")

DEADLINE = 60
REFUSED = Entry(True, ("DELETE FROM state_kind", ()))  # the triggers refuse it


@pytest.fixture
def journal(tmp_path):
    return open_journal(tmp_path / "runs.db", "power")


def mark(name):
    return Entry(True, (sql.ADD_RESULT, (1, 0, None, None, None, str(name).encode())))


def marks(path):
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [payload.decode() for (payload,) in connection.execute("SELECT payload FROM result ORDER BY id")]


def refused():
    return Entry(True, *REFUSED.statements)


def test_after_a_failed_write_nothing_more_is_written(journal):
    journal.commit(mark("before"))
    with pytest.raises(JournalFailed, match="append-only") as first:
        journal.commit(refused())
    assert str(journal.path) in str(first.value)
    assert "run the same command again" in str(first.value)
    for _ in range(2):
        with pytest.raises(JournalFailed, match="append-only"):
            journal.commit(mark("after"))
    with pytest.raises(JournalFailed, match="append-only"):
        journal.rows("SELECT 1")
    assert open_journal(journal.path, "power") is journal, "nothing is tried again in this process"
    assert marks(journal.path) == ["before"]


def test_a_failed_write_fails_everybody_in_its_transaction(journal):
    journal.commit(mark("before"))
    with journal._lock:
        pool = ThreadPoolExecutor(5)
        entries = [mark(0), mark(1), refused(), mark(3), mark(4)]
        futures = []
        for n, entry in enumerate(entries):
            futures.append(pool.submit(journal.commit, entry))
            end = time.monotonic() + DEADLINE
            while len(journal._queue) <= n:
                assert time.monotonic() < end
                time.sleep(0.001)
    assert [type(future.exception(DEADLINE)) for future in futures] == [JournalFailed] * 5
    pool.shutdown()
    close_journals()
    assert marks(journal.path) == ["before"]


def test_half_of_an_entry_is_never_there(journal):
    both = Entry(True, *mark("half").statements, *REFUSED.statements)
    with pytest.raises(JournalFailed):
        journal.commit(both)
    assert marks(journal.path) == []


def test_a_failed_query_poisons_as_well(journal):
    with pytest.raises(JournalFailed, match="no such table"):
        journal.rows("SELECT * FROM missing")
    with pytest.raises(JournalFailed, match="no such table"):
        journal.commit(mark("after"))


@pytest.mark.parametrize("left", [0, 50, 4096, 3 * 4096])
def test_a_journal_truncated_in_use_poisons_before_the_next_result(journal, left):
    journal.commit(mark("before"))
    os.truncate(journal.path, left)
    with pytest.raises(JournalFailed, match="truncated while it was in use"):
        journal.commit(mark("after"))
    with pytest.raises(JournalFailed, match="truncated"):
        journal.commit(mark("later"))


def test_a_journal_that_another_process_made_smaller_is_still_that_journal(journal):
    big = Entry(True, (sql.ADD_RESULT, (1, 0, None, None, None, b"x" * 1_000_000)))
    journal.commit(big)
    journal._checkpoint("TRUNCATE")
    journal.commit(mark("grown"))
    pruned = textwrap.dedent("""
        import sqlite3, sys
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)
        triggers = "SELECT name FROM sqlite_master WHERE tbl_name = 'result' AND type = 'trigger'"
        for (name,) in connection.execute(triggers).fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("DELETE FROM result WHERE length(payload) > 1000")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    """)
    before = journal.path.stat().st_size
    subprocess.run([sys.executable, "-c", pruned, str(journal.path)], check=True)
    assert journal.path.stat().st_size < before
    journal.commit(mark("after"))
    close_journals()
    assert marks(journal.path) == ["grown", "after"]


def test_a_poisoned_journal_is_not_checkpointed_when_it_is_closed(journal):
    journal.commit(mark("before"))
    log = journal.path.with_name("runs.db-wal")
    with pytest.raises(JournalFailed):
        journal.commit(refused())
    before = log.read_bytes(), journal.path.read_bytes()
    close_journals()
    assert (log.read_bytes(), journal.path.read_bytes()) == before


def test_a_poisoned_journal_does_not_keep_others_from_writing(journal):
    with pytest.raises(JournalFailed):
        journal.commit(refused())
    with closing(sqlite3.connect(journal.path, timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute(*mark("other").statements[0])
        other.execute("COMMIT")
    assert marks(journal.path) == ["other"]


def test_a_failing_journal_is_not_a_failing_task(journal, monkeypatch):
    """User code is not retried because its result cannot be written."""
    monkeypatch.setattr(settings, "_configured", {})
    configure(journal=journal.path)
    calls = []

    @task(retries=3)
    def step():
        calls.append(1)
        with pytest.raises(JournalFailed):
            journal.commit(refused())
        return 1

    with pytest.raises(JournalFailed):
        step()
    assert calls == [1]
    with pytest.raises(JournalFailed):
        step()
    assert calls == [1], "no start can be committed, so no body runs"


WRITE_UNTIL_IT_FAILS = """
import sys
from durable.errors import JournalFailed
from durable.journal import Entry, close_journals, open_journal, statements as sql
{before}
journal = open_journal(sys.argv[1], "power")
number = 0
{limit}
try:
    while number < 100_000:
        journal.commit(Entry(True, (sql.ADD_RESULT, (1, 0, None, None, None, b"%d" % number + bytes(1000)))))
        number += 1
        print(number, flush=True)
except JournalFailed as error:
    print(error, file=sys.stderr)
    try:
        journal.commit(Entry(True, (sql.ADD_RESULT, (1, 0, None, None, None, b"after"))))
    except JournalFailed:
        print("and stays failed", file=sys.stderr)
close_journals()
"""


def promised(path, **parts):
    """How many commits returned in a process whose disk gives out, and what it said then."""
    script = WRITE_UNTIL_IT_FAILS.format(before=parts.get("before", ""), limit=textwrap.dedent(parts.get("limit", "")))
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int((done.stdout.split() or ["0"])[-1]), done.stderr


def check_all_promises_kept(path, count):
    found = [payload.rstrip("\0") for payload in marks(path)]
    assert found[:count] == [str(number) for number in range(count)], "a returned commit is in the file"
    assert len(found) <= count + 1, "of the failed one nobody knows"
    assert "after" not in found
    journal = open_journal(path, "power")
    journal.commit(mark("next process"))
    close_journals()
    assert marks(path)[-1] == "next process"


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits")
@pytest.mark.parametrize("limit", [200_000, 300_001, 524_288])
def test_a_file_size_limit_poisons_and_keeps_what_was_promised(tmp_path, limit):
    count, said = promised(
        tmp_path / "runs.db",
        before="import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)",
        limit=f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))",
    )
    assert 10 < count < 1000
    assert "runs.db" in said
    assert "and stays failed" in said
    check_all_promises_kept(tmp_path / "runs.db", count)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if (
        sys.platform != "linux"
        or os.geteuid() != 0
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("cannot mount a small disk here")
    yield folder
    close_journals()
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_poisons_and_keeps_what_was_promised(small_disk):
    count, said = promised(small_disk / "runs.db")
    assert 10 < count < 1000
    assert "full" in said or "I/O" in said
    found = [payload.rstrip("\0") for payload in marks(small_disk / "runs.db")]
    assert found[:count] == [str(number) for number in range(count)]
    assert "and stays failed" in said
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    check_all_promises_kept(small_disk / "runs.db", count)


def test_a_poisoned_journal_fails_threads_that_come_later(journal):
    with pytest.raises(JournalFailed):
        journal.commit(refused())
    told = []

    def late():
        try:
            journal.commit(mark("late"))
        except JournalFailed as error:
            told.append(error)

    threads = [threading.Thread(target=late) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert len(told) == 4
