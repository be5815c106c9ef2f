"""Retries: how long a wait is, who decides, and that a flow's retry keeps what completed. Time is injected."""

import asyncio
import functools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripts import query

from durable import ConfigurationError, flow, task
from durable.retries import MAX_DELAYS, exponential_backoff, jittered


def failing(times, error=ValueError):
    """A body that fails so often and then gives the number of its call; and the list of its calls."""
    calls = []

    def body():
        calls.append(1)
        if len(calls) <= times:
            raise error(len(calls))
        return len(calls)

    return body, calls


def awaited(body):
    async def function():
        await asyncio.sleep(0)
        return body()

    return function


def in_a_flow(body, driver, **options):
    """Run a flow that calls one task made of `body`, by the sync or the async driver."""
    if driver == "sync":
        step = task(**options)(body)

        @flow
        def job():
            return step()

        return job()
    step_async = task(**options)(awaited(body))

    @flow
    async def job_async():
        return await step_async()

    return asyncio.run(job_async())


both = pytest.mark.parametrize("driver", ["sync", "async"])


def test_exponential_backoff_doubles():
    assert exponential_backoff(10)(3) == [10, 20, 40]
    assert exponential_backoff(0.5)(0) == []
    assert len(exponential_backoff(1)(10**6)) == MAX_DELAYS


@pytest.mark.parametrize("factor", [-1, "1", math.nan, math.inf, None, True])
def test_a_backoff_that_cannot_be_meant_is_refused(factor):
    with pytest.raises(ConfigurationError, match="exponential_backoff"):
        exponential_backoff(factor)


@both
def test_a_callable_of_delays_is_asked_once_at_decoration(driver, journal, clock):
    asked = []

    def delays(retries):
        asked.append(retries)
        return [3, 5]

    body, calls = failing(3)
    assert in_a_flow(body, driver, retries=3, retry_delay_seconds=delays) == 4
    assert asked == [3]
    assert clock.slept == [3, 5, 5]
    assert len(calls) == 4


@given(
    base=st.floats(0.001, 1e6),
    factor=st.floats(0.01, 100),
    drawn=st.floats(0, 1, exclude_max=True),
)
def test_a_jittered_delay_lies_between_its_bounds(base, factor, drawn):
    upper = 1 + factor
    lower = math.log2(2**upper / (2**upper - 1)) if upper < 50 else 0
    delay = jittered(base, factor, lambda: drawn)
    assert base * lower * (1 - 1e-9) <= delay <= base * upper * (1 + 1e-9)


@pytest.mark.parametrize("factor", [0.1, 0.5, 1, 3])
def test_jitter_keeps_the_mean_near_the_delay(factor):
    steps = 10_000
    delays = [jittered(10, factor, functools.partial(lambda n: (n + 0.5) / steps, n)) for n in range(steps)]
    assert sum(delays) / steps == pytest.approx(10, rel=0.06)
    assert min(delays) < 10 < max(delays) <= 10 * (1 + factor)


@both
def test_a_jitter_factor_spreads_the_waits(driver, journal, clock):
    body, _ = failing(20)
    in_a_flow(body, driver, retries=20, retry_delay_seconds=10, retry_jitter_factor=1)
    assert len(set(clock.slept)) == 20
    assert all(0 < wait <= 20 for wait in clock.slept)


class Condition:
    """A callable object: Prefect 3 takes it for "never retry"."""

    def __init__(self):
        self.seen = []

    def __call__(self, task, task_run, state):
        self.seen.append((task.name, task_run.run_count, task_run.parameters, state.name, str(state.result(False))))
        return task_run.run_count < 2


@both
def test_a_condition_is_asked_before_each_retry_and_may_be_any_callable(driver, journal, clock):
    condition = Condition()
    body, calls = failing(5)
    with pytest.raises(ValueError, match="2"):
        in_a_flow(body, driver, retries=5, retry_condition_fn=condition)
    assert len(calls) == 2
    name = "body" if driver == "sync" else "function"
    assert condition.seen == [(name, 1, {}, "Failed", "1"), (name, 2, {}, "Failed", "2")]


@both
@pytest.mark.parametrize("kind", ["function", "partial", "method", "coroutine"])
def test_a_condition_of_any_kind_decides(driver, kind, journal, clock):
    def by_type(task, task_run, state):
        return isinstance(state.result(raise_on_failure=False), ValueError)

    async def by_type_later(task, task_run, state):
        await asyncio.sleep(0)
        return by_type(task, task_run, state)

    class Holder:
        def by_type(self, task, task_run, state):
            return by_type(task, task_run, state)

    conditions = {
        "function": by_type,
        "partial": functools.partial(by_type),
        "method": Holder().by_type,
        "coroutine": by_type_later,
    }
    body, calls = failing(1)
    assert in_a_flow(body, driver, retries=1, retry_condition_fn=conditions[kind]) == 2
    refused, refused_calls = failing(1, KeyError)
    with pytest.raises(KeyError):
        in_a_flow(refused, driver, retries=1, retry_condition_fn=conditions[kind])
    assert (len(calls), len(refused_calls)) == (2, 1)


@both
def test_a_condition_that_raises_means_no_and_is_logged(driver, journal, clock, caplog):
    def condition(task, task_run, state):
        raise RuntimeError("a bug in the condition")

    body, calls = failing(1)
    with pytest.raises(ValueError, match="1"):
        in_a_flow(body, driver, retries=3, retry_condition_fn=condition)
    assert len(calls) == 1
    assert "a bug in the condition" in caplog.text


def test_a_condition_is_not_asked_without_retries_left(journal, clock):
    condition = Condition()
    with pytest.raises(ValueError, match="1"):
        in_a_flow(failing(9)[0], "sync", retries=0, retry_condition_fn=condition)
    assert condition.seen == []


def counted_flow(driver, done, times, **options):
    """A flow that completes one task, fails another `times` times, and their calls."""
    flaky_body, flaky_calls = failing(times)

    def kept_body():
        done.append(1)

    if driver == "sync":
        kept, flaky = task(kept_body), task(flaky_body)

        @flow(**options)
        def job():
            kept()
            return flaky()

        return job, flaky_calls
    kept_async, flaky_async = task(awaited(kept_body)), task(awaited(flaky_body))

    @flow(**options)
    async def job_async():
        await kept_async()
        return await flaky_async()

    return lambda: asyncio.run(job_async()), flaky_calls


@both
def test_a_retried_flow_keeps_what_completed_and_runs_again_what_failed(driver, journal, clock):
    done = []
    run, calls = counted_flow(driver, done, 2, retries=3, retry_delay_seconds=[4, 9])
    assert run() == 3
    assert (len(done), len(calls)) == (1, 3)
    assert clock.slept == [4, 9]
    rows = query(journal, "SELECT run_kind, run_id, state FROM states ORDER BY run_kind, run_row, seq")
    histories = [[row[-1] for row in rows if row[:2] == run] for run in dict.fromkeys(row[:2] for row in rows)]
    assert histories == [
        ["Running", "AwaitingRetry", "Retrying", "AwaitingRetry", "Retrying", "Completed"],
        ["Running", "Completed"],
        ["Running", "Failed", "Running", "Failed", "Running", "Completed"],
    ]


@both
def test_a_flow_whose_retries_are_exhausted_fails_and_has_them_all_when_called_again(driver, journal, clock):
    done = []
    run, calls = counted_flow(driver, done, 3, retries=1)
    with pytest.raises(ValueError, match="2"):
        run()
    assert run() == 4
    assert (len(done), len(calls)) == (1, 4)


@both
def test_defaults_come_from_the_environment_and_are_overruled_by_the_decorator(driver, journal, clock, monkeypatch):
    monkeypatch.setenv("DURABLE_TASK_DEFAULT_RETRIES", "2")
    monkeypatch.setenv("DURABLE_TASK_DEFAULT_RETRY_DELAY_SECONDS", "[1, 10, 100]")
    assert in_a_flow(failing(2)[0], driver) == 3
    assert clock.slept == [1, 10]
    assert in_a_flow(failing(1)[0], driver, retry_delay_seconds=5) == 2
    assert clock.slept == [1, 10, 5]
    with pytest.raises(ValueError, match="1"):
        in_a_flow(failing(1)[0], driver, retries=0)


@pytest.mark.parametrize("name", ["DURABLE_TASK_DEFAULT_RETRIES", "DURABLE_TASK_DEFAULT_RETRY_DELAY_SECONDS"])
@pytest.mark.parametrize("value", ["many", "-1", "[1, -1]", "{}"])
def test_a_default_that_cannot_be_meant_is_refused(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="(?i)retr"):
        task(failing(0)[0])
