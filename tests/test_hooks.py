"""Hooks are told of each recorded state, in order, sync or async; one that raises disturbs nothing."""

import asyncio

import pytest
from scripts import Script

from durable import flow, task
from durable.cache_policies import INPUTS


def recorder():
    told = []

    def hook(owner, run, state):
        told.append((owner.name, run.run_count, state.name))

    async def hook_async(owner, run, state):
        await asyncio.sleep(0)
        told.append((owner.name, run.run_count, f"{state.name}, later"))

    return told, hook, hook_async


ALL = ("on_running", "on_completion", "on_failure")


def made(colour, kind, body, **options):
    """A task or flow of the colour, as something to call."""
    if colour == "sync":
        return kind(**options)(body)

    async def function():
        await asyncio.sleep(0)
        return body()

    function.__name__ = body.__name__
    decorated = kind(**options)(function)
    return lambda: asyncio.run(_await(decorated))


async def _await(decorated):
    return await decorated()


colours = pytest.mark.parametrize("colour", ["sync", "async"])
kinds = pytest.mark.parametrize("kind", [task, flow], ids=["task", "flow"])


@colours
@kinds
def test_hooks_are_told_in_the_order_of_the_states(colour, kind, journal):
    told, hook, hook_async = recorder()
    attempts = []

    def job():
        attempts.append(1)
        if len(attempts) < 2:
            raise ValueError
        return 1

    call = made(colour, kind, job, retries=1, **{option: [hook, hook_async] for option in ALL})
    assert call() == 1
    assert told == [
        ("job", 1, "Running"),
        ("job", 1, "Running, later"),
        ("job", 2, "Retrying"),
        ("job", 2, "Retrying, later"),
        ("job", 2, "Completed"),
        ("job", 2, "Completed, later"),
    ]


@colours
@kinds
def test_a_failure_is_told_once_when_it_is_final(colour, kind, journal):
    told, hook, _ = recorder()

    def job():
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        made(colour, kind, job, retries=2, on_failure=[hook])()
    assert told == [("job", 3, "Failed")]


@colours
@kinds
def test_a_hook_that_raises_is_logged_and_disturbs_nothing(colour, kind, journal, caplog):
    told, hook, _ = recorder()

    def bad(owner, run, state):
        raise RuntimeError("a bug in the hook")

    async def bad_later(owner, run, state):
        raise RuntimeError("a later bug")

    def job():
        return 1

    assert made(colour, kind, job, on_completion=[bad, bad_later, hook])() == 1
    assert told == [("job", 1, "Completed")]
    assert "a bug in the hook" in caplog.text
    assert "a later bug" in caplog.text


def test_a_state_is_recorded_before_its_hook_is_told(journal):
    seen = []

    def hook(task, task_run, state):
        import sqlite3

        connection = sqlite3.connect(journal)
        seen.append(connection.execute("SELECT state FROM task_runs WHERE id = ?", (task_run.id,)).fetchone()[0])
        connection.close()

    @task(on_running=[hook], on_completion=[hook])
    def step():
        return 1

    step()
    assert seen == ["Running", "Completed"]


def test_hooks_can_be_added_by_decorators(journal):
    told, hook, _ = recorder()

    @task
    def step(fails):
        if fails:
            raise ValueError
        return 1

    step.on_completion(hook)
    assert step.on_failure(hook) is hook
    step.on_running(hook)
    step(False)
    with pytest.raises(ValueError):
        step(True)
    assert [name for *_, name in told] == ["Running", "Completed", "Running", "Failed"]
    assert step.with_options(name="other").definition.options.hooks == step.definition.options.hooks


def test_the_run_a_hook_is_handed_has_its_facts(journal):
    runs = []

    @task(tags=["a"], on_completion=[lambda task, task_run, state: runs.append(task_run)])
    def step(x, y=2):
        return x

    @flow(on_completion=[lambda flow, flow_run, state: runs.append(flow_run)])
    def job(n):
        return step(n)

    job(1)
    task_run, flow_run = runs
    assert (task_run.task_name, task_run.parameters, task_run.tags) == ("step", {"x": 1, "y": 2}, {"a"})
    assert (task_run.flow_run_id, flow_run.parent_flow_run_id) == (flow_run.id, None)
    assert (flow_run.flow_name, flow_run.parameters) == ("job", {"n": 1})


def test_a_cached_result_is_told_as_completed(journal):
    told, hook, _ = recorder()

    @task(cache_policy=INPUTS, on_completion=[hook], on_running=[hook])
    def step():
        return 1

    step()
    step()
    assert [name for *_, name in told] == ["Running", "Completed", "Cached"]


CRASHING = """
    import os, sys
    from durable import flow, task

    def told(flow, flow_run, state):
        print("told", state.name, flush=True)

    @task(on_completion=[lambda task, task_run, state: print("task", state.name, flush=True)])
    def step(n):
        return n

    @flow(on_crashed=[told], on_running=[told], on_completion=[told])
    def job():
        step(1)
        if os.environ.get("DIE") == "kill":
            os.kill(os.getpid(), 9)
        if os.environ.get("DIE") == "exit":
            sys.exit(3)
        return step(2)

    job()
"""


@pytest.mark.parametrize("end", ["kill", "exit"])
def test_a_crash_is_told_and_a_dead_processs_when_it_is_taken_over(end, tmp_path):
    script = Script(tmp_path)
    script.write(CRASHING)
    first = script.run(DIE=end).out.splitlines()
    second = script.run().out.splitlines()
    crashed = ["told Crashed"]
    assert first == ["told Running", "task Completed", *(crashed if end == "exit" else [])]
    # What is replayed is not told again.
    assert second == [*(crashed if end == "kill" else []), "told Running", "task Completed", "told Completed"]
