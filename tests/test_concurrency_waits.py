"""What ends a wait for a slot: the holder's death, a timeout, an exception, Ctrl-C, and the end of the run."""

import asyncio
import os
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from crowds import LONG, limits_left
from scripts import finish, stop

import durable
from durable import ConcurrencyTimeoutError, DurableError, FlowRunCancelled, flow, task
from durable.concurrency import concurrency
from durable.ownership import Cancellation
from durable.task_runners import ThreadPoolTaskRunner

# Who died


HOLDER = """
from durable.concurrency import concurrency

with concurrency("api", occupy=2):
    if os.environ.get("FORK") and os.fork() == 0:
        signal_files("child")
        os._exit(0)
    signal_files("inside")
"""
THREE = {"DURABLE_CONCURRENCY_LIMITS": '{"api": 3}'}


def test_the_slots_of_a_killed_process_are_free_at_once(script, monkeypatch):
    monkeypatch.chdir(script.folder)
    script.write(HOLDER)
    process = script.start(**THREE)
    script.wait_for("inside.here", process)
    with concurrency("api", timeout_seconds=0, limit=3):
        pass
    with pytest.raises(ConcurrencyTimeoutError, match=rf"2 of 3 are held, by process {process.pid} \(2\)"):
        concurrency("api", 2, timeout_seconds=0, limit=3).__enter__()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with concurrency("api", 3, timeout_seconds=0, limit=3):
        pass
    assert not Path("runs.db-limits").exists(), "nothing of the dead process is left"


def test_who_waits_for_a_process_goes_on_when_it_is_killed(script, monkeypatch):
    monkeypatch.chdir(script.folder)
    script.write(HOLDER)
    process = script.start(**THREE)
    script.wait_for("inside.here", process)
    waits, passed = threading.Event(), []

    def wait():
        waits.set()
        with concurrency("api", 3, timeout_seconds=LONG, limit=3):
            passed.append(1)

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    waits.wait()
    assert passed == []
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    waiter.join(LONG)
    assert passed == [1]


def test_a_forked_child_keeps_no_slots_of_a_dead_parent(script, monkeypatch):
    monkeypatch.chdir(script.folder)
    script.write(HOLDER)
    process = script.start(FORK="1", **THREE)
    try:
        script.wait_for("child.here", process)
        script.wait_for("inside.here", process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with concurrency("api", 3, timeout_seconds=0, limit=3):
            pass
    finally:
        script.go("child")
        stop(process)


def test_a_forked_child_that_leaves_its_parents_block_gives_nothing_back(script, monkeypatch):
    monkeypatch.chdir(script.folder)
    script.write(
        """
        from durable.concurrency import concurrency
        with concurrency("api"):
            child = os.fork()
            if child:
                os.waitpid(child, 0)
                signal_files("inside")
        if not child:
            with concurrency("api", 2):
                ran("child")
        """
    )
    process = script.start(**THREE)
    script.wait_for("inside.here", process)
    assert script.ran() == ["child"]
    with pytest.raises(ConcurrencyTimeoutError, match="1 of 3"):
        concurrency("api", 3, timeout_seconds=0, limit=3).__enter__()
    script.go("inside")
    assert finish(process).code == 0


# What ends a wait


def test_a_wait_that_takes_too_long_says_for_what_and_who_has_it(journal):
    with concurrency("api", 2, limit=2):
        with pytest.raises(TimeoutError) as caught, concurrency("api", timeout_seconds=0.01, limit=2):
            pass
        assert isinstance(caught.value, DurableError)
        assert str(caught.value).startswith(
            "no slot of 'api' within 0.01 second(s): 2 of 2 are held, by this process (2)."
        )
        with pytest.raises(ConcurrencyTimeoutError):
            asyncio.run(concurrency("api", timeout_seconds=0.01, limit=2).__aenter__())


def test_a_wait_for_several_limits_that_fails_gives_back_what_it_had(journal):
    with concurrency("b", limit=1):
        with pytest.raises(ConcurrencyTimeoutError, match="'b'"), concurrency(["b", "a"], 1, 0, limit=1):
            pass
        with concurrency("a", timeout_seconds=0, limit=1):
            pass
    with concurrency(["b", "a", "b"], timeout_seconds=0, limit=1):
        for name in "ab":
            with pytest.raises(ConcurrencyTimeoutError), concurrency(name, timeout_seconds=0, limit=1):
                pass


def test_a_timeout_is_a_tasks_failure_like_others_and_is_retried(journal):
    attempts = []

    @task(retries=2)
    def call():
        attempts.append(1)
        with concurrency("api", timeout_seconds=0, limit=1):
            return "done"

    @flow
    def job():
        with ExitStack() as held:
            held.enter_context(concurrency("api", limit=1))
            state = call(return_state=True)
        return state.name, call()

    assert job() == ("TimedOut", "done")
    assert len(attempts) == 4


def test_an_exception_gives_the_slots_back(journal):
    for error in (ValueError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error), concurrency("api", timeout_seconds=0, limit=1):
            raise error


def test_a_cancelled_coroutine_leaves_the_line_and_the_next_one_gets_the_slot(journal):
    order = []

    async def want(name):
        async with concurrency("api", limit=1):
            order.append(name)

    async def main():
        async with concurrency("api", limit=1):
            first, second = (asyncio.create_task(want(name)) for name in ("first", "second"))
            await asyncio.sleep(0)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
        await asyncio.wait_for(second, LONG)

    asyncio.run(main())
    assert order == ["second"]
    assert limits_left(journal) == []


INTERRUPTED = """
from durable.concurrency import concurrency
from durable.task_runners import ThreadPoolTaskRunner

@task
DEF call(n):
    ran("begins", n)
    WITH concurrency("api", limit=1):
        ran("has it", n)
    return n

@flow(task_runner=ThreadPoolTaskRunner(2))
DEF job():
    if os.environ["HOW"] == "called":
        return AWAIT call(0)
    futures = call.map(range(4))
    AWAIT futures.result() if "DEF" == "def " else AWAIT futures

RUN(job())
"""


@pytest.mark.parametrize("how", ["called", "mapped"])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_ctrl_c_ends_a_wait_at_once_and_a_resume_goes_on(script, monkeypatch, colour, how):
    monkeypatch.chdir(script.folder)
    is_async = colour == "async"
    text = INTERRUPTED.replace('AWAIT futures.result() if "DEF" == "def " else AWAIT futures', "GET")
    for word, plain, coloured in (
        ("DEF ", "def ", "async def "),
        ("AWAIT ", "", "await "),
        ("WITH ", "with ", "async with "),
        ("GET", "return futures.result()", "return await futures"),
        ("RUN(", "(", "asyncio.run("),
    ):
        text = text.replace(word, coloured if is_async else plain)
    script.write(text)
    with concurrency("api", limit=1):
        process = script.start(HOW=how)
        script.wait_for_lines(1 if how == "called" else 2, process)
        process.send_signal(signal.SIGINT)
        ended = finish(process)
        assert ended.code != 0 and "KeyboardInterrupt" in ended.err
        assert not [line for line in script.ran() if "has it" in line]
    assert {states[-1] for states in script.tasks("call")} <= {"Crashed", "Cancelled"}
    script.ok(HOW=how)
    assert len([line for line in script.ran() if "has it" in line]) == (1 if how == "called" else 4)


@pytest.mark.parametrize("submitted", [False, True])
def test_cancelling_the_run_ends_a_wait(journal, submitted):
    @task
    def call():
        run = durable.runtime.flow_run.id
        Cancellation(journal, bytes.fromhex(run)).ask()
        with concurrency("api", limit=1):
            pass

    @flow
    def job():
        return call.submit().result() if submitted else call()

    with concurrency("api", limit=1), pytest.raises(FlowRunCancelled):
        job()
    assert limits_left(journal) == []


def test_who_waits_does_not_lock_up_a_pool_whose_places_the_holder_needs(journal):
    """Two places. The holder waits for a task behind others, which wait for the slot."""
    holds, crowded = threading.Event(), threading.Event()

    @task
    def wants(n):
        crowded.set()
        with concurrency("api", limit=1):
            return n

    @task
    def plain():
        return 100

    @task
    def holder():
        with concurrency("api", limit=1):
            holds.set()
            crowded.wait(LONG)
            return plain.submit().result(LONG)

    @task
    def others():
        holds.wait(LONG)
        return sum(wants.map(range(5)).result())

    @flow(task_runner=ThreadPoolTaskRunner(2))
    def job():
        first, second = holder.submit(), others.submit()
        return first.result(LONG) + second.result(LONG)

    assert job() == 110
