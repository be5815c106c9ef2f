"""Calls of tasks, one kind at a time: policies, interruptions, methods, states, calls outside any flow."""

import asyncio

import pytest
from scripts import histories, in_colour, query

from durable import TaskInterrupted, flow, task
from durable.cache_policies import DEFAULT, INPUTS, NONE, TASK_SOURCE

INTERRUPTED = """
@task(on_interrupt="fail")
DEF pay(n):
    ran("pay", n)
    die(f"pay {n}")
    return n

@task
DEF before():
    ran("before")

@flow
DEF job():
    AWAIT before()
    return [AWAIT pay(n) for n in range(3)]

print(RUN(job()))
"""


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_task_that_must_not_run_twice_is_refused_until_somebody_looked(script, colour):
    script.write(in_colour(INTERRUPTED, colour))
    script.killed("pay 1")
    script.ran()
    for _ in range(3):
        ended = script.run()
        assert ended.code == 1
        assert "errors.TaskInterrupted: task pay" in ended.err
        assert "DURABLE_ON_INTERRUPT=retry" in ended.err
        assert script.ran() == []
    assert script.ok(DURABLE_ON_INTERRUPT="retry") == "[0, 1, 2]"
    assert script.ran() == ["pay 1", "pay 2"]
    assert len(script.flows()) == 1
    assert script.tasks("pay")[1] == ["Running", "Crashed", "Running", "Completed"]


def test_if_lifted_and_killed_again_it_is_refused_again(script):
    script.write(INTERRUPTED.replace("DEF ", "def ").replace("AWAIT ", "").replace("RUN(", "("))
    script.killed("pay 1")
    script.killed("pay 1", DURABLE_ON_INTERRUPT="retry")
    assert "TaskInterrupted" in script.run().err
    assert script.ran() == ["before", "pay 0", "pay 1", "pay 1"]
    assert "expected 'retry' or 'fail'" in script.run(DURABLE_ON_INTERRUPT="yes").err


def test_a_flow_cannot_mistake_taskinterrupted_for_its_tasks_failure(journal):
    ran = []

    @task(on_interrupt="fail", retries=3)
    def pay():
        ran.append(1)
        raise KeyboardInterrupt

    @task(retries=3)
    def outer():
        return pay()

    @flow
    def job():
        return outer()

    with pytest.raises(KeyboardInterrupt):
        job()
    for _ in range(2):
        with pytest.raises(TaskInterrupted, match="pay"):
            job()
    assert ran == [1]
    assert histories(journal, "pay") == [["Running", "Crashed"]]


def interrupted_once(journal, task_options, *, calls=1):
    """Run a flow that is interrupted after its task, then resume it; how often the body ran, and the states."""
    ran, stop = [], [True]

    @task(**task_options)
    def step(n):
        ran.append(n)
        return len(ran)

    @flow
    def job():
        found = [step(7) for _ in range(calls)]
        if stop:
            stop.clear()
            raise KeyboardInterrupt
        return found

    with pytest.raises(KeyboardInterrupt):
        job()
    return job(), len(ran), histories(journal, "step")


def test_without_a_kept_result_a_task_runs_again_in_a_resumed_run(journal):
    found = interrupted_once(journal, {"persist_result": False})
    assert found == ([2], 2, [["Running", "Completed", "Running", "Completed"]])
    assert query(journal, "SELECT count(*) FROM task_runs WHERE result_bytes IS NOT NULL") == [(0,)]


def test_none_never_replays(journal):
    found = interrupted_once(journal, {"cache_policy": NONE})
    assert found == ([2], 2, [["Running", "Completed", "Running", "Completed"]])


def test_default_replays_each_of_equal_calls(journal):
    found = interrupted_once(journal, {}, calls=3)
    assert found == ([1, 2, 3], 3, [["Running", "Completed"]] * 3)


def test_a_memo_hits_in_the_run_that_recorded_it(journal):
    found = interrupted_once(journal, {"cache_policy": INPUTS}, calls=2)
    assert found == ([1, 1], 1, [["Running", "Completed"], ["Pending", "Cached"]])


def test_a_memo_hits_across_runs_and_outside_them(journal):
    ran = []

    @task(cache_policy=INPUTS)
    def square(n):
        ran.append(n)
        return {"square": (n, n * n)}

    @flow
    def job(n):
        return [square(n), square(n=n), square(n + 1)]

    assert job(2) == [{"square": (2, 4)}] * 2 + [{"square": (3, 9)}]
    assert job(3) == [{"square": (3, 9)}] * 2 + [{"square": (4, 16)}]
    assert square(4) == {"square": (4, 16)}
    assert ran == [2, 3, 4]
    rows = query(journal, "SELECT state, attempts FROM task_runs ORDER BY task_run_row")
    assert [state for state, _ in rows] == [
        "Completed",
        "Cached",
        "Completed",
        "Cached",
        "Cached",
        "Completed",
        "Cached",
    ]
    assert all(attempts == (state == "Completed") for state, attempts in rows)
    # A Cached run points at the result of its origin.
    results = query(
        journal,
        "SELECT s.result_row FROM states AS s WHERE s.state IN ('Completed', 'Cached') AND run_kind = 'task run'",
    )
    assert len({row for (row,) in results}) == 3


def test_a_default_checkpoint_is_no_memo(journal):
    ran = []

    @task
    def step(n):
        ran.append(n)
        return n

    @flow
    def job():
        return step(1)

    job(), job(), step(1)
    assert ran == [1, 1, 1]


def test_an_argument_left_out_does_not_count(journal):
    ran, stop = [], [True]

    @task(cache_policy=DEFAULT - "when")
    def step(n, when):
        ran.append((n, when))
        return n

    @flow
    def job():
        found = step(1, object()), step(1, len(ran)), step(2, 0)
        if stop:
            stop.clear()
            raise KeyboardInterrupt
        return found

    with pytest.raises(KeyboardInterrupt):
        job()
    assert job() == (1, 1, 2)
    assert len(ran) == 3


def test_a_failure_is_never_memoised(journal):
    ran = []

    @task(cache_policy=INPUTS + TASK_SOURCE)
    def step():
        ran.append(1)
        if len(ran) == 1:
            raise ValueError("no")
        return len(ran)

    with pytest.raises(ValueError, match="no"):
        step()
    assert [step(), step()] == [2, 2]


def test_retry_delays_follow_the_list_and_its_last_value_repeats(journal, clock):
    ran = []

    @task(retries=4, retry_delay_seconds=[1, 5])
    def flaky():
        ran.append(clock.seconds)
        if len(ran) < 5:
            raise ValueError(len(ran))
        return "good"

    assert flaky() == "good"
    assert clock.slept == [1, 5, 5, 5]
    assert histories(journal, "flaky") == [["Running"] + ["AwaitingRetry", "Retrying"] * 4 + ["Completed"]]
    assert query(journal, "SELECT attempts FROM task_runs") == [(5,)]
    messages = query(journal, "SELECT message FROM states WHERE state = 'AwaitingRetry' ORDER BY seq")
    assert messages == [(f"ValueError: {n}",) for n in (1, 2, 3, 4)]
    # Each failed attempt keeps its exception.
    assert query(journal, "SELECT count(*) FROM results WHERE format = 'exception'") == [(4,)]


@pytest.mark.parametrize("delay", [None, 0, [], [0]])
def test_without_a_delay_a_retry_follows_at_once(journal, clock, delay):
    ran = []

    @task(retries=2, retry_delay_seconds=delay)
    def flaky():
        ran.append(1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        flaky()
    assert (len(ran), clock.slept) == (3, [])
    assert histories(journal, "flaky") == [["Running", "Retrying", "Retrying", "Failed"]]


def test_a_task_outside_any_flow_is_journaled(journal):
    @task
    def inner(n):
        return n

    @task(retries=1)
    def outer(n):
        if n > 1:
            raise ValueError("big")
        return inner(n)

    assert outer(1) == 1
    with pytest.raises(ValueError, match="big"):
        outer(2)
    assert histories(journal, "outer") == [["Running", "Completed"], ["Running", "Retrying", "Failed"]]
    assert query(journal, "SELECT count(*) FROM flow_runs") == [(0,)]
    assert query(journal, "SELECT task, parent_task_run_row IS NOT NULL, flow_run_row FROM task_runs") == [
        ("outer", 0, None),
        ("inner", 1, None),
        ("outer", 0, None),
    ]


def test_return_state_gives_states_and_raises_nothing_of_the_tasks(journal):
    @task
    def step(n):
        if n:
            raise ValueError("boom")
        return "value"

    @task
    async def step_async(n):
        return step.fn(n)

    def both(n):
        return step(n, return_state=True), asyncio.run(step_async(n, return_state=True))

    for good in both(0):
        assert good.is_completed()
        assert good.result() == "value"
    for bad in both(1):
        assert (bad.name, bad.message) == ("Failed", "ValueError: boom")
        assert isinstance(bad.result(raise_on_failure=False), ValueError)
        with pytest.raises(ValueError, match="boom"):
            bad.result()


def test_return_state_is_the_same_after_a_resume(journal, clock):
    stop, seen = [True], []

    @task
    def step(n):
        if n:
            raise ValueError("boom")
        return n

    @flow
    def job():
        seen.append([step(n, return_state=True) for n in (0, 1)])
        if stop:
            stop.clear()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job()
    clock.seconds += 60
    job()
    first, resumed = [[(s.name, s.message, s.run_id, s.timestamp) for s in states] for states in seen]
    assert resumed == first
    assert [(s.name, s.message) for s in seen[1]] == [("Completed", ""), ("Failed", "ValueError: boom")]
    assert [type(s.result(raise_on_failure=False)) for s in seen[1]] == [int, ValueError]


def test_return_state_does_not_swallow_an_interruption(journal):
    @task
    def step():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        step(return_state=True)


METHODS = """
import dataclasses

@dataclasses.dataclass
class Table:
    name: str
    rows: tuple = ()

    def __len__(self):
        return len(self.rows)  # an empty table is falsy

    @task
    DEF load(self, n=1):
        ran("load", self.name, n)
        return (self.name, n)

    @classmethod
    @task
    DEF outer_class(cls, n):
        ran("outer_class", n)
        return (cls.__name__, n)

    @task
    @classmethod
    DEF inner_class(cls, n):
        ran("inner_class", n)
        return (cls.__name__, n)

    @staticmethod
    @task
    DEF outer_static(n):
        ran("outer_static", n)
        return n

    @task
    @staticmethod
    DEF inner_static(n):
        ran("inner_static", n)
        return n

class Other(Table):
    pass

@flow
DEF job():
    a, b = Table("a"), Other("b", (1,))
    assert not a and b
    found = [
        AWAIT a.load(), AWAIT b.load(2), AWAIT Table.load(a, 3),
        AWAIT a.outer_class(4), AWAIT Other.outer_class(4), AWAIT b.inner_class(5), AWAIT Table.inner_class(5),
        AWAIT a.outer_static(6), AWAIT Table.outer_static(6), AWAIT a.inner_static(7), AWAIT Table.inner_static(7),
        AWAIT a.load.with_options(retries=1)(8),
    ]
    die("end")
    return found

if __name__ == "__main__":
    print(RUN(job()))
"""


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_methods_of_every_kind_are_tasks_and_replay(script, colour):
    script.write(in_colour(METHODS, colour))
    script.killed("end")
    assert len(script.ran()) == 12
    assert script.ok() == str(
        [
            *[("a", 1), ("b", 2), ("a", 3)],
            *[("Table", 4), ("Other", 4), ("Other", 5), ("Table", 5)],
            *[6, 6, 7, 7, ("a", 8)],
        ]
    )
    assert script.ran() == []


def test_a_flow_may_be_a_method(journal):
    class Job:
        @task
        def step(self):
            return 1

        @flow
        def run(self):
            return self.step()

        @flow
        async def run_async(self):
            return self.step()

        def __bool__(self):
            return False

    assert Job().run() == 1
    assert asyncio.run(Job().run_async()) == 1
    assert query(journal, "SELECT flow, state FROM flow_runs") == [("run", "Completed"), ("run-async", "Completed")]


def test_a_task_called_in_a_thread_of_its_own_is_journaled(journal):
    import contextvars
    import threading

    found = []

    @task
    def step(n):
        return n

    @flow
    def job():
        context = contextvars.copy_context()
        threads = [
            threading.Thread(target=context.copy().run, args=(lambda n=n: found.append(step(n)),)) for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(found)

    assert job() == list(range(8))
    assert query(journal, "SELECT count(*) FROM task_runs WHERE flow_run_row = 1 AND state = 'Completed'") == [(8,)]


def test_a_task_called_in_a_flow_s_thread_without_its_context_says_so_once(journal, caplog):
    from concurrent.futures import ThreadPoolExecutor

    @task
    def step(n):
        return n

    @flow
    def job():
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(step, range(4)))

    assert step(9) == 9
    assert not caplog.records  # outside any flow that is meant
    assert job() == [0, 1, 2, 3]
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "step (" in told
    assert "recorded outside of it" in told
    assert query(journal, "SELECT count(*) FROM task_runs WHERE flow_run_row IS NULL") == [(5,)]
