"""Options of flows that tests of other matters do not reach: persist_result, hooks by decorator, names."""

import asyncio

import pytest
from scripts import Script, query

from durable import flow, runtime, task
from durable.errors import CancelledRun
from durable.states import Cancelled, Crashed

NOT_KEPT = """
@task
def step(n):
    ran("step", n)
    return n

@flow(persist_result=False, KEY)
def inner():
    ran("inner")
    return [step(1), step(2)]

@flow
def job():
    found = inner()
    die("after")
    return found

if __name__ == "__main__":
    print(inner() if asked("alone") else job())
"""


def test_a_subflow_whose_result_is_not_kept_runs_its_body_again_and_its_tasks_do_not(tmp_path):
    script = Script(tmp_path)
    script.write(NOT_KEPT.replace("KEY", ""))
    script.killed("after")
    assert script.ran() == ["inner", "step 1", "step 2"]
    assert script.ok() == "[1, 2]"
    assert script.ran() == ["inner"]
    assert script.flows("inner") == [["Running", "Completed", "Running", "Completed"]]


def test_a_keys_run_whose_result_is_not_kept_runs_its_body_again_and_its_tasks_do_not(tmp_path):
    script = Script(tmp_path)
    script.write(NOT_KEPT.replace("KEY", "idempotency_key='one'"))
    assert script.ok(DIE="alone") == "[1, 2]"
    assert script.ok(DIE="alone") == "[1, 2]"
    assert script.ran() == ["inner", "step 1", "step 2", "inner"]


def test_a_flows_result_is_in_the_journal_unless_told_otherwise(journal):
    flow(name="kept")(lambda: 1)()
    flow(name="not-kept", persist_result=False)(lambda: 1)()
    results = query(
        journal, "SELECT run_row, result_row IS NULL FROM states WHERE state = 'Completed' ORDER BY run_row"
    )
    assert results == [(1, 0), (2, 1)]


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_every_hook_of_a_flow_can_be_added_by_a_decorator(colour, journal):
    told = []

    def body(how):
        if how in ("ValueError", "SystemExit"):
            raise ValueError if how == "ValueError" else SystemExit(1)
        return Cancelled(message="no") if how == "cancelled" else how

    async def body_async(how):
        await asyncio.sleep(0)
        return body(how)

    job = flow(name="job")(body if colour == "sync" else body_async)

    @job.on_running
    def running(flow, run, state):
        told.append(("running", flow.name, state.name))

    @job.on_completion
    async def completed(flow, run, state):
        told.append(("completed", run.flow_name, state.name))

    @job.on_failure
    def failed(flow, run, state):
        told.append(("failed", runtime.flow_run.id == run.id, state.name))

    @job.on_cancellation
    async def cancelled(flow, run, state):
        told.append(("cancelled", runtime.flow_run.id == run.id, state.name))

    @job.on_crashed
    def crashed(flow, run, state):
        told.append(("crashed", runtime.flow_run.id == run.id, state.name))

    def call(how):
        return job(how) if colour == "sync" else asyncio.run(job(how))

    call("well")
    for how, error in (("ValueError", ValueError), ("cancelled", CancelledRun), ("SystemExit", SystemExit)):
        with pytest.raises(error):
            call(how)
    assert [each for each in told if each[0] != "running"] == [
        ("completed", "job", "Completed"),
        ("failed", True, "Failed"),
        ("cancelled", True, "Cancelled"),
        ("crashed", True, "Crashed"),
    ]
    assert told.count(("running", "job", "Running")) == 4


def test_a_hook_of_a_flow_that_raises_does_not_keep_others_from_being_told(journal):
    told = []

    def bad(flow, run, state):
        raise RuntimeError("a bug")

    @flow(
        on_cancellation=[bad, lambda *_: told.append("cancelled")], on_crashed=[bad, lambda *_: told.append("crashed")]
    )
    def job(how):
        return Cancelled() if how == "cancelled" else Crashed()

    assert job("cancelled", return_state=True).is_cancelled()
    assert job("crashed", return_state=True).is_crashed()
    assert told == ["cancelled", "crashed"]


def test_a_flow_is_named_by_a_callable_that_sees_its_run(journal):
    @task
    def step():
        return runtime.flow_run.name

    @flow(flow_run_name=lambda: f"{runtime.flow_run.flow_name}-{runtime.flow_run.parameters['day']}")
    def nightly(day):
        return step()

    @flow(flow_run_name=lambda parameters: f"of {parameters['day']}")
    def other(day):
        return runtime.flow_run.name

    assert (nightly("monday"), other("friday")) == ("nightly-monday", "of friday")


def test_a_flow_that_was_not_called_for_a_failed_state_says_which(journal):
    @flow
    def job(rows):
        raise AssertionError

    @task
    def load():
        raise ValueError("no rows")

    made = job(Cancelled(message="by hand"), return_state=True)
    failed = job(rows=load(return_state=True), return_state=True)
    assert (made.name, failed.name) == ("NotReady", "NotReady")
    assert made.message == "its upstream made by hand (in rows) ended Cancelled('by hand')"
    assert failed.message.endswith("(in rows) ended Failed('ValueError: no rows')")
    assert query(journal, "SELECT count(*) FROM flow_runs") == [(0,)]
