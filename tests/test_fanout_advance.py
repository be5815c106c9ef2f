"""A worker takes its next task run in advance, so that its start is committed with the end of the one before."""

import threading

import pytest
from scripts import query

from durable import flow, task
from durable.journal import open_journal
from durable.task_runners import ThreadPoolTaskRunner

pytestmark = pytest.mark.usefixtures("journal")


@task
def give(x):
    return x


def held():
    """What lets go of a task, and the task, which keeps a worker busy until then."""
    release = threading.Event()

    @task
    def busy():
        release.wait(30)

    return release, busy


def pool(workers):
    return flow(task_runner=ThreadPoolTaskRunner(workers))


@pytest.mark.parametrize(("on_interrupt", "commits"), [("retry", 21), ("fail", 41)])
def test_a_start_goes_along_with_the_end_before_it(journal, on_interrupt, commits):
    """Not that of a task that may not be executed twice: a process that dies before its body would have begun it."""
    began, gate, counts = threading.Event(), threading.Event(), []

    @task
    def hold():
        began.set()
        gate.wait(30)

    @pool(1)
    def job():
        opened = open_journal(journal, "power")
        give(-1)  # introduces the task
        hold.submit()
        began.wait(30)
        futures = give.with_options(on_interrupt=on_interrupt).map(range(20))
        before = opened.commits, opened.syncs
        gate.set()
        values = futures.result()
        counts.append((opened.commits - before[0], opened.syncs - before[1]))
        return values

    assert job() == list(range(20))
    assert counts == [(commits, 21)]  # the end of each of 21 task runs, and 20 starts with them or besides
    assert query(journal, "SELECT state, count(*) FROM task_runs GROUP BY 1") == [("Completed", 22)]


def test_a_callback_may_wait_for_what_would_have_been_taken():
    """The only other worker is busy when the task run ends, and would find nothing to do."""
    called, found = threading.Event(), []
    release, busy = held()

    @pool(2)
    def job():
        begin = threading.Event()

        @task
        def watched():
            begin.wait(30)

        busy.submit()
        future = watched.submit()
        last = give.submit(7)

        def call_back(_):
            release.set()
            found.append(last.result(timeout=20))
            called.set()

        future.add_done_callback(call_back)
        begin.set()
        called.wait(30)

    job()
    assert found == [7]


@pytest.mark.parametrize("told", ["a hook of the one that ends", "a hook of the one that would begin"])
def test_a_hook_may_wait_for_what_would_have_been_taken(told):
    found, futures = [], []
    release, busy = held()

    @pool(2)
    def job():
        begin = threading.Event()

        def hook(*_):
            release.set()
            found.append(futures[0].result(timeout=20))

        @task(on_completion=[hook] if told == "a hook of the one that ends" else None)
        def first():
            begin.wait(30)

        @task(on_running=[lambda *_: found.append("begun")])
        def hooked(x):
            return x

        busy.submit()
        one = first.submit()
        futures.append((give if told == "a hook of the one that ends" else hooked).submit(7))
        begin.set()
        if told != "a hook of the one that ends":
            one.result()
            release.set()
        return futures[0].result()

    assert job() == 7
    assert found == ([7] if told == "a hook of the one that ends" else ["begun"])


def test_one_that_cannot_begin_takes_no_other_with_it():
    """Its name is made when it begins, and cannot be."""
    gate = threading.Event()

    @task
    def hold():
        gate.wait(30)
        return "held"

    def refuse():
        raise LookupError("no name today")

    @task(task_run_name=refuse)
    def nameless(x):
        return x

    @pool(1)
    def job():
        first, second, third = hold.submit(), nameless.submit(1), give.submit(2)
        gate.set()
        return first.result(), second.result(raise_on_failure=False), third.result()

    held, error, given = job()
    assert (held, given) == ("held", 2)
    assert isinstance(error, Exception)


def test_no_more_execute_than_there_are_places_after_one_has_waited():
    """A worker that waited comes back to one too many, and takes nothing in advance."""
    lock, counts = threading.Lock(), [0, 0]

    @task
    def leaf(x):
        with lock:
            counts[0] += 1
            counts[1] = max(counts)
        for _ in range(1000):
            pass
        with lock:
            counts[0] -= 1
        return x

    @task
    def nested(x):
        return sum(leaf.map(range(x)).result())

    @pool(2)
    def job():
        return nested.map([20, 20, 20, 20]).result()

    assert job() == [190] * 4
    assert counts[1] <= 2 + 4  # for moments, those who have waited go on besides
