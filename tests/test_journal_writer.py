"""The writer: what is one commit, what is synced, who shares it, and how the log stays small."""

import asyncio
import gc
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
from marked import DEADLINE, mark, marks, until

from durable import configure, flow, settings, task
from durable.errors import JournalBusy, JournalError, JournalFailed
from durable.journal import Entry, close_journals, open_journal, opening, writer
from durable.journal import statements as sql

pytestmark = pytest.mark.usefixtures("nothing_stays_open")


@pytest.fixture
def journal(tmp_path):
    return open_journal(tmp_path / "runs.db", "power")


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """The journal that tasks use, for each durability."""
    monkeypatch.setattr(settings, "_configured", {})

    def open_it(durability):
        configure(journal=tmp_path / f"{durability}.db", durability=durability)
        return open_journal(tmp_path / f"{durability}.db", durability)

    return open_it


@contextmanager
def write_lock_of_another_connection(path):
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other
        if other.in_transaction:
            other.execute("ROLLBACK")


def row_counts(journal):
    tables = ("task_run", "task_run_state", "result", "flow_run", "flow_run_state", "task", "flow", "process")
    return {table: journal.rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables}


# What a task costs


@pytest.mark.parametrize("durability", ["power", "process"])
@pytest.mark.parametrize("inside", ["a flow", "no flow"])
def test_a_task_is_two_commits_three_rows_and_one_sync(configured, durability, inside):
    journal = configured(durability)

    @task
    def double(n):
        return 2 * n

    def measure():
        double(-1)  # introduces the process and the task
        before = journal.commits, journal.syncs, row_counts(journal)
        for n in range(50):
            assert double(n) == 2 * n
        after = row_counts(journal)
        return (
            journal.commits - before[0],
            journal.syncs - before[1],
            {table: after[table] - count for table, count in before[2].items() if after[table] != count},
        )

    commits, synced, rows = flow(measure)() if inside == "a flow" else measure()
    assert commits == 100
    assert synced == (50 if durability == "power" else 0)
    assert rows == {"task_run": 50, "task_run_state": 50, "result": 50}


def test_a_restored_task_writes_nothing(configured):
    journal = configured("power")
    seen = []

    @task
    def step(n):
        return n

    @flow
    def job():
        before = journal.commits
        for n in range(20):
            step(n)
        seen.append(journal.commits - before)
        if len(seen) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job()
    job()
    assert seen == [41, 0]  # the first time: two a task, and one for the task's description


def test_a_start_is_not_synced_by_itself_and_a_result_is(journal):
    journal.commit(mark("start", synced=False))
    assert (journal.commits, journal.syncs) == (1, 0)
    journal.commit(mark("result", synced=True))
    assert (journal.commits, journal.syncs) == (2, 1)


def test_a_commit_gives_the_rowid_of_its_first_statement(journal):
    first = journal.commit(mark("a"))
    two = Entry(True, *mark("b").statements, *mark("c").statements)
    assert journal.commit(two) == first + 1
    assert journal.rows("SELECT id, payload FROM result") == [(1, b"a"), (2, b"b"), (3, b"c")]


# Group commit


def test_what_queues_up_is_committed_in_one_transaction(journal):
    """While somebody else holds the write lock, eight threads queue up; then two transactions take them all."""
    with write_lock_of_another_connection(journal.path) as other, ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(journal.commit, mark(0))]
        until(lambda: len(journal._batch) == 1)  # or it would take along who comes meanwhile
        futures += [pool.submit(journal.commit, mark(n)) for n in range(1, 8)]
        until(lambda: len(journal._queue) == 8)
        assert not any(future.done() for future in futures)
        other.execute("ROLLBACK")
        rowids = [future.result(DEADLINE) for future in futures]
    assert sorted(rowids) == list(range(1, 9))
    assert journal.commits == 2
    assert journal.syncs == 2
    assert sorted(marks(journal.path)) == sorted(map(str, range(8)))


def test_one_synced_entry_syncs_its_transaction(journal):
    with journal._lock:
        pool = ThreadPoolExecutor(3)
        futures = [pool.submit(journal.commit, mark(n, synced=n == 1)) for n in range(3)]
        until(lambda: len(journal._queue) == 3)
    for future in futures:
        future.result(DEADLINE)
    pool.shutdown()
    assert (journal.commits, journal.syncs) == (1, 1)


def test_eight_threads_lose_and_double_nothing(journal):
    def write(thread):
        return [journal.commit(mark(f"{thread}-{n}")) for n in range(200)]

    with ThreadPoolExecutor(8) as pool:
        rowids = [rowid for own in pool.map(write, range(8)) for rowid in own]
    assert sorted(rowids) == list(range(1, 1601))
    assert sorted(marks(journal.path)) == sorted(f"{thread}-{n}" for thread in range(8) for n in range(200))
    by_rowid = dict(journal.rows("SELECT id, payload FROM result"))
    own = [
        [payload for payload in map(by_rowid.get, sorted(by_rowid)) if payload.startswith(b"%d-" % t)] for t in range(8)
    ]
    assert own == [[b"%d-%d" % (t, n) for n in range(200)] for t in range(8)], "each thread's order is kept"
    assert journal.commits <= 1600


def test_a_commit_returns_only_when_its_own_entry_is_in_the_file(journal, monkeypatch):
    """More entries wait than one transaction takes: who commits must go on until its own entry is committed."""
    monkeypatch.setattr(writer, "_BATCH", 3)
    # An event loop queues a turn's entries before it takes the lock; a thread may be faster.
    journal._queue.extend(mark(n) for n in range(7))
    assert journal.commit(mark("mine")) == 8
    assert marks(journal.path) == [*map(str, range(7)), "mine"]


def test_what_is_appended_while_a_batch_is_taken_disturbs_nobody(journal):
    """Before Python 3.12 any allocation may collect garbage, which runs whatever code: here one that appends."""
    late = []

    def append(phase, _):
        if phase == "start":
            late.append(f"late-{len(late)}")
            journal._queue.append(mark(late[-1]))

    before = gc.get_threshold()
    gc.callbacks.append(append)
    gc.set_threshold(1)
    try:
        for number in range(20):
            journal.commit(mark(number))
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(append)
    assert late
    journal.commit(mark("last"))
    assert sorted(marks(journal.path)) == sorted([*map(str, range(20)), *late, "last"])


def test_two_threads_introduce_the_process_once(journal):
    with journal._lock:
        pool = ThreadPoolExecutor(4)
        futures = [pool.submit(lambda: journal.process_id) for _ in range(4)]
        until(lambda: len(journal._queue) >= 1)
        time.sleep(0.01)  # let the others come as far as they can
    assert {future.result(DEADLINE) for future in futures} == {1}
    pool.shutdown()
    assert journal.rows("SELECT count(*) FROM process") == [(1,)]


# The event loop


def test_coroutines_of_one_turn_share_a_commit(journal):
    async def write(n):
        return await journal.commit_soon(mark(n), asyncio.get_running_loop())

    async def main():
        return await asyncio.gather(*(write(n) for n in range(200)))

    assert asyncio.run(main()) == list(range(1, 201))
    assert (journal.commits, journal.syncs) == (1, 1)
    assert marks(journal.path) == list(map(str, range(200)))


def test_two_hundred_async_tasks_need_a_handful_of_commits(configured):
    journal = configured("power")

    @task
    async def double(n):
        await asyncio.sleep(0)
        return 2 * n

    async def main():
        await double(-1)
        before = journal.commits, journal.syncs
        assert await asyncio.gather(*map(double, range(200))) == [2 * n for n in range(200)]
        return journal.commits - before[0], journal.syncs - before[1]

    commits, synced = asyncio.run(main())
    assert commits <= 4
    assert 1 <= synced <= 2


def test_more_coroutines_than_a_transaction_takes_are_all_committed(journal, monkeypatch):
    monkeypatch.setattr(writer, "_BATCH", 3)

    async def main():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(journal.commit_soon(mark(n), loop) for n in range(10)))

    assert asyncio.run(main()) == list(range(1, 11))
    assert journal.commits == 4


def test_two_loops_in_two_threads_do_not_meet(journal):
    async def main(name):
        loop = asyncio.get_running_loop()
        for n in range(50):
            await asyncio.gather(*(journal.commit_soon(mark(f"{name}-{n}-{k}"), loop) for k in range(3)))

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(asyncio.run, main(name)) for name in "ab"]:
            future.result(DEADLINE)
    assert sorted(marks(journal.path)) == sorted(
        f"{name}-{n}-{k}" for name in "ab" for n in range(50) for k in range(3)
    )


def test_a_cancelled_waiter_does_not_disturb_the_others_of_its_turn(journal):
    async def main():
        loop = asyncio.get_running_loop()

        async def write(n):
            return await journal.commit_soon(mark(n), loop)

        writers = [asyncio.create_task(write(n)) for n in range(3)]
        await asyncio.sleep(0)
        writers[1].cancel()
        done = await asyncio.gather(*writers, return_exceptions=True)
        assert isinstance(done[1], asyncio.CancelledError)
        assert isinstance(done[0], int) and isinstance(done[2], int)

    asyncio.run(main())
    assert set(marks(journal.path)) >= {"0", "2"}


def test_a_failure_reaches_every_coroutine_of_the_turn(journal):
    async def main():
        loop = asyncio.get_running_loop()
        entries = [mark(0), Entry(True, ("DELETE FROM state_kind", ())), mark(2)]
        return await asyncio.gather(*(journal.commit_soon(entry, loop) for entry in entries), return_exceptions=True)

    assert [type(error) for error in asyncio.run(main())] == [JournalFailed] * 3
    close_journals()
    assert marks(journal.path) == []


# Another process writes


def test_a_lock_kept_too_long_is_busy_writes_nothing_and_can_be_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "BUSY_SECONDS", 1)
    monkeypatch.setattr(opening, "BUSY_TIMEOUT_MS", 100)
    journal = open_journal(tmp_path / "runs.db", "power")
    journal.commit(mark("before"))
    with write_lock_of_another_connection(journal.path):
        for _ in range(2):
            with pytest.raises(JournalBusy) as caught:
                journal.commit(mark("never"))
        assert str(journal.path) in str(caught.value)
        assert "nothing was written" in str(caught.value)
        assert journal.rows("SELECT count(*) FROM result") == [(1,)], "reading goes on"
    journal.commit(mark("after"))
    assert marks(journal.path) == ["before", "after"]


def test_busy_reaches_everybody_who_waited(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "BUSY_SECONDS", 1)
    monkeypatch.setattr(opening, "BUSY_TIMEOUT_MS", 100)
    journal = open_journal(tmp_path / "runs.db", "power")
    with write_lock_of_another_connection(journal.path), ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(journal.commit, mark(n)) for n in range(3)]
        assert [type(future.exception(DEADLINE)) for future in futures] == [JournalBusy] * 3
    assert marks(journal.path) == []


def test_a_lock_that_is_freed_in_time_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "BUSY_TIMEOUT_MS", 50)
    journal = open_journal(tmp_path / "runs.db", "power")
    with write_lock_of_another_connection(journal.path) as other:
        freed = threading.Timer(0.3, other.execute, ("ROLLBACK",))
        freed.start()
        journal.commit(mark("patient"))
        freed.join()
    assert marks(journal.path) == ["patient"]


# The log


def log_size(journal):
    return journal.path.with_name(journal.path.name + "-wal").stat().st_size


def test_the_log_is_checkpointed_past_a_size_and_stays_bounded(journal, monkeypatch):
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 1 << 20)
    sizes = set()
    for n in range(300):
        journal.commit(Entry(True, (sql.ADD_RESULT, (1, 0, None, None, None, b"%03d" % n + bytes(20_000)))))
        sizes.add(log_size(journal))
    assert journal.checkpoints >= 4
    assert max(sizes) < 3 << 20, "6 MB were written"
    assert log_size(journal) == max(sizes), "RESTART leaves the log at its length"
    assert journal.rows("SELECT count(*), sum(length(payload)) FROM result") == [(300, 300 * 20_003)]


def test_every_checkpoint_holds_the_write_lock(journal, monkeypatch):
    """PASSIVE does not, and may meet another process that resets the log: SQLite before 3.51.3 corrupts the file."""
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 0)
    said = []
    journal._connection.set_trace_callback(said.append)
    journal.commit(mark(1))
    journal._connection.set_trace_callback(said.append)
    close_journals()
    checkpoints = [statement for statement in said if "checkpoint" in statement]
    assert checkpoints == ["PRAGMA wal_checkpoint(RESTART)", "PRAGMA wal_checkpoint(TRUNCATE)"]


def test_nothing_is_checkpointed_below_the_size(journal):
    for n in range(100):
        journal.commit(mark(n))
    assert journal.checkpoints == 0


def test_a_reader_in_the_way_delays_a_checkpoint_and_harms_nothing(journal, monkeypatch):
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 1 << 16)
    journal.commit(mark("first"))
    with closing(sqlite3.connect(journal.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM result").fetchone() == (1,)
        for n in range(50):
            journal.commit(mark(n))
        assert reader.execute("SELECT count(*) FROM result").fetchone() == (1,), "a reader's snapshot stands"
        reader.execute("ROLLBACK")
    for n in range(10):
        journal.commit(mark(n))
    before = log_size(journal)
    for n in range(40):
        journal.commit(mark(n))
    assert log_size(journal) == before, "once the reader is gone, the log is written from its start again"
    assert len(marks(journal.path)) == 101
    assert journal._connection.execute("PRAGMA busy_timeout").fetchone() == (opening.BUSY_TIMEOUT_MS,)


def test_closing_empties_the_log_and_takes_the_side_files_away(journal):
    journal.commit(mark("kept"))
    assert log_size(journal) > 0
    close_journals()
    assert [path.name for path in journal.path.parent.iterdir()] == ["runs.db"]
    with closing(sqlite3.connect(f"{journal.path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        assert connection.execute("SELECT payload FROM result").fetchall() == [(b"kept",)], "all of it is in the file"


def test_closing_empties_the_log_while_somebody_else_has_the_file_open(journal):
    journal.commit(mark("kept"))
    with closing(sqlite3.connect(journal.path)) as other:
        other.execute("SELECT count(*) FROM result").fetchall()
        close_journals()
        assert log_size(journal) == 0


def test_a_closed_journal_refuses_and_a_new_one_goes_on(journal):
    journal.commit(mark(1))
    close_journals()
    close_journals()
    with pytest.raises(JournalError, match="the journal is closed"):
        journal.commit(mark("never"))
    with pytest.raises(JournalError, match="the journal is closed"):
        journal.rows("SELECT 1")
    again = open_journal(journal.path, "power")
    assert again is not journal
    again.commit(mark(2))
    assert marks(journal.path) == ["1", "2"]
