"""Many task runs at once: nothing is lost by a crash, nothing is locked by nesting, nothing grows without bound."""

import asyncio
import os
import signal
import sqlite3
import threading
import time
from contextlib import closing

import pytest
from scripts import Script, finish, query

from durable import ConfigurationError, allow_failure, flow, task
from durable.futures import executing
from durable.journal import open_journal
from durable.runners import ThreadPoolTaskRunner
from durable.runners.base import BACKLOG

pytestmark = pytest.mark.usefixtures("journal")


@pytest.fixture
def script(tmp_path):
    return Script(tmp_path)


@task
def give(x):
    return x


def run(fn, **options):
    made = flow(**options)(fn)()
    return asyncio.run(made) if asyncio.iscoroutine(made) else made


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


# Signals.

SLOW = """
from durable.runners import ThreadPoolTaskRunner

@task
def hold(x):
    ran("begin", x)
    signal_files(f"at{x}")
    ran("end", x)
    return x

@task
async def hold_async(x):
    ran("begin", x)
    while not os.path.exists(f"at{x}.go"):
        open(f"at{x}.here", "w").close()
        await asyncio.sleep(0.005)
    ran("end", x)
    return x

@flow(task_runner=ThreadPoolTaskRunner(2))
def job():
    futures = hold.map(range(6))
    open("submitted", "w").close()
    return futures.result()

@flow(task_runner=ThreadPoolTaskRunner(2))
async def job_async():
    futures = hold_async.map(range(6))
    open("submitted", "w").close()
    return await futures

if __name__ == "__main__":
    print(asyncio.run(job_async()) if sys.argv[1:] == ["async"] else job())
"""


def two_hold(script, colour):
    """A process in which all were submitted, and two execute."""
    process = script.start(colour)
    for name in ("submitted", "at0.here", "at1.here"):
        script.wait_for(name, process)
    return process


def wait_until(script, process, text):
    """Read stderr until a line holds `text`."""
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(finish(process))


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_ctrl_c_calls_off_what_is_queued_waits_for_what_runs_and_can_be_continued(script, colour):
    script.write(SLOW)
    process = two_hold(script, colour)
    process.send_signal(signal.SIGINT)
    wait_until(script, process, "waiting for 2 running task runs; Ctrl-C again abandons them")
    script.go("at0")
    script.go("at1")
    ended = finish(process)
    assert ended.code in (1, 130, -signal.SIGINT)
    assert "KeyboardInterrupt" in ended.err
    assert sorted(script.ran()) == ["begin 0", "begin 1", "end 0", "end 1"]
    states = dict(script.query("SELECT state, count(*) FROM task_runs GROUP BY state"))
    assert states == {"Completed": 2, "Cancelled": 4}
    assert script.flows("job" if colour == "sync" else "job-async") == [["Running", "Crashed"]]
    for number in range(2, 6):
        script.go(f"at{number}")
    assert script.ok(colour) == "[0, 1, 2, 3, 4, 5]"
    assert sorted(line for line in script.ran() if "begin" in line) == [f"begin {n}" for n in range(2, 6)]


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_second_ctrl_c_abandons_what_runs(script, colour):
    script.write(SLOW)
    process = two_hold(script, colour)
    process.send_signal(signal.SIGINT)
    wait_until(script, process, "Ctrl-C again abandons them")
    process.send_signal(signal.SIGINT)
    assert finish(process).code != 0
    script.ran()
    assert not query(script.journal, "SELECT 1 FROM task_runs WHERE state = 'Completed'")
    for number in range(6):
        script.go(f"at{number}")
    assert script.ok(colour) == "[0, 1, 2, 3, 4, 5]"
    assert sorted(line for line in script.ran() if "begin" in line) == [f"begin {n}" for n in range(6)]


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_sigterm_abandons_at_once(script, colour):
    script.write(SLOW)
    process = two_hold(script, colour)
    process.send_signal(signal.SIGTERM)
    ended = finish(process)  # nobody opens the gates
    assert ended.code == 143
    assert script.flows("job" if colour == "sync" else "job-async") == [["Running", "Crashed"]]
    for number in range(6):
        script.go(f"at{number}")
    assert script.ok(colour) == "[0, 1, 2, 3, 4, 5]"


def test_what_was_abandoned_records_nothing_more_and_the_run_goes_on_in_the_same_process(script):
    """A notebook lives on after a second Ctrl-C, and so do the threads it abandoned."""
    script.write(
        """
        import threading
        from durable.runners import ThreadPoolTaskRunner
        release, began, tries, runs = threading.Event(), threading.Event(), [], []

        @task
        def after(x):
            ran("after", x)

        @task
        def hold(x):
            tries.append(x)
            ran("hold", x)
            if len(tries) == 1:
                began.set()
                release.wait(30)
                after(x)
            return x

        @flow(task_runner=ThreadPoolTaskRunner(1))
        def job():
            future = hold.submit(1)
            began.wait(30)
            runs.append(1)
            if len(runs) == 1:
                os.kill(os.getpid(), signal.SIGINT)
            return future.result()

        first = threading.Event()

        def interrupt_again():
            first.wait(30)
            os.kill(os.getpid(), signal.SIGINT)

        import logging
        class Tell(logging.Handler):
            def emit(self, record):
                if "again abandons" in record.getMessage():
                    first.set()
        logging.getLogger("durable").addHandler(Tell())
        threading.Thread(target=interrupt_again, daemon=True).start()
        try:
            job()
        except KeyboardInterrupt:
            ran("interrupted")
        zombies = [t for t in threading.enumerate() if t.name.startswith("durable-worker")]
        print(job())
        release.set()
        for thread in zombies:
            thread.join(20)
            assert not thread.is_alive()
        print(job.with_options(resume="never")())
        """
    )
    assert script.ok().split() == ["1", "1"]
    assert script.ran() == ["hold 1", "interrupted", "hold 1", "hold 1"]
    assert script.tasks("hold") == [["Running", "Crashed", "Running", "Completed"], ["Running", "Completed"]]


# Crashes.


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_killed_with_hundreds_in_flight_exactly_the_uncompleted_run_again(script, colour):
    script.write(
        """
        import random
        from durable.runners import ThreadPoolTaskRunner
        LAST = 1200  # a process that is killed late has the rest in flight

        @task
        def work(x):
            ran("work", x)
            if asked("kill"):
                time.sleep(random.random() / 50 if x < LAST else 300)
            return x * 2

        @task
        async def work_async(x):
            ran("work", x)
            if asked("kill"):
                await asyncio.sleep(random.random() if x < LAST else 300)
            return x * 2

        @flow(task_runner=ThreadPoolTaskRunner(500))
        def job():
            return sum(work.map(range(1500)).result())

        @flow(task_runner=ThreadPoolTaskRunner(500))
        async def job_async():
            return sum(await work_async.map(range(1500)))

        print(asyncio.run(job_async()) if sys.argv[1:] == ["async"] else job())
        """
    )
    process = script.start(colour, DIE="kill")
    script.wait_for_lines(700, process)
    process.kill()
    finish(process)
    first = [int(line.split()[1]) for line in script.ran()]
    with closing(sqlite3.connect(script.journal)) as journal:
        completed = journal.execute("SELECT count(*) FROM task_runs WHERE state = 'Completed'").fetchone()[0]
        begun = journal.execute("SELECT count(*) FROM task_runs").fetchone()[0]
    assert begun >= len(first) > completed
    assert script.ok(colour) == str(1499 * 1500)
    again = [int(line.split()[1]) for line in script.ran()]
    assert len(again) == len(set(again)) == 1500 - completed
    assert set(first) | set(again) == set(range(1500))
    assert script.query("SELECT state, count(*) FROM task_runs GROUP BY state") == [("Completed", 1500)]


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
        before = journal.synced_commits
        with closing(sqlite3.connect("runs.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # nobody's commit ends before all eight have come to theirs
            leave.set()
            deadline = time.monotonic() + 60
            while sum(not entry.done for entry in tuple(journal._queue)) < 8:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            other.execute("ROLLBACK")
        futures.wait()
        synced.append(journal.synced_commits - before)

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
        before = journal.commits, journal.synced_commits
        if how == "called":
            await asyncio.gather(*[work(x) for x in range(500)])
        else:
            await asyncio.gather(*work.map(range(500)))
        commits.append((journal.commits - before[0], journal.synced_commits - before[1]))

    run(job)
    total, synced = commits[0]
    assert synced <= 2
    assert total <= 4


# Memory: a bound that docs/concurrency.md promises.

MEMORY = """
import gc, tracemalloc, logging
from durable import runtime
from durable.runners import ThreadPoolTaskRunner
logging.getLogger("durable").setLevel(logging.ERROR)
COUNT = int(sys.argv[1])

@task
def blob(x):
    return b"x" * 2000

@task
async def blob_async(x):
    return b"x" * 2000

@flow(task_runner=ThreadPoolTaskRunner(8))
def job():
    blob(-1)
    gc.collect()
    tracemalloc.start()
    futures = blob.map(number for number in range(COUNT))
    futures.wait()
    gc.collect()
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(held // COUNT, peak // COUNT)
    assert futures[0].result() == b"x" * 2000

job()
"""


def test_the_values_of_a_long_map_are_not_held(script):
    script.write(MEMORY)
    held, peak = (int(part) for part in script.ok("20000", DURABLE_DURABILITY="process").split())
    assert held < 450  # bytes an item, of which a value has 2000; the newest 1,000 values are 100 of them here
    assert peak < 700
