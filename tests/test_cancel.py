"""`durable cancel`: a live run stops at its next task call, a dead one is marked, and neither goes on by itself."""

import json

import pytest
from operating import durable, in_process
from scripts import finish, in_colour

from durable import ownership

JOB = """
@task
def step(n):
    ran("step", n)
    if n == 1:
        signal_files("one")
    die(f"step{n}")
    return n

def told(flow, run, state):
    ran("hook", state.name)

@flow(on_cancellation=[told])
DEF job():
    try:
        for n in range(3):
            try:
                step(n)
            except Exception:
                ran("swallowed")
    finally:
        ran("finally")

if __name__ == "__main__":
    RUN(job())
"""


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_live_run_stops_where_it_calls_its_next_task(script, colour):
    script.write(in_colour(JOB, colour))
    process = script.start()
    script.wait_for("one.here", process)
    asked = durable(script, "cancel", "runs.db", "-")
    assert asked.code == 0, asked
    assert "asked to stop" in asked.err
    script.go("one")
    ended = finish(process)
    assert ended.code == 1
    assert "FlowRunCancelled: flow run job" in ended.err
    assert script.ran() == ["step 0", "step 1", "finally", "hook Cancelled"]
    assert script.flows() == [["Running", "Cancelling", "Cancelled"]]
    assert script.tasks("step") == [["Running", "Completed"]] * 2
    assert not (script.folder / "runs.db-locks").exists(), "the request went with the lock"


def test_waiting_returns_when_it_has_stopped(script):
    script.write(in_colour(JOB, "sync"))
    process = script.start()
    script.wait_for("one.here", process)
    waiting = in_process(script, "cancel", "runs.db", "-", "--wait", "--json")
    ((run,),) = script.query("SELECT id FROM flow_runs")
    script.wait_for(f"runs.db-locks/{run}.cancel")
    script.go("one")
    told = finish(waiting)
    assert told.code == 0, told
    assert json.loads(told.out)["state"] == "Cancelled"
    assert finish(process).code == 1
    assert script.flows() == [["Running", "Cancelling", "Cancelled"]]


def test_a_dead_run_is_marked_and_not_continued_by_itself(script):
    script.write(in_colour(JOB, "sync"))
    script.go("one")
    script.killed("step1")
    assert script.ran() == ["step 0", "step 1"]
    assert durable(script, "cancel", "runs.db", "-").code == 0
    assert script.flows() == [["Running", "Crashed", "Cancelled"]]
    assert "is Cancelled" in durable(script, "cancel", "runs.db", "-").err, "once more changes nothing"
    assert script.flows() == [["Running", "Crashed", "Cancelled"]]
    script.ok()
    assert script.ran() == ["step 0", "step 1", "step 2", "finally"], "a new run"
    assert len(script.flows()) == 2


def test_a_cancelled_run_goes_on_when_it_is_named(script):
    script.write(in_colour(JOB, "sync"))
    script.go("one")
    script.killed("step1")
    durable(script, "cancel", "runs.db", "-")
    script.ran()
    ((run,),) = script.query("SELECT id FROM flow_runs")
    script.ok(DURABLE_RESUME=run[:7])
    assert script.ran() == ["step 1", "step 2", "finally"]
    assert script.flows() == [["Running", "Crashed", "Cancelled", "Running", "Completed"]]


def test_a_request_its_owner_did_not_live_to_follow_is_followed_by_the_next(script):
    script.write(in_colour(JOB, "sync"))
    process = script.start(DIE="step1")
    script.wait_for("one.here", process)
    durable(script, "cancel", "runs.db", "-")
    script.go("one")
    assert finish(process).code == -9
    assert script.run().code == 1
    assert script.flows() == [["Running", "Crashed", "Running", "Cancelling", "Cancelled"]]


def test_the_run_of_an_idempotency_key_that_was_cancelled_says_so(script):
    script.write(in_colour(JOB, "sync").replace("@flow(", "@flow(idempotency_key='k', "))
    script.go("one")
    script.killed("step1")
    durable(script, "cancel", "runs.db", "-")
    ended = script.run()
    assert "idempotency key 'k' was cancelled" in ended.err
    ((run,),) = script.query("SELECT id FROM flow_runs")
    script.ok(DURABLE_RESUME=run[:7])
    assert script.flows()[0][-1] == "Completed"


def test_a_run_that_has_ended_is_not_cancelled(script):
    script.write(in_colour(JOB, "sync"))
    script.go("one")
    script.ok()
    ended = durable(script, "cancel", "runs.db", "-")
    assert (ended.code, script.flows()) == (3, [["Running", "Completed"]])
    assert "has ended already: Completed" in ended.err


def test_a_task_that_waits_for_another_attempt_and_those_around_the_call_are_cancelled_too(script):
    script.write("""
        @task(retries=1, retry_delay_seconds=0.01)
        def flaky():
            ran("flaky")
            signal_files("flaky")
            raise ValueError("no")

        @task
        def outer():
            flaky()

        @flow
        def inner():
            outer()

        @flow
        def job():
            inner()

        job()
    """)
    process = script.start()
    script.wait_for("flaky.here", process)
    durable(script, "cancel", "runs.db", "-")
    script.go("flaky")
    finish(process)
    assert script.ran() == ["flaky"]
    assert script.tasks("flaky") == [["Running", "AwaitingRetry", "Cancelled"]]
    assert script.tasks("outer") == [["Running", "Cancelled"]]
    assert script.flows("inner") == [["Running", "Cancelling", "Cancelled"]]
    assert script.flows("job") == [["Running", "Cancelling", "Cancelled"]]


def test_concurrent_coroutines_are_cancelled_with_the_one_that_was_told(script):
    script.write("""
        @task
        async def step(n):
            ran("step", n)
            if n == 0:
                signal_files("zero")
                return
            await asyncio.Event().wait()

        @flow
        async def job():
            others = asyncio.ensure_future(step(1))
            await asyncio.sleep(0)
            await step(0)
            await step(2)

        asyncio.run(job())
    """)
    process = script.start()
    script.wait_for("zero.here", process)
    durable(script, "cancel", "runs.db", "-")
    script.go("zero")
    assert "FlowRunCancelled" in finish(process).err
    assert "step 2" not in script.ran()
    assert script.flows() == [["Running", "Cancelling", "Cancelled"]]


def test_the_wrong_run_is_named(script):
    script.write(in_colour(JOB, "sync"))
    script.go("one")
    script.ok()
    assert "no flow run is called 'zz', and no id begins so" in durable(script, "cancel", "runs.db", "zz").err
    assert durable(script, "cancel", "nothing.db", "-").code == 3
    assert not (script.folder / "nothing.db").exists()
    assert durable(script, "cancel").code == 2


def test_a_request_is_looked_for_once_a_millisecond(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(ownership, "monotonic", lambda: now[0])
    (tmp_path / "runs.db-locks").mkdir()
    request = ownership.Cancellation(tmp_path / "runs.db", bytes(16))
    assert not request.asked()
    assert request.ask()
    assert not request.asked()
    now[0] += 0.0011
    assert request.asked()
    request.withdraw()
    assert request.asked(), "it is followed, once noticed"
