"""Cancelling a future: what is queued never runs, a coroutine ends at its await, and what depends on it is told."""

import asyncio
import threading

import pytest
from scripts import histories
from submitting import one_worker, run

from durable import CancelledRun, UnfinishedRun, task

pytestmark = pytest.mark.usefixtures("journal")


@task
def add(x, y=1):
    return x + y


def test_what_is_queued_is_cancelled_at_once_and_never_runs(journal, gate):
    ran = []

    @task
    def never():
        ran.append(1)

    def job():
        blocker, queued = gate.stand.submit(), never.submit()
        gate.entered.wait(60)
        assert queued.cancel()
        assert queued.done()
        assert queued.cancelled()
        assert queued.cancel()
        assert queued.state.name == "Cancelled"
        with pytest.raises(CancelledRun, match=r"has no result: Cancelled before it began"):
            queued.result()
        gate.open.set()
        return blocker.result()

    assert run(job, task_runner=one_worker()) == "stood"
    assert ran == []
    assert histories(journal, "never") == [["Pending", "Cancelled"]]


def test_a_plain_function_that_runs_is_not_cancelled(gate):
    def job():
        future = gate.stand.submit()
        gate.entered.wait(60)
        assert not future.cancel()
        gate.open.set()
        assert future.result() == "stood"
        assert not future.cancel()
        return future.cancelled()

    assert run(job) is False


def test_a_coroutine_that_runs_is_cancelled_at_its_await(journal):
    started = asyncio.Event()

    @task
    async def endless():
        started.set()
        await asyncio.Event().wait()

    async def job():
        future = endless.submit()
        await started.wait()
        assert future.cancel()
        await future.settled()
        with pytest.raises(CancelledRun):
            await future
        return future.cancelled()

    assert run(job) is True
    assert histories(journal, "endless") == [["Running", "Cancelled"]]


def test_a_coroutine_is_cancelled_from_a_sync_flow_as_well(journal):
    started = threading.Event()

    @task
    async def endless():
        started.set()
        await asyncio.Event().wait()

    def job():
        future = endless.submit()
        started.wait(60)
        assert future.cancel()
        future.wait()
        return future.state.name

    assert run(job) == "Cancelled"
    assert histories(journal, "endless") == [["Running", "Cancelled"]]


@pytest.mark.parametrize("turns", range(8))
def test_a_coroutine_cancelled_at_any_turn_ends_once_and_the_journal_says_how(journal, turns):
    """Also while its first or its last commit is under way, and between two attempts."""

    @task(retries=1, retry_delay_seconds=3600)
    async def flaky():
        await asyncio.sleep(0)
        raise ValueError

    @task
    async def quick():
        await asyncio.sleep(0)
        return "done"

    async def job():
        futures = [flaky.submit(), quick.submit()]
        for _ in range(turns):
            await asyncio.sleep(0)
        for future in futures:
            future.cancel()
        for future in futures:
            await future.settled()
        return [future.state.name for future in futures]

    told = run(job)
    assert told[0] == "Cancelled"
    assert told[1] in ("Cancelled", "Completed")
    assert [histories(journal, name)[0][-1] for name in ("flaky", "quick")] == told


def test_a_cancelled_dependency_leaves_its_dependent_not_ready(gate):
    def job():
        blocker, queued = gate.stand.submit(), add.submit(1)
        dependent = add.submit(queued)
        gate.entered.wait(60)
        queued.cancel()
        gate.open.set()
        with pytest.raises(UnfinishedRun, match=r"its upstream 'add-...' \(in x\) ended Cancelled"):
            dependent.result()
        return blocker.result()

    assert run(job, task_runner=one_worker()) == "stood"


def test_a_dependent_is_cancelled_while_it_waits_and_its_upstream_goes_on(gate):
    def job():
        upstream = gate.stand.submit(5)
        dependent = add.submit(upstream)
        last = add.submit(dependent)
        assert dependent.cancel()
        gate.open.set()
        with pytest.raises(UnfinishedRun):
            last.result()
        return upstream.result(), dependent.cancelled()

    assert run(job) == (5, True)
