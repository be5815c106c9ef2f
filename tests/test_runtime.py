"""Names, tags, prints and facts of the run whose body is executing."""

import asyncio
import builtins
import contextvars
import json
import logging
import threading

import pytest
from scripts import query

from durable import ConfigurationError, MissingContextError, flow, get_run_logger, tags, task
from durable.cache_policies import INPUTS
from durable.runtime import flow_run, task_run


def names(journal, view="task_runs"):
    return [name for (name,) in query(journal, f"SELECT name FROM {view} ORDER BY {view.rstrip('s')}_row")]


def recorded_tags(journal, table="task_run"):
    return [json.loads(text) if text else [] for (text,) in query(journal, f"SELECT tags FROM {table} ORDER BY id")]


def test_a_template_names_each_run_by_its_arguments(journal):
    @task(task_run_name="load-{day}-{kind:>5}")
    def load(day, kind="full"):
        return task_run.name

    @flow(flow_run_name="etl-{n}")
    def etl(n):
        return flow_run.name, load(n), load(day=8, kind="x")

    assert etl(7) == ("etl-7", "load-7- full", "load-8-    x")
    assert names(journal, "flow_runs") == ["etl-7"]
    assert names(journal) == ["load-7- full", "load-8-    x"]


def test_a_callable_names_each_run_and_may_ask_what_is_running(journal):
    def by_runtime():
        return f"{flow_run.flow_name}-{task_run.task_name}-{task_run.parameters['x']}"

    @task(task_run_name=by_runtime)
    def one(x):
        return task_run.name

    @task(task_run_name=lambda parameters: f"two-{parameters['x']}")
    async def two(x):
        return task_run.name

    @flow
    async def my_flow():
        return one(1), await two(2)

    assert asyncio.run(my_flow()) == ("my-flow-one-1", "two-2")


@pytest.mark.parametrize("value", [5, "", ["a"], b"name"])
def test_a_name_that_cannot_be_meant_is_refused_at_decoration(value):
    with pytest.raises(ConfigurationError, match="task_run_name"):
        task(task_run_name=value)(lambda: None)
    with pytest.raises(ConfigurationError, match="flow_run_name"):
        flow(flow_run_name=value)(lambda: None)


@pytest.mark.parametrize("value", ["{nothing}", "{0}", "{x", lambda: 5])
def test_a_name_that_cannot_be_made_stops_the_call_before_anything_runs(value, journal):
    ran = []
    step = task(task_run_name=value)(lambda x: ran.append(x))
    with pytest.raises(ConfigurationError, match="run name"):
        step(1)
    assert ran == []


def test_a_replayed_run_is_not_named_again(journal):
    made = []

    def name():
        made.append(1)
        return f"run-{len(made)}"

    @task(task_run_name=name)
    def step():
        return 1

    fails, seen = [True], []

    @flow(flow_run_name="named")
    def job():
        seen.append(flow_run.name)
        step()
        if fails.pop():
            fails.append(False)
            raise ValueError

    with pytest.raises(ValueError):
        job()
    job()
    assert made == [1]
    assert names(journal) == ["run-1"]
    assert seen == ["named", "named"]


def test_tags_nest_by_union_and_reach_tasks_flows_threads_and_coroutines(journal):
    @task(tags=["own"])
    def step(n):
        return task_run.tags

    @task
    async def step_async():
        await asyncio.sleep(0)
        return task_run.tags

    @flow
    def job():
        with tags("b", "c") as inner:
            assert inner == {"a", "b", "c"}
            found = [step(1)]
            context = contextvars.copy_context()
            thread = threading.Thread(target=lambda: found.append(context.run(step, 2)))
            thread.start()
            thread.join()
        return [*found, step(3), flow_run.tags]

    with tags("a"):
        assert job() == [["a", "b", "c", "own"], ["a", "b", "c", "own"], ["a", "own"], ["a"]]
        assert asyncio.run(step_async()) == ["a"]
    assert step(4) == ["own"]
    assert recorded_tags(journal) == [["a", "b", "c"], ["a", "b", "c"], ["a"], ["a"], []]
    assert recorded_tags(journal, "flow_run") == [["a"]]


def test_tags_of_a_call_are_no_part_of_what_identifies_it(journal):
    calls = []

    @task(cache_policy=INPUTS)
    def step():
        calls.append(1)

    step()
    with tags("x"):
        step()
    assert calls == [1]


def test_tags_that_are_no_str_are_refused():
    with pytest.raises(ConfigurationError, match="5"), tags("a", 5):
        pass


def test_the_runtime_tells_the_facts_of_the_run(journal):
    @task
    def step(x, y=2):
        return {name: getattr(task_run, name) for name in dir(task_run)}, flow_run.id

    @flow
    def inner():
        return {name: getattr(flow_run, name) for name in dir(flow_run)}

    @flow
    def job(n):
        return step(n), flow_run.id, inner(), task_run.id

    (facts, seen), outer, sub, none = job(1)
    assert seen == outer == facts["flow_run_id"] == sub["parent_flow_run_id"]
    assert (facts["task_name"], facts["parameters"], facts["run_count"]) == ("step", {"x": 1, "y": 2}, 1)
    assert (sub["flow_name"], sub["parameters"], sub["run_count"]) == ("inner", {}, 1)
    assert none is None


def test_outside_of_runs_the_facts_are_empty_and_unknown_ones_errors():
    assert (task_run.id, task_run.tags, task_run.parameters, task_run.run_count) == (None, [], {}, 0)
    assert (flow_run.id, flow_run.flow_name, flow_run.tags, flow_run.parameters) == (None, None, [], {})
    for module in (task_run, flow_run):
        with pytest.raises(AttributeError, match="no 'colour'"):
            _ = module.colour


def test_the_run_logger_names_its_run_and_needs_one(journal, caplog):
    caplog.set_level(logging.INFO, "durable")

    @task(task_run_name="t")
    def step():
        get_run_logger().info("in the task")

    @flow(flow_run_name="f")
    def job():
        get_run_logger().info("in the flow")
        step()

    job()
    told = {record.message: (record.name, record.flow_run, record.task_run) for record in caplog.records}
    assert told["in the flow"] == ("durable.flow_runs", "f", None)
    assert told["in the task"] == ("durable.task_runs", "f", "t")
    with pytest.raises(MissingContextError, match="get_run_logger"):
        get_run_logger()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_prints_are_logged_where_asked_for_and_nowhere_else(colour, journal, caplog, capsys, tmp_path):
    caplog.set_level(logging.INFO, "durable")

    @task
    def inherits():
        print("one", 2, sep="-")

    @task(log_prints=False)
    def refuses():
        print("printed")

    def body():
        print("flow", "line")
        with (tmp_path / "file").open("w") as file:
            print("to a file", file=file)
        inherits()
        refuses()

    if colour == "sync":
        flow(log_prints=True)(body)()
    else:

        @flow(log_prints=True)
        async def job():
            await asyncio.sleep(0)
            body()

        asyncio.run(job())
    lines = [record.message for record in caplog.records]
    assert "flow line" in lines
    assert "one-2" in lines
    assert capsys.readouterr().out == "printed\n"
    assert (tmp_path / "file").read_text() == "to a file\n"
    assert type(builtins.print).__name__ == "builtin_function_or_method"


def test_print_is_given_back_after_an_exception(journal):
    @task(log_prints=True)
    def step():
        raise ValueError

    before = builtins.print
    with pytest.raises(ValueError):
        step()
    assert builtins.print is before


def test_the_facts_of_a_run_and_of_the_runs_around_it(journal, clock):
    @task(version="t3")
    def step():
        return task_run.task_version

    @flow(version="s1")
    def sub():
        return flow_run.root_flow_run_id, flow_run.parent_flow_run_id, flow_run.flow_version, step()

    @flow(version="v2")
    def job():
        return flow_run.id, flow_run.root_flow_run_id, flow_run.flow_version, flow_run.scheduled_start_time, sub()

    run, root, version, began, (sub_root, parent, sub_version, task_version) = job()
    assert run == root == sub_root == parent
    assert (version, sub_version, task_version) == ("v2", "s1", "t3")
    assert began.timestamp() == clock.seconds
    assert query(journal, "SELECT version FROM flow_runs ORDER BY flow_run_row") == [("v2",), ("s1",)]
    assert query(journal, "SELECT version FROM task_runs") == [("t3",)]


def test_a_test_may_set_a_fact_in_the_environment(monkeypatch):
    monkeypatch.setenv("DURABLE__RUNTIME__TASK_RUN__NAME", "mine")
    monkeypatch.setenv("DURABLE__RUNTIME__TASK_RUN__RUN_COUNT", "3")
    monkeypatch.setenv("DURABLE__RUNTIME__FLOW_RUN__PARAMETERS", '{"day": 1}')
    assert (task_run.name, task_run.run_count, flow_run.parameters) == ("mine", 3, {"day": 1})
    monkeypatch.setenv("DURABLE__RUNTIME__TASK_RUN__RUN_COUNT", "three")
    with pytest.raises(ConfigurationError, match="RUN_COUNT='three': expected a int"):
        task_run.run_count  # noqa: B018 - asked for its error


def test_a_flow_that_is_a_generator_is_refused():
    with pytest.raises(ConfigurationError, match=r"gen .*: a flow cannot be a generator function"):

        @flow
        def gen():
            yield 1
