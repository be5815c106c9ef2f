"""Whatever runs although something was recorded says why, and what never ran says nothing."""

import threading
from dataclasses import dataclass

import pytest
from scripts import query

import durable
from durable import flow, task
from durable.cache_policies import DEFAULT, FLOW_PARAMETERS, INPUTS, NONE, RUN_ID, TASK_SOURCE


def reasons(journal, name="step"):
    """Why each run of a task was executed: when it first was, and each time after that."""
    first = query(journal, "SELECT reason FROM task_runs WHERE task = ? ORDER BY task_run_row", name)
    again = query(
        journal,
        "SELECT s.message FROM states AS s JOIN task_runs AS t ON t.id = s.run_id WHERE s.run_kind = 'task run' "
        "AND s.state = 'Running' AND s.seq > 0 AND t.task = ? ORDER BY t.task_run_row, s.seq",
        name,
    )
    return [reason for (reason,) in first], [reason for (reason,) in again]


def step_with(**options):
    """A task `step(x, y)` that counts its executions."""
    ran = []

    @task(**options)
    def step(x, y=0):
        ran.append((x, y))
        return x

    step.ran = ran
    return step


# Never run


def test_what_never_ran_has_no_reason(journal):
    step = step_with()

    @flow
    def job():
        return [step(x) for x in range(3)]

    job()
    job()
    assert reasons(journal) == ([None] * 6, [])


def test_what_was_asked_for_out_of_order_is_no_former_self_of_a_new_call(journal):
    """Its record is read ahead only after it was asked for: records are, 500 at a time."""
    order = [*range(1100), -1]

    @task
    def fill(x):
        return x

    step = step_with()

    @flow
    def job():
        for x in order:
            if x < 0:
                step(1)
            else:
                fill(x)
        if order[0] == 0:
            raise KeyboardInterrupt
        step(2)

    with pytest.raises(KeyboardInterrupt):
        job()
    order[:] = [-1, *range(1, 1100)]
    job()
    assert step.ran == [(1, 0), (2, 0)]
    assert reasons(journal) == ([None, None], [])


def test_in_threads_what_was_not_asked_for_yet_is_no_former_self(journal):
    """Another thread may be about to ask for it."""
    step, order = step_with(), [1, 2]

    @flow
    def job():
        step.map(order[:1]).wait()
        step.map(order[1:]).wait()
        if order == [1, 2]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job()
    order[:] = [3, 1, 2]
    job()
    assert sorted(step.ran) == [(1, 0), (2, 0), (3, 0)]
    assert reasons(journal) == ([None, None, None], [])


def test_a_memo_that_was_never_computed_has_no_reason(journal):
    step = step_with(cache_policy=INPUTS)
    step(1)
    assert reasons(journal) == ([None], [])


# Inputs


def test_a_memo_names_the_argument_that_changed(journal):
    step = step_with(cache_policy=INPUTS)
    step(3, y="same")
    step(4, y="same")
    assert reasons(journal)[0] == [None, "inputs changed: x: 3 -> 4"]


def test_the_nearest_recorded_call_is_the_one_compared(journal):
    step = step_with(cache_policy=INPUTS)
    step(1, y=1)
    step(2, y=2)
    step(1, y=3)
    assert reasons(journal)[0][2] == "inputs changed: y: 1 -> 3"


def test_equal_calls_of_one_run_are_no_change(journal):
    """A loop over items is not a row of changes: only other runs are compared."""
    step = step_with(cache_policy=INPUTS)

    @flow
    def job():
        return [step(x) for x in range(4)]

    job()
    assert reasons(journal)[0] == [None] * 4


def test_a_resumed_run_names_the_argument_that_changed(script):
    text = """
    @task
    def step(x, y):
        ran(x)
        return x

    @flow
    def job():
        step(1, "a")
        step(VALUE, "b")
        die("here")

    job()
    """
    script.write(text.replace("VALUE", "2"))
    script.killed("here")
    script.write(text.replace("VALUE", "20"))
    script.ok()
    assert script.ran() == ["1", "2", "20"]
    assert reasons(script.journal)[0] == [None, None, "inputs changed: x: 2 -> 20"]


def test_values_are_shortened_and_kept_out_where_inputs_are_not_recorded(journal):
    shown = step_with(cache_policy=INPUTS)
    shown("a" * 500)
    shown("b" * 500)
    (told,) = [reason for reason in reasons(journal)[0] if reason]
    assert len(told) < 150
    hidden = step_with(cache_policy=INPUTS, record_inputs=False, name="hidden")
    hidden("secret one")
    hidden("secret two")
    assert "secret" not in str(reasons(journal, "hidden"))


# Source


def test_a_memo_names_the_function_that_changed(script):
    text = """
    from durable.cache_policies import INPUTS, TASK_SOURCE

    def clean(x):
        return CODE

    @task(cache_policy=INPUTS + TASK_SOURCE)
    def step(x):
        ran("step")
        return clean(x)

    step(1)
    """
    script.write(text.replace("CODE", "x"))
    script.ok()
    script.ok()
    script.write(text.replace("CODE", "x + 1"))
    script.ok()
    assert script.ran() == ["step", "step"]
    assert reasons(script.journal)[0] == [None, None, "source changed: job:clean"]


def test_a_checkpoint_that_asks_for_the_source_names_it(script):
    text = """
    from durable.cache_policies import DEFAULT, TASK_SOURCE

    @task(cache_policy=DEFAULT + TASK_SOURCE)
    def step(x):
        ran("step")
        return CODE

    @flow
    def job():
        step(1)
        die("here")

    job()
    """
    script.write(text.replace("CODE", "1"))
    script.killed("here")
    script.write(text.replace("CODE", "2"))
    script.ok()
    assert reasons(script.journal) == ([None], ["source changed: job:step"])


# The rest


def test_what_had_failed_says_with_what(journal):
    broken = [True]

    @task
    def step():
        if broken:
            raise ValueError("boom")

    @flow
    def job():
        step()

    with pytest.raises(ValueError):
        job()
    broken.clear()
    job()
    assert reasons(journal) == ([None], ["previous failed: ValueError: boom"])


def test_what_was_cut_off_says_so(script):
    script.write(
        """
    @task
    def step():
        die("inside")

    @flow
    def job():
        step()

    job()
    """
    )
    script.killed("inside")
    script.ok()
    assert reasons(script.journal) == ([None], ["cut off: its process died"])


def test_what_was_interrupted_says_so(journal):
    first = [True]

    @task
    def step():
        if first:
            first.clear()
            raise KeyboardInterrupt

    @flow
    def job():
        step()

    with pytest.raises(KeyboardInterrupt):
        job()
    job()
    assert reasons(journal) == ([None], ["interrupted"])


def test_an_expired_result_says_since_when(journal, clock):
    step = step_with(cache_policy=INPUTS, cache_expiration=60)
    step(1)
    clock.sleep(59)
    step(1)
    clock.sleep(1)
    step(1)
    assert step.ran == [(1, 0), (1, 0)]
    first, cached, third = reasons(journal)[0]
    assert (first, cached) == (None, None)
    assert third.startswith("expired: ")


def test_a_refreshed_one_says_so(journal):
    step = step_with(cache_policy=INPUTS)
    step(1)
    step.with_options(refresh_cache=True)(1)
    assert reasons(journal)[0] == [None, "refreshed"]


def test_an_unhashable_argument_is_named(journal):
    step = step_with(cache_policy=INPUTS)
    for _ in range(2):
        step(1, y=threading.Lock())
    assert step.ran == [(1, step.ran[0][1]), (1, step.ran[1][1])]
    assert reasons(journal)[0] == ["unhashable: y"] * 2


def test_a_policy_that_never_reuses_says_so(journal):
    step = step_with(cache_policy=NONE)
    runs = []

    @flow(retries=1)
    def job():
        step(1)
        runs.append(1)
        assert len(runs) == 2

    job()
    assert reasons(journal) == ([None], ["never reused: its cache policy is NONE"])


def test_a_result_that_was_not_kept_says_so(journal):
    step = step_with(persist_result=False)
    runs = []

    @flow(retries=1)
    def job():
        step(1)
        runs.append(1)
        assert len(runs) == 2

    job()
    assert reasons(journal) == ([None], ["not kept: persist_result=False"])


def test_a_key_function_without_a_key_says_so(journal):
    step = step_with(cache_key_fn=lambda context, parameters: None)
    step(1)
    assert reasons(journal)[0] == ["no key: its cache_key_fn gave none"]


def test_a_checkpoint_that_asks_for_the_flows_parameters_says_so(journal):
    """It can only be met where a subflow's identity is another's: by an idempotency key whose parameters changed."""
    step = step_with(cache_policy=DEFAULT + FLOW_PARAMETERS)
    fail = [True]

    @flow(idempotency_key="one")
    def job(day):
        step(1)
        assert not fail

    with pytest.raises(AssertionError):
        job("monday")
    fail.clear()
    job("tuesday")
    assert reasons(journal) == ([None], ["flow parameters changed"])


@dataclass
class Row:
    name: str


def test_a_result_whose_class_is_gone_is_a_loud_miss_for_a_memo(script):
    text = """
    from dataclasses import dataclass
    from durable.cache_policies import INPUTS

    @dataclass
    class CLASS:
        name: str

    @task(cache_policy=INPUTS)
    def step():
        ran("step")
        return CLASS("a")

    print(step())
    """
    script.write(text.replace("CLASS", "Row"))
    script.ok()
    script.write(text.replace("CLASS", "Line"))
    ended = script.run()
    assert ended.out == "Line(name='a')\n"
    assert "the cached result cannot be used" in ended.err
    (first, second), _ = reasons(script.journal)
    assert first is None
    assert second.startswith("undecodable: job:Row")


def test_a_result_whose_class_is_gone_is_an_error_for_a_checkpoint(script):
    text = """
    from dataclasses import dataclass

    @dataclass
    class CLASS:
        name: str

    @task
    def step():
        ran("step")
        return CLASS("a")

    @flow
    def job():
        step()
        die("here")

    job()
    """
    script.write(text.replace("CLASS", "Row"))
    script.killed("here")
    script.write(text.replace("CLASS", "Line"))
    ended = script.run()
    assert ended.code == 1
    assert "UnresolvedClass" in ended.err
    assert script.ran() == ["step"]


def test_run_id_alone_is_a_memo_of_its_run(journal):
    step = step_with(cache_policy=RUN_ID + INPUTS)

    @flow
    def job():
        return step(1), step(1)

    job()
    job()
    assert step.ran == [(1, 0), (1, 0)]
    assert durable.cache_policies.TASK_SOURCE is TASK_SOURCE
