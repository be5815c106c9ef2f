"""Timeouts end what they can, say so, and leave nothing behind. The waits in here are of bodies that must not end."""

import asyncio
import contextvars
import ctypes
import signal
import sys
import threading
import time

import pytest
from scripts import query

from durable import ConfigurationError, FlowRunTimeoutError, TaskRunTimeoutError, flow, task

SHORT = 0.05  # seconds a body gets
LONG = 30.0  # seconds it would take


def states(journal, kind="task run"):
    rows = query(journal, "SELECT state, message FROM states WHERE run_kind = ? ORDER BY run_row, seq", kind)
    return [tuple(row) for row in rows]


def in_time(ended):
    """Call ``ended(seconds)`` with ever more seconds, until it says that a body had begun before they were over."""
    for seconds in (SHORT, 1.0, LONG):
        if ended(seconds):
            return
    raise AssertionError("it never began")


LATE = ("TimedOut", f"TaskRunTimeoutError: Task run exceeded timeout of {SHORT} second(s)")


def test_a_blocking_call_on_the_main_thread_is_ended(journal):
    @task(timeout_seconds=SHORT)
    def step():
        time.sleep(LONG)

    with pytest.raises(TaskRunTimeoutError, match=f"exceeded timeout of {SHORT} second"):
        step()
    assert states(journal) == [("Running", None), LATE]
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_python_code_on_another_thread_is_ended(journal):
    @task(timeout_seconds=SHORT)
    def step():
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            pass

    caught = []

    def work():
        try:
            step()
        except TaskRunTimeoutError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(LONG)
    assert len(caught) == 1
    assert states(journal) == [("Running", None), LATE]


def test_a_coroutine_is_ended_at_its_await(journal):
    @task(timeout_seconds=SHORT)
    async def step():
        await asyncio.sleep(LONG)

    async def main():
        with pytest.raises(TaskRunTimeoutError):
            await step()
        # The cancellation that ended it is spent.
        await asyncio.sleep(0)
        return 1

    assert asyncio.run(main()) == 1
    assert states(journal) == [("Running", None), LATE]


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_flow_is_ended_with_what_it_was_doing(colour, journal):
    inside = []

    @task
    def step():
        inside.append(1)
        time.sleep(60)

    @task
    async def step_async():
        inside.append(1)
        await asyncio.sleep(60)

    def ended(seconds):
        @flow(timeout_seconds=seconds, resume="never")
        def job():
            step()

        @flow(timeout_seconds=seconds, resume="never")
        async def job_async():
            await step_async()

        with pytest.raises(FlowRunTimeoutError):
            job() if colour == "sync" else asyncio.run(job_async())
        return bool(inside)

    in_time(ended)
    assert [name for name, _ in states(journal, "flow run")][-2:] == ["Running", "TimedOut"]
    # The task did not exceed a limit of its own: it was cut off, and runs again on resume.
    assert [name for name, _ in states(journal)][-2:] == ["Running", "Crashed"]


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_flow_that_has_failed_waits_for_what_runs_beyond_its_limit(colour, journal):
    def ended(seconds):
        begun = threading.Event()

        @task
        def slow():
            begun.set()
            time.sleep(2 * seconds)

        @flow(timeout_seconds=seconds, resume="never")
        def job():
            slow.submit()
            begun.wait(LONG)
            raise ValueError("the body's own")

        @flow(timeout_seconds=seconds, resume="never")
        async def job_async():
            slow.submit()
            await asyncio.get_running_loop().run_in_executor(None, begun.wait, LONG)
            raise ValueError("the body's own")

        try:
            job() if colour == "sync" else asyncio.run(job_async())
        except ValueError:
            return True
        except FlowRunTimeoutError:
            return False

    in_time(ended)
    assert [name for name, _ in states(journal, "flow run")][-2:] == ["Running", "Failed"]
    assert [name for name, _ in states(journal)][-2:] == ["Running", "Completed"]


def test_the_inner_and_the_outer_limit_each_end_their_own(journal):
    @task(timeout_seconds=SHORT)
    def short():
        time.sleep(LONG)

    @task(timeout_seconds=LONG)
    def long():
        try:
            short()
        except TaskRunTimeoutError:
            return "went on"

    assert long() == "went on"
    assert sorted(name for name, _ in states(journal)) == ["Completed", "Running", "Running", "TimedOut"]


def test_the_outer_limit_holds_while_an_inner_one_is_counted(journal):
    @task(timeout_seconds=LONG)
    def inner():
        time.sleep(LONG)

    @task(timeout_seconds=SHORT)
    def outer():
        inner()

    with pytest.raises(TaskRunTimeoutError, match=str(SHORT)):
        outer()


def test_the_outer_limit_rings_once_and_what_it_cuts_off_is_recorded(journal):
    inside = []

    @task(timeout_seconds=LONG)
    def inner():
        inside.append(1)
        time.sleep(LONG)

    def ended(seconds):
        @task(timeout_seconds=seconds)
        def outer():
            inner()

        with pytest.raises(TaskRunTimeoutError):
            outer()
        return bool(inside)

    in_time(ended)
    recorded = query(journal, "SELECT state FROM states WHERE run_row = (SELECT max(task_run_row) FROM task_runs)")
    assert recorded == [("Running",), ("Crashed",)]


def test_an_alarm_just_before_a_blocking_call_rings_again(journal):
    """Such a call is not interrupted: Python has looked for signals before it, and looks again when it has ended."""
    usleep, slept = ctypes.CDLL(None).usleep, []

    @task(timeout_seconds=SHORT)
    def step():
        slept.extend(map(usleep, [int(LONG * 1e6)] * 2))  # Python looks for no signals between the two

    with pytest.raises(TaskRunTimeoutError):
        step()
    assert 0 not in slept, "each was interrupted"


def test_a_timeout_is_retried_like_any_failure(journal):
    attempts = []

    @task(timeout_seconds=SHORT, retries=50)
    def step():
        attempts.append(1)
        if len(attempts) == 1:
            time.sleep(LONG)
        return len(attempts)

    assert step() == len(attempts) > 1
    # On a slow machine the time of another attempt may be up, too.
    assert [name for name, _ in states(journal)] == ["Running", *["Retrying"] * (len(attempts) - 1), "Completed"]


def test_what_swallows_exceptions_is_ended_all_the_same(journal):
    @task(timeout_seconds=SHORT)
    def step():
        while True:
            try:
                time.sleep(LONG)
            except Exception:
                continue

    with pytest.raises(TaskRunTimeoutError):
        step()


def test_a_timeout_error_of_the_bodys_own_is_timed_out_too(journal):
    @task
    def step():
        raise TimeoutError("the server's")

    with pytest.raises(TimeoutError, match="the server's"):
        step()
    assert [name for name, _ in states(journal)] == ["Running", "TimedOut"]


def test_a_body_that_is_in_time_leaves_nothing_behind(journal):
    @task(timeout_seconds=LONG)
    def step():
        return 1

    before = threading.active_count()
    assert step() == 1
    assert contextvars.copy_context().run(step) == 1
    assert threading.active_count() <= before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_programs_own_alarm_is_left_alone(journal):
    rang = []

    @task(timeout_seconds=SHORT)
    def step():
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            pass

    before = signal.signal(signal.SIGALRM, lambda *_: rang.append(1))
    try:
        with pytest.raises(TaskRunTimeoutError):
            step()
        signal.raise_signal(signal.SIGALRM)
        assert rang == [1]
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", [task, flow])
@pytest.mark.parametrize("value", [0, -1, "1", True, float("nan")])
def test_a_limit_that_cannot_be_meant_is_refused(kind, value):
    with pytest.raises(ConfigurationError, match="timeout_seconds"):
        kind(timeout_seconds=value)(lambda: None)


# What cannot be ended is told


def test_a_blocking_call_on_another_thread_is_told_and_timed_out_when_it_returns(journal, monkeypatch, caplog):
    monkeypatch.setattr("durable.timeouts._GRACE", 0.05)
    blocks, failed = threading.Lock(), []
    blocks.acquire()

    @task(timeout_seconds=SHORT)
    def step():
        blocks.acquire(timeout=LONG)  # one call into C, which returns once there was a warning

    def returns(record):
        if "timeout" in record.getMessage():
            blocks.release()
        return True

    def run():
        try:
            step()
        except TaskRunTimeoutError:
            failed.append(True)

    thread = threading.Thread(target=run)
    with caplog.at_level("WARNING", "durable"), caplog.filtering(returns):
        thread.start()
        thread.join()
    (told,) = [record.getMessage() for record in caplog.records if "timeout" in record.getMessage()]
    assert told.startswith("test_a_blocking_call_on_another_thread_is_told")
    assert "only its own return ends" in told
    assert failed
    assert states(journal) == [("Running", None), LATE]


def test_a_coroutine_that_blocks_the_loop_is_told(journal, caplog):
    @task(timeout_seconds=SHORT)
    async def step():
        time.sleep(0.2)  # noqa: ASYNC251 - the point

    with caplog.at_level("WARNING", "durable"):
        asyncio.run(step())
    (told,) = [record.getMessage() for record in caplog.records if "timeout" in record.getMessage()]
    assert "could not be ended: it blocked the event loop" in told


def test_a_body_that_ends_in_time_is_told_nothing(journal, caplog, monkeypatch):
    monkeypatch.setattr("durable.timeouts._GRACE", 0.01)

    @task(timeout_seconds=LONG)
    def step():
        pass

    thread = threading.Thread(target=step)
    with caplog.at_level("WARNING", "durable"):
        thread.start()
        thread.join()
    assert not caplog.records


def test_time_that_runs_out_while_an_inner_flow_waits_for_its_tasks_ends_the_wait(journal):
    """The inner flow's body has raised, and what it submitted runs on: that is waited for, but no longer than this."""
    goes_on = threading.Event()

    @task
    def slow():
        return goes_on.wait(LONG)

    @flow
    def inner():
        slow.submit()
        time.sleep(SHORT)  # until it runs
        raise ValueError("the inner flow's")

    @flow(timeout_seconds=1)
    def outer():
        inner()

    with pytest.raises(FlowRunTimeoutError):
        outer()
    still = states(journal)
    goes_on.set()
    assert still == [("Running", None)]
    message = "FlowRunTimeoutError: Flow run exceeded timeout of 1.0 second(s)"
    ended = [state for state in states(journal, "flow run") if state[0] != "Running"]
    assert ended == [("TimedOut", message), ("Crashed", "Execution was aborted by Expired.")]


@pytest.mark.parametrize("kind", ["plain", "generator"])
def test_time_that_runs_out_just_as_the_body_raises_is_the_calls_and_nobody_elses(journal, kind):
    """The alarm rings when the engine has the body's exception in its hands, and has not called the alarm off yet."""

    def rings_in_leave(frame, event, _):
        if event == "call" and frame.f_code.co_name == "leave":
            sys.setprofile(None)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})

    def fails_late():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        time.sleep(2 * SHORT)
        sys.setprofile(rings_in_leave)
        raise ValueError("of its own")

    @task(timeout_seconds=SHORT)
    def step():
        fails_late()

    @task(timeout_seconds=SHORT)
    def steps():
        yield fails_late()

    with pytest.raises(TaskRunTimeoutError):
        step() if kind == "plain" else list(steps())
    assert states(journal) == [("Running", None), LATE]
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
