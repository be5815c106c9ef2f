"""Each scenario through every driver gives the same transitions: policy exists once, whatever the kind of function."""

import asyncio
import functools
from typing import Any, NamedTuple

import pytest
from scripts import histories, query

import durable
from durable import NotSerializable, flow, task
from durable.cache_policies import INPUTS, NONE


class Sync:
    """Plain functions."""

    def function(self, body):
        def step(*args):
            return body(*args)

        return step

    def nesting(self, inner, after):
        def step():
            return after(inner())

        return step

    def run(self, made, *args, **kwargs):
        return made(*args, **kwargs)


class Async:
    """Coroutine functions."""

    def function(self, body):
        async def step(*args):
            await asyncio.sleep(0)
            return body(*args)

        return step

    def nesting(self, inner, after):
        async def step():
            return after(await inner())

        return step

    def run(self, made, *args, **kwargs):
        async def main():
            return await made(*args, **kwargs)

        return asyncio.run(main())


DRIVERS = {"sync": Sync(), "async": Async()}


@pytest.fixture(params=DRIVERS)
def driver(request):
    return DRIVERS[request.param]


class Scenario(NamedTuple):
    """Options of a task, what its body does at each execution, and what is recorded of it."""

    options: dict[str, Any]
    does: list[Any]
    states: list[str]
    ends: Any = None
    slept: list[float] = []


A, R, C, F = "AwaitingRetry", "Retrying", "Completed", "Failed"
error, other = ValueError("first"), KeyError("second")
SCENARIOS = {
    "complete": Scenario({}, [1], ["Running", C], 1),
    "complete with None": Scenario({}, [None], ["Running", C]),
    "not kept": Scenario({"persist_result": False}, [lambda: 1], ["Running", C], callable),
    "raise": Scenario({}, [error], ["Running", F], ValueError),
    "raise, then good": Scenario({"retries": 2}, [error, 1], ["Running", R, C], 1),
    "raise twice, then good": Scenario({"retries": 2}, [error, other, 1], ["Running", R, R, C], 1),
    "retries exhausted": Scenario({"retries": 2}, [error, error, other], ["Running", R, R, F], KeyError),
    "raise, wait, then good": Scenario(
        {"retries": 1, "retry_delay_seconds": 7}, [error, 1], ["Running", A, R, C], 1, slept=[7]
    ),
    "exhausted with a list of delays": Scenario(
        {"retries": 3, "retry_delay_seconds": [1, 2]},
        [error] * 4,
        ["Running", A, R, A, R, A, R, F],
        ValueError,
        slept=[1, 2, 2],
    ),
    "some delays are nothing": Scenario(
        {"retries": 2, "retry_delay_seconds": [0, 3]}, [error, error, 1], ["Running", R, A, R, C], 1, slept=[3]
    ),
    "unserializable": Scenario({"retries": 3}, [{"a": [lambda: 1]}], ["Running", F], NotSerializable),
    "raise, then unserializable": Scenario({"retries": 3}, [error, object()], ["Running", R, F], NotSerializable),
    "pickled": Scenario({"result_serializer": "pickle"}, [(1, {2})], ["Running", C], (1, {2})),
    "interrupted": Scenario({"retries": 3}, [KeyboardInterrupt()], ["Running", "Crashed"], KeyboardInterrupt),
    "exited": Scenario({"retries": 3}, [SystemExit(4)], ["Running", "Crashed"], SystemExit),
    "cancelled": Scenario({"retries": 3}, [asyncio.CancelledError()], ["Running", "Crashed"], asyncio.CancelledError),
    "raise, then interrupted": Scenario(
        {"retries": 3}, [error, KeyboardInterrupt()], ["Running", R, "Crashed"], KeyboardInterrupt
    ),
    "an error of durable's own": Scenario(
        {"retries": 3}, [durable.MissingContextError("x")], ["Running", F], durable.MissingContextError
    ),
}


def make(driver, options, does):
    """A task that does one thing of `does` after the other, and the list of its executions."""
    ran = []

    def body(*args):
        ran.append(args)
        what = does[min(len(ran), len(does)) - 1]
        if isinstance(what, BaseException):
            raise what
        return what

    return task(**options)(driver.function(body)), ran


def ends_as_expected(end, call):
    """The call's value or exception is what the scenario says."""
    if isinstance(end, type) and issubclass(end, BaseException):
        with pytest.raises(end):
            call()
    else:
        found = call()
        assert end(found) if callable(end) else (type(found), found) == (type(end), end)


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("place", ["alone", "in a flow"])
def test_the_same_transitions(driver, journal, clock, name, place):
    scenario = SCENARIOS[name]
    step, ran = make(driver, scenario.options, scenario.does)
    if place == "alone":
        ends_as_expected(scenario.ends, lambda: driver.run(step))
    else:
        job = flow(name="job")(driver.nesting(step, lambda value: value))
        ends_as_expected(scenario.ends, lambda: driver.run(job))
    assert histories(journal, "step") == [scenario.states]
    assert len(ran) == len(scenario.does)
    assert clock.slept == scenario.slept
    executions = query(journal, "SELECT attempts FROM task_runs")
    assert executions == [(len(scenario.does),)]


@pytest.mark.parametrize(
    "name",
    [n for n, s in SCENARIOS.items() if n not in ("interrupted", "exited", "cancelled", "raise, then interrupted")],
)
def test_the_same_transitions_with_return_state(driver, journal, clock, name):
    scenario = SCENARIOS[name]
    step, _ = make(driver, scenario.options, scenario.does)
    state = driver.run(step, return_state=True)
    assert histories(journal, "step") == [scenario.states]
    assert state.name == scenario.states[-1]
    ends_as_expected(scenario.ends, state.result)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_resume_of_a_crash_adds_the_same_transitions(driver, journal, clock, name):
    """The flow catches what the task raised, and is interrupted after it; then it is called again."""
    scenario = SCENARIOS[name]
    step, ran = make(driver, scenario.options, [*scenario.does, *(["again"] if "Crashed" in scenario.states else [])])
    seen = []

    def after(state):
        seen.append(state)
        if len(seen) == 1:
            raise KeyboardInterrupt

    job = flow(driver.nesting(functools.partial(step, return_state=True), after))
    with pytest.raises((KeyboardInterrupt, SystemExit, asyncio.CancelledError)):
        driver.run(job)
    if "Crashed" in scenario.states:
        seen.append("not reached")
    before = len(ran)
    driver.run(job)
    if "Crashed" in scenario.states:
        assert histories(journal, "step") == [[*scenario.states, "Running", C]]
        assert len(ran) == before + 1
    elif not scenario.options.get("persist_result", True):
        assert histories(journal, "step") == [scenario.states * 2]
    else:
        assert histories(journal, "step") == [scenario.states]
        assert len(ran) == before
        first, resumed = seen
        assert (first.name, first.message) == (resumed.name, resumed.message)
        ends_as_expected(scenario.ends, resumed.result)
    assert histories_of_flow(journal) == [["Running", "Crashed", "Running", C]]


@pytest.mark.parametrize("name", [n for n, s in SCENARIOS.items() if s.states[-1] == F])
def test_a_failed_flow_adds_the_same_transitions(driver, journal, clock, name):
    scenario = SCENARIOS[name]
    step, ran = make(driver, scenario.options, [*scenario.does, ValueError("once more"), "good"])
    job = flow(name="job")(driver.nesting(step, lambda value: value))
    ends_as_expected(scenario.ends, lambda: driver.run(job))
    if not scenario.options.get("retries"):
        ends_as_expected(ValueError, lambda: driver.run(job))
        between = [F, "Running"]
    else:  # the budget is fresh
        between = [A, R] if scenario.options.get("retry_delay_seconds") else [R]
    assert driver.run(job) == "good"
    assert histories(journal, "step") == [[*scenario.states, "Running", *between, C]]
    assert len(histories_of_flow(journal)) == 1


def test_a_nested_call_has_its_own_transitions(driver, journal, clock):
    inner, inner_ran = make(driver, {"name": "inner", "retries": 1}, [error, 1, error, error, error, 2])
    attempts = []

    def after(value):
        attempts.append(value)
        if len(attempts) == 1:
            raise ValueError("outer")
        return value

    outer = task(name="outer", retries=1)(driver.nesting(inner, after))
    assert driver.run(outer) == 1
    assert histories(journal, "inner") == [["Running", R, C]]
    assert histories(journal, "outer") == [["Running", R, C]]
    assert len(inner_ran) == 2  # the outer retry keeps what had completed


def test_a_nested_failure_runs_again_in_the_outer_retry(driver, journal, clock):
    inner, inner_ran = make(driver, {"name": "inner", "retries": 1}, [error, error, error, 2])
    outer = task(name="outer", retries=1)(driver.nesting(inner, lambda value: value))
    assert driver.run(outer) == 2
    assert histories(journal, "inner") == [["Running", R, F, "Running", R, C]]
    assert histories(journal, "outer") == [["Running", R, C]]
    assert len(inner_ran) == 4


def test_a_cached_call(driver, journal, clock):
    step, ran = make(driver, {"cache_policy": INPUTS}, [(1, 2)])
    assert driver.run(step, 1) == driver.run(step, 1) == (1, 2)
    assert histories(journal, "step") == [["Running", C], ["Pending", "Cached"]]
    assert driver.run(step, 1, return_state=True).name == "Cached"
    assert ran == [(1,)]


def test_none_runs_every_time(driver, journal, clock):
    step, ran = make(driver, {"cache_policy": NONE}, [1])
    assert [driver.run(step), driver.run(step)] == [1, 1]
    assert histories(journal, "step") == [["Running", C]] * 2
    assert len(ran) == 2


def test_commits_and_syncs_are_the_same_for_each_driver(driver, journal, clock):
    """One fsync a task, two commits."""
    from durable.journal import open_journal

    step, _ = make(driver, {}, [1])
    driver.run(step)
    opened = open_journal("runs.db", "power")
    before = opened.commits, opened.syncs
    driver.run(step)
    assert (opened.commits - before[0], opened.syncs - before[1]) == (2, 1)


def histories_of_flow(journal):
    rows = query(
        journal,
        "SELECT r.flow_run_row, s.state FROM states AS s JOIN flow_runs AS r ON r.id = s.run_id "
        "WHERE s.run_kind = 'flow run' ORDER BY r.flow_run_row, s.seq",
    )
    return [[state for row, state in rows if row == run] for run in dict.fromkeys(row for row, _ in rows)]
