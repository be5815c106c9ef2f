"""Processes with many task runs at once: Ctrl-C, SIGTERM and kills, and how much memory one needs."""

import signal
import sqlite3
from contextlib import closing

import pytest
from scripts import finish, query, read_until

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


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_ctrl_c_calls_off_what_is_queued_waits_for_what_runs_and_can_be_continued(script, colour):
    script.write(SLOW)
    process = two_hold(script, colour)
    process.send_signal(signal.SIGINT)
    read_until(process, "waiting for 2 running task runs; Ctrl-C again abandons them")
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
    read_until(process, "Ctrl-C again abandons them")
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
