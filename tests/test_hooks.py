"""Hooks are told of each recorded state, in order, sync or async; one that raises disturbs nothing."""

import asyncio
import logging

import pytest
from scripts import Script

from durable import flow, get_run_logger, runtime, task
from durable.cache_policies import INPUTS
from durable.context import get_run_context
from durable.transactions import transaction


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


# What a hook sees.


def seen():
    """What is around the caller, as `durable.runtime` and the logger tell it."""
    get_run_logger().warning("told")
    context = get_run_context()
    return (
        runtime.task_run.name,
        runtime.flow_run.flow_name,
        (runtime.task_run if runtime.task_run.id else runtime.flow_run).parameters,
        type(context).__name__,
    )


@pytest.fixture
def placed():
    """Log records of runs, with where they were logged."""
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append((record.name, record.flow_name, record.task_name, record.getMessage()))
    logger = logging.getLogger("durable")
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


@colours
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "in a flow"])
def test_a_tasks_hook_sees_its_run(colour, alone, journal, placed):
    found = []

    def hook(task, task_run, state):
        found.append((state.name, *seen()))

    async def later(task, task_run, state):
        await asyncio.sleep(0)
        found.append((state.name, *seen()))

    @task(task_run_name="load-{n}", on_running=[hook, later])
    def load(n):
        raise ValueError(n)

    load.on_failure(hook)
    load.on_failure(later)
    if colour == "async":

        @task(task_run_name="load-{n}", on_running=[hook, later], on_failure=[hook, later], name="load")
        async def load(n):
            raise ValueError(n)

    def job():
        result = load(n=3, return_state=True)
        assert (asyncio.run(result) if colour == "async" else result).is_failed()

    (job if alone else flow(job))()
    flow_name = None if alone else "job"
    assert found == [
        (state, "load-3", flow_name, {"n": 3}, "TaskRunContext") for state in ("Running", "Running", "Failed", "Failed")
    ]
    assert [place for place in placed if place[3] == "told"] == [("durable.task_runs", flow_name, "load", "told")] * 4


@colours
def test_a_flows_hook_sees_its_run_and_not_the_callers(colour, journal, placed):
    found = []

    def hook(flow, flow_run, state):
        found.append((state.name, *seen()))

    async def later(flow, flow_run, state):
        found.append((state.name, *seen()))

    def body():
        return 1

    inner = flow(name="inner", on_running=[hook], on_completion=[later, hook])(body)
    if colour == "async":

        @flow(name="inner", on_running=[hook], on_completion=[later, hook])
        async def inner():
            return 1

    @flow
    def outer():
        return asyncio.run(_await(inner)) if colour == "async" else inner()

    outer()
    expected = [(state, None, "inner", {}, "FlowRunContext") for state in ("Running", "Completed", "Completed")]
    assert found == expected
    assert [place for place in placed if place[3] == "told"] == [("durable.flow_runs", "inner", None, "told")] * 3


def test_a_retry_condition_sees_its_run(journal):
    found = []

    def condition(task, task_run, state):
        found.append(seen())
        return True

    async def later(task, task_run, state):
        found.append(seen())
        return False

    @task(task_run_name="a", retries=1, retry_condition_fn=condition)
    def step():
        raise ValueError

    for each in (step, step.with_options(retry_condition_fn=later)):
        with pytest.raises(ValueError):
            each()
    assert [name for name, *_ in found] == ["a", "a"]


def test_a_hook_outside_of_its_run_again_sees_what_is_there(journal):
    names = []

    @task(task_run_name="inner", on_completion=[lambda *_: names.append(runtime.task_run.name)])
    def inner():
        return 1

    @task(task_run_name="outer")
    def outer():
        inner()
        names.append(runtime.task_run.name)

    outer()
    names.append(runtime.task_run.name)
    assert names == ["inner", "outer", None]


def test_what_a_hook_calls_is_no_part_of_the_run_so_a_resume_meets_the_bodys_calls(tmp_path):
    """The hook's call is equal to one the body makes later: the body's is not taken for it."""
    script = Script(tmp_path)
    script.write("""
        @task
        def notify(text):
            ran("notify", text)

        @task(on_completion=[lambda *_: notify("x")])
        def step():
            return 1

        @flow
        def job():
            step()
            die("middle")
            notify("x")

        job()
    """)
    script.killed("middle")
    script.ok()
    assert script.ran() == ["notify x", "notify x"]
    assert script.query("SELECT flow_run_row IS NULL FROM task_runs WHERE task = 'notify' ORDER BY task_run_row") == [
        (1,),
        (0,),
    ]


def test_a_hook_prints_to_the_log_if_its_run_does(journal, caplog, capsys):
    def hook(task, task_run, state):
        print("printed", state.name)

    @task(log_prints=True, on_completion=[hook])
    def logged():
        return 1

    @task(on_completion=[hook])
    def printed():
        return 1

    with caplog.at_level("INFO", "durable"):
        logged()
        printed()
    assert [record.getMessage() for record in caplog.records if "printed" in record.getMessage()] == [
        "printed Completed"
    ]
    assert capsys.readouterr().out == "printed Completed\n"


def test_a_dead_runs_crash_is_told_where_the_run_is_seen(tmp_path):
    script = Script(tmp_path)
    script.write("""
        from durable import get_run_logger, runtime

        def told(flow, flow_run, state):
            ran(state.name, runtime.flow_run.id == flow_run.id, get_run_logger().name)

        async def later(flow, flow_run, state):
            told(flow, flow_run, state)

        @flow(on_crashed=[told, later])
        def job():
            die("middle")

        job()
    """)
    script.killed("middle")
    script.ok()
    assert script.ran() == ["Crashed True durable.flow_runs"] * 2


def test_the_hooks_of_a_transaction_see_the_run(journal):
    found = []

    @task(task_run_name="kept")
    def kept():
        return 1

    kept.on_commit(lambda txn: found.append(("commit", *seen())))

    @task(task_run_name="undone")
    def undone():
        return 1

    undone.on_rollback(lambda txn: found.append(("rollback", *seen())))

    @task(task_run_name="outer")
    def outer():
        undone()
        raise ValueError

    kept()
    with pytest.raises(ValueError):
        outer()
    assert found == [
        ("commit", "kept", None, {}, "TaskRunContext"),
        ("rollback", "outer", None, {}, "TaskRunContext"),
    ]


def test_what_a_hook_calls_has_no_part_in_the_transaction(journal):
    undone = []

    @task(on_rollback=[lambda txn: undone.append("noted")])
    def noted():
        return 1

    async def later(task, task_run, state):
        noted()

    @task(on_completion=[lambda *_: noted(), later], on_rollback=[lambda txn: undone.append("step")])
    def step():
        return 1

    with pytest.raises(ValueError), transaction():
        step()
        raise ValueError
    assert undone == ["step"]
