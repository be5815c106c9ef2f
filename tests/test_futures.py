"""Futures: what a submitted task run tells, in flows of both colours, in tasks, and across threads."""

import asyncio
import threading

import pytest
from scripts import histories, query
from submitting import one_worker, run

import durable
from durable import ConfigurationError, Future, MissingContextError, UnfinishedRun, task
from durable.futures import FutureList, as_completed, wait
from durable.runners import ThreadPoolTaskRunner

pytestmark = pytest.mark.usefixtures("journal")


@task
def add(x, y=1):
    return x + y


@task
async def add_async(x, y=1):
    await asyncio.sleep(0)
    return x + y


@task
def fail(text="boom"):
    raise ValueError(text)


@pytest.mark.parametrize("submitted", [add, add_async], ids=["sync", "async"])
def test_a_sync_flow_gets_results_of_both_colours(submitted):
    def job():
        future = submitted.submit(1, y=2)
        assert isinstance(future, Future)
        return future.result(), future.result(timeout=0), future.done()

    assert run(job) == (3, 3, True)


@pytest.mark.parametrize("submitted", [add, add_async], ids=["sync", "async"])
def test_an_async_flow_awaits_results_of_both_colours(submitted):
    async def job():
        first, second = submitted.submit(1), submitted.submit(2)
        return await first, await asyncio.gather(first, second), await asyncio.wait_for(second, 60)

    assert run(job) == (2, [2, 3], 3)


def test_a_task_submits_and_so_do_those_it_submits(journal):
    @task
    def grow(depth):
        return 0 if depth == 0 else 1 + grow.submit(depth - 1).result()

    assert run(lambda: grow.submit(4).result()) == 4
    rows = query(journal, "SELECT task_run_row, parent_task_run_row FROM task_runs ORDER BY task_run_row")
    assert [parent for _, parent in rows] == [None, *(run for run, _ in rows[:-1])]


def test_submit_outside_of_a_flow_is_refused():
    with pytest.raises(MissingContextError, match=r"add.*\.submit\(\) was called outside of any flow"):
        add.submit(1)
    with pytest.raises(MissingContextError, match=r"\.map\(\) was called outside"):
        add.map([1])


def test_a_result_that_does_not_come_in_time_is_a_timeout_and_comes_later(gate):
    def job():
        future = gate.stand.submit()
        gate.entered.wait(60)
        with pytest.raises(TimeoutError, match=r"'stand-...' did not complete within 0 second"):
            future.result(timeout=0)
        with pytest.raises(TimeoutError, match="did not complete"):
            FutureList([future]).result(timeout=0)
        future.wait(timeout=0)
        assert not future.done()
        gate.open.set()
        return future.result()

    assert run(job) == "stood"


def test_a_failure_is_raised_or_given_as_asked():
    def job():
        future = fail.submit()
        with pytest.raises(ValueError, match="boom"):
            future.result()
        error = future.result(raise_on_failure=False)
        assert type(error) is ValueError
        assert future.state.is_failed()
        assert future.state.message == "ValueError: boom"
        assert future.state.result(raise_on_failure=False) is error
        return "handled"

    assert run(job) == "handled"


def test_the_traceback_of_a_failure_begins_in_the_users_function():
    def job():
        with pytest.raises(ValueError, match="boom") as caught:
            fail.submit().result()
        return [frame.name for frame in caught.traceback][-1]

    assert run(job) == "fail"


def test_the_state_goes_from_pending_to_running_to_its_end(gate):
    def job():
        running, pending = gate.stand.submit(), add.submit(1)
        gate.entered.wait(60)
        seen = [running.state.name, pending.state.name, repr(pending).rpartition(" ")[2]]
        gate.open.set()
        running.wait()
        pending.wait()
        return [*seen, running.state.name, pending.state.data, repr(pending).rpartition(" ")[2]]

    assert run(job, task_runner=one_worker()) == [
        *("Running", "Pending", "unfinished>"),
        *("Completed", 2, "Completed>"),
    ]


def test_name_and_id_are_those_in_the_journal(journal):
    @task(task_run_name="adding-{x}")
    def named(x):
        return x

    def job():
        futures = [named.submit(5), add.submit(1)]
        wait(futures)
        return [(future.name, future.task_run_id) for future in futures]

    (own, first), (default, second) = run(job)
    assert query(journal, "SELECT id FROM task_runs ORDER BY task") == [(second,), (first,)]
    assert (own, default) == ("adding-5", f"add-{second[:3]}")


def test_callbacks_are_called_once_with_the_future_also_after_its_end(caplog):
    calls, futures = [], []

    def job():
        future = add.submit(1)
        future.add_done_callback(calls.append)
        future.add_done_callback(lambda _: 1 / 0)
        future.add_done_callback(calls.append)
        future.wait()
        late = add.submit(2)
        late.wait()
        late.add_done_callback(calls.append)
        futures.extend((future, late))
        return future, late

    results = run(job)
    assert results == (2, 3)
    # Who waits is woken first, so this thread's may come between the worker's two.
    assert len(calls) == 3
    assert [calls.count(future) for future in futures] == [2, 1]
    assert "ZeroDivisionError" in caplog.text


def test_a_callback_may_submit_more_and_the_flow_waits_for_it():
    more = []

    def job():
        add.submit(1).add_done_callback(lambda done: more.append(add.submit(done.result())))

    run(job)
    assert [future.done() for future in more] == [True]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=["SystemExit", "KeyboardInterrupt"])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_an_exit_in_a_worker_ends_the_flow_and_no_thread_is_lost(journal, error, colour):
    @task
    def leave():
        raise error

    @task
    async def leave_async():
        raise error

    left = leave if colour == "sync" else leave_async

    def job():
        left.submit()
        return add_async.map(range(5)).result(), add.map(range(5)).result()

    with pytest.raises(type(error)):
        run(job, task_runner=one_worker())
    assert histories(journal, left.fn.__name__) == [["Running", "Crashed"]]
    assert [row[0] for row in query(journal, "SELECT state FROM flow_runs")] == ["Crashed"]


def test_as_completed_gives_each_once_as_they_end(gate):
    def job():
        slow, quick = gate.stand.submit(), add.submit(1)
        order = []
        for future in as_completed([slow, quick, slow]):
            order.append(future.name.partition("-")[0])
            gate.open.set()
        return order

    assert run(job, task_runner=ThreadPoolTaskRunner(2)) == ["add", "stand"]


def test_as_completed_and_wait_give_up_in_time(gate):
    def job():
        slow, quick = gate.stand.submit(), add.submit(1)
        quick.wait()
        with pytest.raises(TimeoutError, match=r"1 \(of 2\) futures unfinished"):
            list(as_completed([slow, quick], timeout=0))
        done, not_done = wait([slow, quick], timeout=0)
        assert (done, not_done) == ({quick}, {slow})
        with pytest.raises(ConfigurationError, match="expected seconds, 0 or more"):
            wait([slow], timeout=-1)
        gate.open.set()
        assert wait([slow]).done == {slow}

    run(job, task_runner=ThreadPoolTaskRunner(2))


def test_a_list_of_futures_gives_results_in_order_and_one_failure_handles_all():
    @task
    def odd(x):
        if x % 2:
            raise ValueError(x)
        return x

    def job():
        futures = odd.map(range(6))
        with pytest.raises(ValueError, match="1"):
            futures.result()
        told = futures.result(raise_on_failure=False)
        return [value if isinstance(value, int) else str(value) for value in told]

    assert run(job) == [0, "1", 2, "3", 4, "5"]


def test_a_list_of_futures_is_awaited_whole():
    async def job():
        return await add_async.map(range(3)), await add.map(range(3))

    assert run(job) == ([1, 2, 3], [1, 2, 3])


def test_blocking_the_loop_that_a_result_needs_is_refused():
    async def job():
        waits = add.submit(add_async.submit(1))
        for ask in (waits.result, waits.wait, lambda: wait([waits]), lambda: list(as_completed([waits]))):
            with pytest.raises(
                ConfigurationError, match=r"'add-...' was asked for on the event loop .* `await future`"
            ):
                ask()
        with pytest.raises(ConfigurationError, match="await"):
            add_async.submit(5, return_state=True)
        return await waits, add.submit(1).result()

    assert run(job) == (3, 2)


def test_asking_whether_a_long_chain_needs_the_loop_does_not_overflow():
    async def job():
        future = add_async.submit(0)
        for _ in range(2000):
            future = add.submit(future)
        with pytest.raises(ConfigurationError):
            future.result()
        future.cancel()

    run(job)


def test_async_tasks_of_an_async_flow_run_on_its_own_loop():
    @task
    async def here():
        return id(asyncio.get_running_loop()), threading.get_ident()

    async def job():
        mine = id(asyncio.get_running_loop()), threading.get_ident()
        assert await here.submit() == mine
        assert await here.submit(wait_for=[add.submit(1)]) == mine

    run(job)


def test_async_tasks_submitted_in_a_thread_of_an_async_flow_run_on_its_loop():
    loops = []

    @task
    async def here():
        loops.append(asyncio.get_running_loop())

    @task
    def in_a_thread():
        here.submit().result()

    async def job():
        loops.append(asyncio.get_running_loop())
        await in_a_thread.submit()

    run(job)
    assert loops[0] is loops[1]


def test_async_tasks_of_a_sync_flow_share_one_loop_beside_it_that_ends_with_the_flow():
    seen = []

    @task
    async def here():
        seen.append((asyncio.get_running_loop(), threading.current_thread()))

    def job():
        here.submit().wait()
        here.submit().wait()

    run(job)
    assert len({id(loop) for loop, _ in seen}) == len({thread for _, thread in seen}) == 1
    loop, thread = seen[0]
    assert thread is not threading.current_thread()
    assert loop.is_closed()
    assert not thread.is_alive()


def test_the_body_runs_in_the_context_of_the_submit():
    from contextvars import ContextVar

    variable = ContextVar("variable", default="outside")

    @task
    def look():
        return variable.get(), durable.runtime.flow_run.name, sorted(durable.runtime.task_run.tags)

    @task
    async def look_async():
        return variable.get(), durable.runtime.flow_run.name, sorted(durable.runtime.task_run.tags)

    def job():
        variable.set("inside")
        with durable.tags("red"):
            futures = [look.submit(), look_async.submit()]
        variable.set("later")
        return [future.result() for future in futures], durable.runtime.flow_run.name

    told, name = run(job)
    assert told == [("inside", name, ["red"])] * 2


def test_contexts_do_not_leak_from_one_task_run_to_the_next():
    from contextvars import ContextVar

    variable = ContextVar("variable", default="clean")

    @task
    def soil(value):
        before = variable.get()
        variable.set(value)
        return before

    assert run(lambda: soil.map(range(20)).result(), task_runner=one_worker()) == ["clean"] * 20


def test_old_outcomes_are_read_from_the_journal_again(monkeypatch):
    monkeypatch.setattr("durable.runners.kept.HELD", 2)

    @task(task_run_name="square-{x}")
    def square(x):
        if x == 3:
            raise LookupError(x)
        return [x * x]

    def job():
        futures = square.map(range(6))
        futures.wait()
        add.map(range(4)).wait()
        assert [future.name for future in futures] == [f"square-{x}" for x in range(6)]
        assert [future.state.name for future in futures] == ["Completed"] * 3 + ["Failed"] + ["Completed"] * 2
        assert [future.state.message for future in futures][3] == "LookupError: 3"
        with pytest.raises(LookupError):
            futures[3].result()
        dependents = [add.submit(futures[2], y=[1]), add.submit(futures[3])]
        assert dependents[1].state.name in ("Pending", "NotReady", "Running")
        with pytest.raises(UnfinishedRun, match="LookupError: 3"):
            dependents[1].result()
        return dependents[0].result(), [future.result(raise_on_failure=False) for future in futures[4:]]

    assert run(job) == ([4, 1], [[16], [25]])


def test_many_old_outcomes_that_are_read_together_are_what_each_is(monkeypatch):
    monkeypatch.setattr("durable.runners.kept.HELD", 1)

    @task
    def long_unless(x):
        if x == 70:
            raise LookupError(x)
        return [x] * (5000 if x == 71 else 1)  # what is long is not read along

    def job():
        futures = long_unless.map([*range(100), 5])
        futures.wait()
        with pytest.raises(LookupError, match="70"):
            futures.result()
        return futures.result(raise_on_failure=False)

    values = run(job)
    assert repr(values.pop(70)) == "LookupError(70)"
    assert values == [[x] * (5000 if x == 71 else 1) for x in [*range(70), *range(71, 100), 5]]


def test_values_that_are_not_recorded_stay_with_their_futures(monkeypatch):
    monkeypatch.setattr("durable.runners.kept.HELD", 1)

    @task(persist_result=False)
    def thing(x):
        return x

    @task
    def letters():
        yield from "abc"

    def job():
        futures, listed = thing.map(range(5)), letters.submit()
        add.map(range(3)).wait()
        return futures.result(), listed.result()

    assert run(job) == ([0, 1, 2, 3, 4], ["a", "b", "c"])


def test_cache_result_in_memory_false_keeps_no_value_in_the_future():
    @task(cache_result_in_memory=False)
    def thing(x):
        return [x]

    def job():
        future = thing.submit(1)
        future.wait()
        return future.result(), future.result() is future.result()

    assert run(job) == ([1], False)


def test_an_error_of_durables_own_is_the_askers_and_no_end_of_the_flow():
    @task(task_run_name=lambda: 1 / 0)
    def unnameable():
        return 1

    def job():
        future = unnameable.submit()
        with pytest.raises(Exception, match=r"division by zero|ZeroDivision"):
            future.result()
        return "goes on"

    assert run(job) == "goes on"
