"""SERIALIZABLE memos: of calls that miss one key at once, in any threads and processes, one runs the body."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from scripts import finish, histories

from durable import ConfigurationError, task
from durable.cache_policies import DEFAULT, INPUTS, TASK_SOURCE, IsolationLevel

SERIALIZABLE = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE)


def test_threads_that_miss_at_once_run_the_body_once(journal):
    ran, together = [], threading.Barrier(8)

    @task(cache_policy=SERIALIZABLE)
    def slow(x):
        ran.append(x)
        time.sleep(0.2)  # real: the others must arrive while it runs
        return {"value": x}

    def call(_):
        together.wait()
        return slow(1)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(call, range(8))) == [{"value": 1}] * 8
    assert ran == [1]
    assert sorted(map(tuple, histories(journal, "slow"))) == [("Pending", "Cached")] * 7 + [("Running", "Completed")]


def test_coroutines_that_miss_at_once_run_the_body_once(journal):
    ran = []

    @task(cache_policy=SERIALIZABLE)
    async def slow(x):
        ran.append(x)
        await asyncio.sleep(0.1)
        return x

    async def main():
        return await asyncio.gather(*[slow(1) for _ in range(5)], slow(2))

    assert asyncio.run(main()) == [1, 1, 1, 1, 1, 2]
    assert sorted(ran) == [1, 2]


def test_processes_that_miss_at_once_run_the_body_once(script):
    script.write(
        """
    from durable.cache_policies import INPUTS

    @task(cache_policy=INPUTS.configure(isolation_level="SERIALIZABLE"))
    def slow(x):
        ran("slow")
        time.sleep(0.5)
        return x

    print(slow(7))
    """
    )
    processes = [script.start() for _ in range(4)]
    assert [finish(process).out for process in processes] == ["7\n"] * 4
    assert script.ran() == ["slow"]


def test_a_dead_holder_frees_the_key_at_once(script):
    script.write(
        """
    from durable.cache_policies import INPUTS

    @task(cache_policy=INPUTS.configure(isolation_level="SERIALIZABLE"))
    def slow(x):
        ran("slow")
        die("inside")
        return x

    print(slow(7))
    """
    )
    script.killed("inside")
    assert script.ok() == "7"
    assert script.ran() == ["slow", "slow"]


def test_after_a_failure_the_next_one_runs(journal):
    ran = []

    @task(cache_policy=SERIALIZABLE)
    def flaky(x):
        ran.append(x)
        if len(ran) == 1:
            raise ValueError("first")
        return x

    with pytest.raises(ValueError):
        flaky(1)
    assert flaky(1) == 1
    assert flaky(1) == 1
    assert ran == [1, 1]


def test_no_lock_file_is_left(journal):
    @task(cache_policy=SERIALIZABLE)
    def quick(x):
        return x

    quick(1)
    quick(2)
    assert not journal.with_name("runs.db-locks").exists()


def test_other_policies_do_not_wait(journal):
    together = threading.Barrier(2, timeout=60)

    @task(cache_policy=INPUTS)
    def both(x):
        together.wait()  # both bodies must be in here at once
        return x

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(both, [1, 1])) == [1, 1]


def test_the_level_survives_composition():
    assert (SERIALIZABLE + TASK_SOURCE).is_serializable
    assert (TASK_SOURCE + SERIALIZABLE - "x").is_serializable
    assert not INPUTS.is_serializable
    assert not (DEFAULT + SERIALIZABLE).is_serializable, "a checkpoint is one call's own"


def test_an_unknown_level_is_refused():
    with pytest.raises(
        ConfigurationError, match=r"isolation_level='FAST': expected 'READ_COMMITTED' or 'SERIALIZABLE'"
    ):
        INPUTS.configure(isolation_level="FAST")


def test_a_call_that_would_wait_for_itself_is_refused(journal):
    @task(cache_policy=SERIALIZABLE)
    def each(n):
        yield from range(n)

    @task(cache_policy=SERIALIZABLE)
    def step(n):
        return step(n)

    with pytest.raises(ConfigurationError, match=r"each \(.*would wait for ever"):
        [(one, other) for one in each(2) for other in each(2)]
    with pytest.raises(ConfigurationError, match=r"step \(.*would wait for ever"):
        step(1)
    assert [(one, other) for one in each(2) for other in each(3)] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
