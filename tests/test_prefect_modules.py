"""The modules: what a Prefect user imports from one is in durable's of that name, and means the same."""

import asyncio
import importlib
import logging
import typing

import pytest

import durable
from durable import Flow, Future, State, Task, flow, get_run_logger, task
from durable.cache_policies import INPUTS
from durable.context import FlowRunContext, TaskRunContext, get_run_context
from durable.errors import MissingContextError
from durable.futures import FutureList

# What Prefect 3 has under the module of the same name, and durable has too.
IMPORTS = """
durable: Flow State Task allow_failure flow get_run_logger runtime tags task unmapped
durable.annotations: allow_failure opaque quote unmapped
durable.cache_policies: DEFAULT FLOW_PARAMETERS INPUTS NONE NO_CACHE RUN_ID TASK_SOURCE CachePolicy
durable.concurrency.asyncio: concurrency rate_limit
durable.concurrency.sync: concurrency rate_limit
durable.context: FlowRunContext TaskRunContext get_run_context tags
durable.flows: Flow flow
durable.futures: as_completed wait
durable.logging: get_run_logger
durable.runtime: flow_run task_run
durable.settings: temporary_settings
durable.states: AwaitingRetry Cancelled Cancelling Completed Crashed Failed Pending Retrying Running Scheduled State
    StateType get_state_exception is_state raise_state_exception
durable.tasks: Task exponential_backoff task task_input_hash
"""
MODULES = {
    line.split(":")[0]: line.split(":")[1].split() for line in IMPORTS.strip().replace("\n    ", " ").splitlines()
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_what_a_prefect_user_imports_from_it_and_says_so(name):
    module = importlib.import_module(name)
    assert module.__doc__
    assert set(MODULES[name]) <= set(module.__all__)
    for exported in module.__all__:
        assert getattr(module, exported) is not None


def test_a_name_is_one_object_wherever_it_is_imported_from():
    for name, names in MODULES.items():
        for exported in set(names) & set(durable.__all__):
            assert getattr(importlib.import_module(name), exported) is getattr(durable, exported)


def test_the_logging_module_does_not_stand_in_the_way_of_the_standard_library():
    assert importlib.import_module("durable.logging") is not logging
    assert logging.getLogger is importlib.import_module("logging").getLogger
    assert durable.logging.get_run_logger is get_run_logger


# The context


def test_there_is_no_context_outside_of_a_run(journal):
    assert FlowRunContext.get() is None
    assert TaskRunContext.get() is None
    with pytest.raises(MissingContextError, match="call it in a body"):
        get_run_context()


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_body_sees_its_run(journal, is_async):
    def look():
        run, flow_context, task_context = get_run_context(), FlowRunContext.get(), TaskRunContext.get()
        return (
            type(run).__name__,
            flow_context and (flow_context.flow, flow_context.flow_run.flow_name, flow_context.parameters),
            task_context and (task_context.task, task_context.task_run.task_name, task_context.parameters),
        )

    seen = {}
    if is_async:

        @task
        async def inner(x, y=2):
            seen["task"] = look()

        @flow
        async def outer(day="monday"):
            seen["before"] = look()
            await inner(1)
            seen["after"] = look()

        asyncio.run(outer())
        asyncio.run(inner(5))
    else:

        @task
        def inner(x, y=2):
            seen[f"task {x}"] = seen["task"] = look()

        @flow
        def outer(day="monday"):
            seen["before"] = look()
            inner(1)
            seen["after"] = look()

        outer()
        assert seen["task 1"] == (
            "TaskRunContext",
            (outer, "outer", {"day": "monday"}),
            (inner, "inner", {"x": 1, "y": 2}),
        )
        inner(5)
    assert seen["before"] == seen["after"] == ("FlowRunContext", (outer, "outer", {"day": "monday"}), None)
    assert seen["task"] == ("TaskRunContext", None, (inner, "inner", {"x": 5, "y": 2}))
    assert FlowRunContext.get() is None


def test_the_context_of_a_subflow_is_its_own(journal):
    @flow
    def child(n):
        return FlowRunContext.get().flow_run.parent_flow_run_id, get_run_context().flow.name

    @flow
    def parent():
        return child(1), get_run_context().flow_run.id

    (parent_id, name), own_id = parent()
    assert (parent_id, name) == (own_id, "child")


def test_a_cache_key_fn_is_handed_the_tasks_context(journal):
    given = []

    def key(context, parameters):
        given.append(context)
        return str(parameters["n"])

    @task(cache_key_fn=key)
    def step(n):
        return get_run_context().task_run.id

    assert step(1) == step(1) == given[0].task_run.id
    assert isinstance(given[0], TaskRunContext)
    assert given[0].task is step


# Generic at run time


@pytest.mark.parametrize("cls", [State, Future, FutureList], ids=lambda cls: cls.__name__)
def test_a_class_of_results_is_generic_at_run_time(cls):
    alias = cls[int]
    assert typing.get_origin(alias) is cls
    assert typing.get_args(alias) == (int,)


@pytest.mark.parametrize("cls", [Task, Flow], ids=lambda cls: cls.__name__)
def test_a_decorated_functions_class_is_generic_at_run_time(cls):
    for parameters in ([str, int], []):
        alias = cls[parameters, bytes]
        assert typing.get_origin(alias) is cls
        assert typing.get_args(alias)[-1] is bytes
    assert typing.get_origin(cls[..., int]) is cls


def test_annotations_with_them_can_be_read(journal):
    @task
    def step(n: int) -> State[int]: ...

    def takes(one: Task[[int], State[int]], other: "Flow[..., None]", futures: FutureList[int]) -> Future[int]: ...

    hints = typing.get_type_hints(takes)
    assert typing.get_origin(hints["return"]) is Future
    assert typing.get_origin(hints["other"]) is Flow
    assert typing.get_type_hints(step.fn)["return"] == State[int]


def test_policies_come_from_their_module(journal):
    ran = []

    @task(cache_policy=INPUTS)
    def step(n):
        ran.append(n)

    step(1)
    step(1)
    assert ran == [1]


def test_a_task_and_a_flow_tell_what_they_were_made_with():
    @task(name="Load", version="2", retries=3, timeout_seconds=1.5, tags={"a"})
    def load(day):
        """Loads a day."""

    @flow(version="7", retries=1)
    def nightly_etl():
        """Every night."""

    assert (load.name, load.description, load.version, load.retries, load.timeout_seconds, load.tags) == (
        *("Load", "Loads a day.", "2", 3, 1.5),
        {"a"},
    )
    assert (nightly_etl.name, nightly_etl.description, nightly_etl.version) == ("nightly-etl", "Every night.", "7")
    assert (nightly_etl.retries, nightly_etl.timeout_seconds) == (1, None)


def test_a_task_key_is_of_the_name_the_qualified_name_and_the_tags():
    def load(): ...

    key = task(load).task_key
    assert len(bytes.fromhex(key)) == 16
    assert task(retries=3)(load).task_key == task(version="2")(load).task_key == key
    others = [task(name="Load")(load), task(tags={"a"})(load), task(lambda: 1)]
    assert len({key, *(other.task_key for other in others)}) == 4
