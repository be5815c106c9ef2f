"""What a call costs in what can be counted: commits, fsyncs, SQL statements and rows, case by case.

Times are noise; these are not. An fsync is a commit that asked for one (`tools/bench` has strace count the real ones).
Statements are what SQLite itself reports of the journal's one connection, BEGIN, COMMIT and PRAGMA included.
"""

import asyncio
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from durable import flow, task
from durable.cache_policies import INPUTS
from durable.journal import open_journal
from durable.task_runners import ThreadPoolTaskRunner

TASKS = 40
TABLES = ("task_run", "task_run_state", "result", "task_run_yield", "task_run_dependency", "task", "flow", "process")
ROWS = {"task_run": TASKS, "task_run_state": TASKS, "result": TASKS}


class Counts(NamedTuple):
    """Of one stretch of code."""

    commits: int
    fsyncs: int
    statements: int
    rows: dict[str, int]


@pytest.fixture
def counted(journal):
    """Count what a block does to the journal."""
    opened = open_journal(journal, "power")

    def rows():
        return {table: opened.rows(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}

    @contextmanager
    def count(found):
        statements, before = [], (opened.commits, opened.syncs, rows())
        opened._connection.set_trace_callback(statements.append)
        try:
            yield
        finally:
            opened._connection.set_trace_callback(None)
        after = rows()
        added = {table: after[table] - many for table, many in before[2].items() if after[table] != many}
        found.append(Counts(opened.commits - before[0], opened.syncs - before[1], len(statements), added))

    return count


@task
def step(n):
    return n


@task
async def async_step(n):
    return n


@task(cache_policy=INPUTS)
def memo(n):
    return n


@task
def values(n):
    yield from range(n)


def test_a_sync_task(counted):
    found = []

    @flow
    def job():
        step(-1)  # introduces the process and the task
        with counted(found):
            for n in range(TASKS):
                step(n)

    job()
    # BEGIN, insert, COMMIT; BEGIN, two inserts, COMMIT
    assert found == [Counts(2 * TASKS, TASKS, 7 * TASKS, ROWS)]


def test_a_plain_task_binds_few_nulls(journal):
    """sqlite3 looks for an adapter of each None, which costs more than any other parameter."""
    opened, bound = open_journal(journal, "power"), []
    execute = opened._execute

    def noted(sql, parameters=()):
        bound.extend(parameters)
        return execute(sql, parameters)

    @flow
    def job():
        step(-1)
        opened._execute = noted
        for n in range(TASKS):
            step(n)
        opened._execute = execute

    job()
    # The task run's parent and worker, and the message of its end.
    assert len(bound) > 15 * TASKS
    assert bound.count(None) == 3 * TASKS


def test_an_async_task(counted):
    found = []

    @flow
    async def job():
        await async_step(-1)
        with counted(found):
            for n in range(TASKS):
                await async_step(n)

    asyncio.run(job())
    assert found == [Counts(2 * TASKS, TASKS, 7 * TASKS, ROWS)]


def test_an_async_task_takes_one_turn_of_the_loop(journal):
    turns = []

    async def tick():
        while True:
            await asyncio.sleep(0)
            turns.append(None)

    @flow
    async def job():
        await async_step(-1)
        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0)
        del turns[:]
        for n in range(TASKS):
            await async_step(n)
        ticking.cancel()

    asyncio.run(job())
    assert TASKS - 1 <= len(turns) <= TASKS + 1


def test_gathered_tasks_share_their_commits(counted):
    found = []

    @flow
    async def job():
        await async_step(-1)
        with counted(found):
            await asyncio.gather(*(async_step(n) for n in range(TASKS)))

    asyncio.run(job())
    # The first start is committed at once, the others by the turn of the loop; all ends by another turn.
    assert found[0].rows == ROWS
    assert found[0].commits <= 4
    assert found[0].fsyncs <= 2
    assert found[0].statements <= 3 * TASKS + 3 * found[0].commits


def test_mapped_tasks_write_the_same_rows_and_never_more_commits(counted):
    found = []

    @flow(task_runner=ThreadPoolTaskRunner(8))
    def job():
        step(-1)
        with counted(found):
            step.map(range(TASKS)).wait()

    job()
    assert found[0].rows == ROWS
    assert found[0].commits <= 2 * TASKS
    assert found[0].fsyncs <= TASKS
    assert found[0].statements <= 7 * TASKS


def test_old_values_of_a_mapped_list_are_read_hundreds_at_once(counted, monkeypatch):
    monkeypatch.setattr("durable.runners.kept.HELD", 1)
    found, workers = [], 8

    @flow(task_runner=ThreadPoolTaskRunner(workers))
    def job():
        futures = step.map(range(600))
        futures.wait()
        with counted(found):
            assert futures.result() == [*range(600)]

    job()
    assert found[0].statements <= 3 + workers, "each worker may have forgotten one only after it was looked for"


def test_a_replayed_task_writes_nothing_and_asks_for_hundreds_at_once(counted):
    found = []

    @flow
    def job():
        step(-1)
        with counted(found):
            for n in range(TASKS):
                step(n)
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            job()
    assert found[1] == Counts(0, 0, 0, {}), "step(-1) has read them all ahead"


@pytest.mark.parametrize("how", ["async", "state", "map"])
def test_however_it_is_asked_for_a_replayed_task_writes_nothing(counted, how):
    found = []

    @flow
    async def async_job():
        await async_step(-1)
        with counted(found):
            await asyncio.gather(*(async_step(n) for n in range(TASKS)))
        raise KeyboardInterrupt

    @flow
    def job():
        step(-1)
        with counted(found):
            if how == "state":
                for n in range(TASKS):
                    step(n, return_state=True)
            else:
                step.map(range(TASKS)).wait()
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(async_job()) if how == "async" else job()
    assert found[1] == Counts(0, 0, 0, {})


def test_a_long_result_is_read_when_it_is_asked_for(counted):
    found = []

    @task
    def long(n):
        return bytes(5000) + bytes([n])

    @flow
    def job():
        step(-1)
        with counted(found):
            for n in range(TASKS):
                assert len(long(n)) == 5001
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            job()
    assert found[1] == Counts(0, 0, TASKS, {})


def test_a_memo_hit(counted):
    found = []

    @flow
    def fill():
        for n in range(TASKS):
            memo(n)

    @flow
    def job():
        memo(0)
        with counted(found):
            for n in range(TASKS):
                memo(n)

    fill()
    job()
    # A look-up; BEGIN, two inserts, COMMIT; the call and that it is Cached are one transaction.
    assert found == [Counts(TASKS, 0, 5 * TASKS, {"task_run": TASKS, "task_run_state": TASKS})]


def test_a_memo_hit_is_synced_until_it_is_known_that_its_result_is(counted):
    """Whose result it is does not matter: a process that promises less may have written it without a sync."""
    found = []

    @flow
    def job(numbers):
        for n in numbers:
            with counted(found):
                memo(n)

    job([1, 2])
    found.clear()
    job([2, 1, 2])
    assert [each.fsyncs for each in found] == [1, 0, 0]
    found.clear()
    job([3])
    job([3, 3])
    assert [each.fsyncs for each in found] == [1, 1, 0]


def test_a_generator_commits_each_value_and_syncs_one_in_64(counted):
    found = []

    @flow
    def job():
        list(values(1))
        with counted(found):
            assert len(list(values(200))) == 200

    job()
    count = found[0]
    assert (count.commits, count.fsyncs) == (1 + 200 + 1, 200 // 64 + 1)
    assert count.rows == {"task_run": 1, "task_run_state": 1, "result": 201, "task_run_yield": 200}
    assert count.statements <= 4 * count.commits


def test_a_retry_adds_its_failure_and_nothing_else(counted):
    found, left = [], []

    @task(retries=2)
    def flaky(n):
        if left:
            raise ValueError(left.pop())
        return n

    @flow
    def job():
        flaky(-1)
        left.extend([1, 2])
        with counted(found):
            assert flaky(1) == 1

    job()
    # Started, two failures that will be retried, completed: each failure with its exception, and none synced by itself.
    assert found == [Counts(4, 1, found[0].statements, {"task_run": 1, "task_run_state": 3, "result": 3})]
    assert found[0].statements == 3 + 2 * 4 + 4


def test_nested_tasks_cost_what_they_cost_alone(counted):
    found = []

    @task
    def outer(n):
        return step(n)

    @flow
    def job():
        outer(-1)
        with counted(found):
            for n in range(TASKS):
                outer(n)

    job()
    rows = {table: 2 * many for table, many in ROWS.items()}
    assert found == [Counts(4 * TASKS, 2 * TASKS, 14 * TASKS, rows)]
