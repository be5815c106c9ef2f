"""Memos: what is a hit, across runs; and that a resumed run keeps its own results whatever a memo would say."""

import threading
from datetime import timedelta

import pytest
from scripts import query

from durable import flow, task
from durable.cache_policies import DEFAULT, FLOW_PARAMETERS, INPUTS, NONE, RUN_ID, TASK_SOURCE
from durable.tasks import task_input_hash


def counted(**options):
    calls = []

    @task(**options)
    def step(x, note=None):
        calls.append(x)
        return x, len(calls)

    return step, calls


@pytest.mark.parametrize(
    "options", [{"cache_policy": INPUTS}, {"cache_key_fn": task_input_hash}, {"cache_policy": INPUTS - "note"}]
)
def test_equal_arguments_are_a_hit_in_any_run(options, journal):
    step, calls = counted(**options)

    @flow
    def job(n):
        return step(1), step(x=1), step(2)

    assert job(1) == ((1, 1), (1, 1), (2, 2))
    assert job(2) == ((1, 1), (1, 1), (2, 2))
    assert step(1) == (1, 1)
    assert calls == [1, 2]
    states = query(journal, "SELECT state FROM task_runs ORDER BY task_run_row")
    assert [state for (state,) in states] == ["Completed", "Cached", "Completed", *["Cached"] * 4]


def test_an_argument_left_out_makes_no_difference(journal):
    step, calls = counted(cache_policy=INPUTS - "note")
    assert step(1, note=threading.Lock()) == step(1, note="b") == (1, 1)
    assert calls == [1]


@pytest.mark.parametrize("options", [{"cache_policy": INPUTS}, {"cache_key_fn": task_input_hash}])
def test_an_argument_without_a_canonical_form_is_never_a_hit(options, journal):
    step, calls = counted(**options)
    step(1, note=threading.Lock())
    step(1, note=threading.Lock())
    assert calls == [1, 1]


@pytest.mark.parametrize("policy", [TASK_SOURCE, FLOW_PARAMETERS, RUN_ID])
def test_a_policy_without_inputs_does_not_ask_for_them(policy, journal):
    step, calls = counted(cache_policy=policy)

    @flow
    def job(n):
        return step(1), step(2)

    assert job(1) == ((1, 1), (1, 1))
    assert calls == [1]


def test_run_id_and_flow_parameters_end_where_they_say(journal):
    by_run, runs = counted(cache_policy=INPUTS + RUN_ID)
    by_parameters, parameters = counted(cache_policy=INPUTS + FLOW_PARAMETERS)

    @flow
    def job(n):
        by_run(1)
        by_parameters(1)

    job(1)
    job(1)
    job(2)
    assert len(runs) == 3
    assert len(parameters) == 2
    by_parameters(1)
    by_parameters(1)
    assert len(parameters) == 4


def test_a_key_function_decides_by_what_it_gives(journal):
    seen = []

    def key(context, parameters):
        seen.append((context.task.name, context.task_run.task_name, parameters))
        return parameters["x"][0]

    step, calls = counted(cache_key_fn=key)
    assert step("ab") == step("ac") == ("ab", 1)
    assert step("b") == ("b", 2)
    assert seen[0] == ("step", "step", {"x": "ab", "note": None})


@pytest.mark.parametrize("key", [lambda context, parameters: None, lambda context, parameters: 5, lambda: "too few"])
def test_a_key_function_that_gives_none_no_str_or_raises_makes_no_memo(key, journal, caplog):
    step, calls = counted(cache_key_fn=key)
    step(1)
    assert step(1) == (1, 2)


def test_two_tasks_with_one_key_do_not_share_results(journal):
    first, _ = counted(cache_key_fn=lambda context, parameters: "k", name="first")
    second, calls = counted(cache_key_fn=lambda context, parameters: "k", name="second")
    first(1)
    second(2)
    assert calls == [2]


def test_a_key_function_wins_over_a_policy_with_a_warning(journal, caplog):
    step, calls = counted(cache_key_fn=lambda context, parameters: "k", cache_policy=NONE)
    assert "cache_key_fn decides" in caplog.text
    assert step(1) == step(2)


def test_a_memo_expires_by_the_clock(journal, clock):
    step, calls = counted(cache_policy=INPUTS, cache_expiration=timedelta(hours=1))
    assert step(1) == (1, 1)
    clock.seconds += 3599
    assert step(1) == (1, 1)
    clock.seconds += 1
    assert step(1) == (1, 2)
    assert step(1) == (1, 2)


def test_refresh_runs_and_renews_the_memo(journal):
    step, calls = counted(cache_policy=INPUTS)
    assert step(1) == (1, 1)
    assert step.with_options(refresh_cache=True)(1) == (1, 2)
    assert step(1) == (1, 2)


@pytest.mark.parametrize(
    "options",
    [
        {"cache_policy": INPUTS, "refresh_cache": True},
        {"cache_policy": INPUTS, "cache_expiration": 1},
        {"cache_key_fn": lambda context, parameters: str(object())},
        {"cache_policy": DEFAULT},
    ],
    ids=["refreshed", "expired", "another key", "checkpoint"],
)
def test_a_resumed_run_keeps_its_own_results(options, journal, clock):
    step, calls = counted(**options)
    fails = [True]

    @flow
    def job():
        first = step(1)
        clock.seconds += 10
        if fails.pop():
            fails.append(False)
            raise ValueError
        return first

    with pytest.raises(ValueError):
        job()
    assert job() == (1, 1)
    assert calls == [1]
