"""The fsync of the log: nobody goes on before the one that covers its entry, and many share one."""

import errno
import os
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
from marked import DEADLINE, mark, marks, until

from durable.errors import JournalFailed
from durable.journal import close_journals, files, open_journal

pytestmark = pytest.mark.usefixtures("nothing_stays_open")


@pytest.fixture
def journal(tmp_path):
    return open_journal(tmp_path / "runs.db", "power")


class Disk:
    """Stands in the place of the fsync, and makes it last until it is told how it ends."""

    def __init__(self):
        self.begun = 0
        self._ends = threading.Semaphore(0)
        self._error = None

    def sync(self, descriptor):
        self.begun += 1
        assert self._ends.acquire(timeout=DEADLINE)
        if self._error is not None:
            raise self._error
        os.fdatasync(descriptor)

    def ends(self, error=None):
        self._error = error
        self._ends.release()


@pytest.fixture
def disk(journal, monkeypatch):
    journal.commit(mark("before"))
    disk = Disk()
    monkeypatch.setattr(files, "_sync", disk.sync)
    return disk


@contextmanager
def committing(journal, disk, *names):
    """One thread each: the first is in its fsync, the others are queued; gives the futures."""
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(journal.commit, mark(names[0]))]
        until(lambda: disk.begun == 1)
        futures += [pool.submit(journal.commit, mark(name)) for name in names[1:]]
        until(lambda: len(journal._queue) == len(names) - 1)
        yield futures


def committed_late(journal):
    """An entry in the log that nobody syncs yet, as when who committed it was interrupted."""
    late = mark("late")
    journal._queue.append(late)
    with journal._lock:
        journal._commit_queue()
    return late


def test_while_one_is_synced_this_process_looks_up_and_others_commit(journal, disk):
    with committing(journal, disk, "slow") as (slow,):
        with closing(sqlite3.connect(journal.path, timeout=0, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("INSERT INTO result (format, checksum, payload) VALUES (1, 0, x'00')")
            other.execute("COMMIT")
        assert journal.rows("SELECT count(*) FROM result") == [(3,)]
        assert not slow.done()
        disk.ends()
        assert slow.result(DEADLINE) == 2


def test_what_comes_during_an_fsync_is_one_commit_for_the_next(journal, disk):
    before = journal.commits, journal.syncs
    with committing(journal, disk, *"abcdef") as (first, *later):
        assert marks(journal.path) == ["before", "a"]
        disk.ends()
        assert first.result(DEADLINE) == 2
        until(lambda: disk.begun == 2)
        assert sorted(marks(journal.path)[2:]) == [*"bcdef"]
        assert not any(future.done() for future in later)
        disk.ends()
        assert sorted(future.result(DEADLINE) for future in later) == [3, 4, 5, 6, 7]
    assert (journal.commits - before[0], journal.syncs - before[1]) == (2, 2)


def test_an_fsync_does_not_count_for_what_was_committed_after_it_began(journal, disk):
    """A query finds what an event loop's turn, say, has committed meanwhile: it is in the log, and not yet synced."""
    with committing(journal, disk, "a") as (first,), ThreadPoolExecutor(1) as pool:
        late = committed_late(journal)
        assert late.committed
        waiting = pool.submit(journal.wait, late)
        disk.ends()
        assert first.result(DEADLINE) == 2
        until(lambda: disk.begun == 2)
        assert not late.done
        disk.ends()
        assert waiting.result(DEADLINE) == 3


def test_a_failed_fsync_fails_all_that_wait_for_it_and_the_journal(journal, disk):
    with committing(journal, disk, "a", "b", "c") as futures:
        disk.ends(OSError(errno.EIO, "Input/output error"))
        for future in futures:
            with pytest.raises(JournalFailed, match=r"runs\.db-wal cannot be synced: .*Input/output error"):
                future.result(DEADLINE)
    assert disk.begun == 1, "what became of it is unknown: it is not tried again"
    with pytest.raises(JournalFailed, match="cannot be synced"):
        journal.commit(mark("after"))


def test_closing_waits_for_the_fsync_and_makes_the_rest_durable(journal, disk):
    with committing(journal, disk, "a") as (future,), ThreadPoolExecutor(1) as pool:
        late = committed_late(journal)
        closed = pool.submit(close_journals)
        time.sleep(0.05)
        assert not closed.done()
        disk.ends()
        disk.ends()
        closed.result(DEADLINE)
        assert (future.result(DEADLINE), late.done, late.error) == (2, True, None)
    assert journal.is_closed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_waits_for_the_fsync(journal, disk):
    with committing(journal, disk, "a") as (future,), ThreadPoolExecutor(1) as pool:

        def fork():
            child = os.fork()
            if child == 0:
                os._exit(0)
            return os.waitpid(child, 0)[1]

        forked = pool.submit(fork)
        time.sleep(0.05)
        assert not forked.done()
        disk.ends()
        assert forked.result(DEADLINE) == 0
        assert future.result(DEADLINE) == 2
    assert journal.commit(mark("later", synced=False)) == 3


def test_without_power_nothing_is_synced(tmp_path, monkeypatch):
    journal = open_journal(tmp_path / "process.db", "process")
    monkeypatch.setattr(files, "_sync", None)
    assert journal.commit(mark("a")) == 1
    assert journal.syncs == 0
