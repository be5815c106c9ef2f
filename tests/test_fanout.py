"""Many task runs at once: nothing is locked by nesting, nothing is forgotten, and commits are shared."""

import asyncio
import os
import sqlite3
import threading
import time
from contextlib import closing

import pytest
from scripts import query
from submitting import run

from durable import ConfigurationError, allow_failure, flow, task
from durable.futures import executing
from durable.journal import open_journal
from durable.runners import ThreadPoolTaskRunner
from durable.runners.base import BACKLOG

pytestmark = pytest.mark.usefixtures("journal")


@task
def give(x):
    return x


class Crowd:
    """Tasks that count how many of them execute at once."""

    def __init__(self, meeting):
        self.now = self.most = 0
        lock, together = threading.Lock(), threading.Barrier(meeting)

        def enter(change):
            with lock:
                self.now += change
                self.most = max(self.most, self.now)

        @task
        def stay(x):
            enter(1)
            together.wait(60)  # as many as there are places must be here at once, or this breaks
            enter(-1)
            return x

        @task
        async def stay_async(x):
            enter(1)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            enter(-1)
            return x

        self.stay, self.stay_async = stay, stay_async


@pytest.mark.parametrize("workers", [1, 3])
def test_as_many_execute_at_once_as_there_are_workers_and_no_more(workers):
    crowd = Crowd(workers)
    assert run(lambda: crowd.stay.map(range(12)).result(), task_runner=ThreadPoolTaskRunner(workers)) == [*range(12)]
    assert crowd.most == workers


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_as_many_coroutines_execute_at_once_as_there_are_workers(colour):
    crowd = Crowd(1)

    async def job_async():
        return await crowd.stay_async.map(range(40))

    def job():
        return crowd.stay_async.map(range(40)).result()

    fn = job if colour == "sync" else job_async
    assert run(fn, task_runner=ThreadPoolTaskRunner(3)) == [*range(40)]
    assert crowd.most <= 3


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2"])
def test_a_pool_without_workers_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="expected a whole number above 0"):
        ThreadPoolTaskRunner(max_workers=wrong)


@pytest.mark.parametrize("colour", ["sync", "async", "mixed"])
def test_submits_nested_five_deep_do_not_lock_a_pool_of_one(colour):
    @task
    def grow(depth):
        return 1 if depth == 0 else 1 + sum((grow if colour == "sync" else grow_async).map([depth - 1] * 2).result())

    @task
    async def grow_async(depth):
        if depth == 0:
            return 1
        return 1 + sum(await (grow_async if colour == "async" else grow).map([depth - 1] * 2))

    async def job_async():
        return await grow_async.submit(5)

    def job():
        return grow.submit(5).result()

    assert run(job if colour == "sync" else job_async, task_runner=ThreadPoolTaskRunner(1)) == 63


def test_those_who_wait_for_nested_ones_are_few_at_a_time():
    """The deepest go first: else all 200 would begin, and each wait in a thread of its own."""
    most = 0

    @task
    def outer(x):
        nonlocal most
        most = max(most, sum(thread.name.startswith("durable-worker") for thread in threading.enumerate()))
        return sum(give.map([x, x]).result())

    assert run(lambda: sum(outer.map(range(200)).result()), task_runner=ThreadPoolTaskRunner(2)) == 2 * 199 * 100
    assert most < 40  # usually 4; a thread that the machine delays is another one's reason to begin


def test_a_subflow_in_a_worker_gives_its_place_up_while_it_waits():
    @flow
    def inner(x):
        return give.map([x, x]).result()

    @task
    def outer(x):
        return give.submit(inner(x)).result()

    assert run(lambda: outer.map([1, 2]).result(), task_runner=ThreadPoolTaskRunner(1)) == [[1, 1], [2, 2]]


def test_a_loop_in_a_worker_gives_its_place_up_while_it_awaits():
    @task
    def outer(x):
        async def main():
            return await give.submit(x)

        return asyncio.run(main())

    assert run(lambda: outer.map([1, 2]).result(), task_runner=ThreadPoolTaskRunner(1)) == [1, 2]


def test_all_places_are_there_again_when_the_waits_are_over():
    crowd = Crowd(3)

    @task
    def outer(x):
        return give.submit(x).result()

    @task
    async def outer_async(x):
        return await asyncio.gather(give.submit(x), give.submit(x))

    def job():
        outer_async.map(range(20)).result()
        outer.map(range(20)).result()
        crowd.stay.map(range(6)).wait()

    run(job, task_runner=ThreadPoolTaskRunner(3))
    assert crowd.most == 3


def test_threads_and_loops_end_with_the_flow():
    @task
    async def here(x):
        return x

    run(lambda: None)  # or the process's one thread that tells of progress begins below
    before = threading.active_count()
    for _ in range(3):
        run(lambda: (give.map(range(20)).result(), here.map(range(20)).result()))
    deadline = time.monotonic() + 30
    while threading.active_count() > before and time.monotonic() < deadline:
        os.sched_yield()
    assert threading.active_count() <= before
    assert executing.get() is None


def test_who_submits_much_waits_until_there_is_room():
    gate, ahead, begun = threading.Event(), [], threading.Semaphore(0)

    @task
    def stand(x):
        begun.release()
        gate.wait(60)

    def items():
        for number in range(BACKLOG * 2):
            ahead.append(number)
            if number == 2:  # or the backlog is full before they have left it
                assert begun.acquire(timeout=60) and begun.acquire(timeout=60)
            if number == BACKLOG + 2:  # two that execute, and the backlog: the next submit waits
                threading.Timer(0, gate.set).start()
            if number > BACKLOG + 3:
                assert gate.is_set()
            yield number

    run(lambda: stand.map(items()).wait(), task_runner=ThreadPoolTaskRunner(2))
    assert len(ahead) == BACKLOG * 2


def test_an_event_loop_is_not_made_to_wait_for_room():
    release = threading.Event()

    @task
    def stand(x):
        release.wait(60)

    async def job():
        futures = stand.map(range(BACKLOG + 100))
        release.set()  # were the loop blocked, this line would never be reached
        futures[0].cancel()
        for future in futures[10:]:
            future.cancel()
        return len(futures)

    assert run(job, task_runner=ThreadPoolTaskRunner(1)) == BACKLOG + 100


# What nobody asked about.


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_what_was_submitted_and_never_asked_about_is_waited_for(colour):
    done = []

    @task
    def work(x):
        done.append(x)

    @task
    async def work_async(x):
        await asyncio.sleep(0)
        done.append(x)

    def job():
        work.map(range(5))
        work_async.map(range(5))

    async def job_async():
        job()

    run(job if colour == "sync" else job_async)
    assert sorted(done) == sorted([*range(5)] * 2)


def test_an_unhandled_failure_fails_the_flow_and_its_retries_apply():
    attempts = []

    @task
    def flaky(x):
        attempts.append(x)
        if attempts.count(x) < 2 and x == 1:
            raise ValueError(x)
        return x

    def job():
        flaky.map(range(3))
        return "done"

    assert run(job, retries=1) == "done"
    assert sorted(attempts) == [0, 1, 1, 2]


@pytest.mark.parametrize("how", ["result", "state", "raise_on_failure", "dependency", "returned"])
def test_a_handled_failure_fails_nothing_by_itself(how):
    @task
    def fail():
        raise ValueError("boom")

    @task
    def look(x):
        return "looked"

    def job():
        future = fail.submit()
        if how == "result":
            with pytest.raises(ValueError, match="boom"):
                future.result()
        elif how == "state":
            future.wait()
            assert future.state.is_failed()
        elif how == "raise_on_failure":
            future.result(raise_on_failure=False)
        elif how == "dependency":
            look.submit(allow_failure(future)).result()
        else:
            return allow_failure(future)
        return None

    run(job)


def test_what_runs_is_waited_for_and_what_waits_is_called_off_when_the_body_raises(journal):
    entered, leave = threading.Event(), threading.Event()

    @task
    def stand():
        entered.set()
        leave.wait(60)

    def job():
        stand.submit()
        entered.wait(60)
        waiting = give.map(range(3))
        last = give.submit(waiting[0])
        assert not last.done()
        waiting[1].add_done_callback(lambda _: leave.set())  # by being called off
        raise LookupError("the body's own")

    with pytest.raises(LookupError, match="own"):
        run(job, task_runner=ThreadPoolTaskRunner(1))
    rows = query(journal, "SELECT task, state, count(*) FROM task_runs GROUP BY 1, 2 ORDER BY 1")
    assert rows == [("give", "Cancelled", 4), ("stand", "Completed", 1)]


def test_a_long_chain_is_called_off_without_recursion(journal):
    def job():
        future = give.submit(0)
        for _ in range(2000):
            future = give.submit(future)
        raise LookupError

    with pytest.raises(LookupError):
        run(job, task_runner=ThreadPoolTaskRunner(1))


def test_cancelled_ones_run_when_the_run_is_continued():
    ran, called_off = [], threading.Event()

    @task
    def work(x):
        ran.append(x)
        if x == 0 and ran.count(0) == 1:
            raise ValueError(x)
        if x == 1:
            called_off.wait(60)
        return x

    @flow(task_runner=ThreadPoolTaskRunner(1))
    def job():
        futures = work.map(range(50))
        futures[-1].add_done_callback(lambda _: called_off.set())
        return [future.result() for future in futures]

    with pytest.raises(ValueError, match="0"):
        job()
    assert ran in ([0], [0, 1])
    assert job() == [*range(50)]
    assert sorted(ran) == sorted([0, *range(50)])


# Group commit.


def test_eight_threads_share_their_fsyncs():
    synced, together, leave = [], threading.Barrier(9), threading.Event()

    @task
    def stay(x):
        together.wait(60)
        leave.wait(60)
        return x

    @flow(task_runner=ThreadPoolTaskRunner(8))
    def job():
        journal = open_journal("runs.db", "power")
        futures = stay.map(range(8))
        together.wait(60)
        before = journal.syncs
        with closing(sqlite3.connect("runs.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # nobody's commit ends before all eight have come to theirs
            leave.set()
            deadline = time.monotonic() + 60
            while sum(not entry.done for entry in tuple(journal._queue)) < 8:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            other.execute("ROLLBACK")
        futures.wait()
        synced.append(journal.syncs - before)

    job()
    assert synced[0] <= 2  # the first has taken along those who had come by then


def test_each_waits_for_the_commit_that_covers_its_own_result(journal):
    """Whoever is told of a value finds it in the file."""
    missing = []

    @task
    def check(x):
        return x

    def look(future):
        with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as reader:
            found = reader.execute("SELECT state FROM task_runs WHERE id = ?", (future.task_run_id,)).fetchone()
            if found != ("Completed",):
                missing.append(found)

    def job():
        for future in check.map(range(100)):
            future.add_done_callback(look)

    run(job, task_runner=ThreadPoolTaskRunner(8))
    assert missing == []


@pytest.mark.parametrize("how", ["called", "submitted"])
def test_a_gather_shares_one_commit_a_turn_of_the_loop(how):
    @task
    async def work(x):
        return x

    commits = []

    async def job():
        await work(-1)
        journal = open_journal("runs.db", "power")
        before = journal.commits, journal.syncs
        if how == "called":
            await asyncio.gather(*[work(x) for x in range(500)])
        else:
            await asyncio.gather(*work.map(range(500)))
        commits.append((journal.commits - before[0], journal.syncs - before[1]))

    run(job)
    total, synced = commits[0]
    assert synced <= 2
    assert total <= 4
