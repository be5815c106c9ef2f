"""The wait between two attempts ends at once when nobody wants another one. Each would be an hour long."""

import asyncio
import signal
import threading
import time

import pytest
from operating import durable
from scripts import DEADLINE, Script, finish, histories, in_colour

from durable import flow, task
from durable.clock import Clock, use_clock
from durable.errors import CancelledRun
from durable.runners import ThreadPoolTaskRunner

HOUR = 3600
COLOURS = ["sync", "async"]
colours = pytest.mark.parametrize("colour", COLOURS)


class Watched(Clock):
    """The machine's clock, which tells when somebody begins to wait for another attempt."""

    def __init__(self):
        self.resting = threading.Event()

    def rest(self, *args):
        self.resting.set()
        super().rest(*args)

    async def rest_async(self, *args):
        self.resting.set()
        await super().rest_async(*args)

    async def rested(self):
        await asyncio.get_running_loop().run_in_executor(None, self.resting.wait, DEADLINE)


@pytest.fixture
def watched():
    with use_clock(Watched()) as clock:
        yield clock


def flaky(colour, ran, **options):
    options = {"retries": 3, "retry_delay_seconds": HOUR, "name": "flaky", **options}

    def body(*, fails=True):
        ran.append(1)
        if fails:
            raise ValueError("no")
        return "good"

    async def body_async(*, fails=True):
        await asyncio.sleep(0)
        return body(fails=fails)

    return task(**options)(body if colour == "sync" else body_async)


@colours
def test_a_future_is_cancelled_while_it_waits_for_another_attempt(colour, journal, watched):
    ran = []
    step = flaky(colour, ran)

    @flow
    def job():
        future = step.submit()
        assert watched.resting.wait(DEADLINE)
        assert future.cancel()
        assert future.cancel()
        future.wait()
        assert future.cancelled()
        with pytest.raises(CancelledRun, match="Cancelled before its next attempt"):
            future.result()
        return future.state.name

    assert job() == "Cancelled"
    assert ran == [1]
    assert histories(journal, "flaky") == [["Running", "AwaitingRetry", "Cancelled"]]


@colours
def test_a_future_is_cancelled_from_an_async_flow(colour, journal, watched):
    ran = []
    step = flaky(colour, ran)

    @flow
    async def job():
        future = step.submit()
        await watched.rested()
        assert future.cancel()
        await future.settled()
        return future.cancelled()

    assert asyncio.run(job())
    assert histories(journal, "flaky") == [["Running", "AwaitingRetry", "Cancelled"]]


@colours
def test_a_generator_is_cancelled_while_it_waits_for_another_attempt(colour, journal, watched):
    @task(name="flaky", retries=1, retry_delay_seconds=HOUR)
    def values():
        yield 1
        raise ValueError("no")

    @task(name="flaky", retries=1, retry_delay_seconds=HOUR)
    async def values_async():
        yield 1
        raise ValueError("no")

    @flow
    def job():
        future = (values if colour == "sync" else values_async).submit()
        assert watched.resting.wait(DEADLINE)
        assert future.cancel()
        future.wait()
        return future.cancelled()

    assert job()
    assert histories(journal, "flaky") == [["Running", "AwaitingRetry", "Cancelled"]]


def test_a_place_in_the_pool_is_free_again(journal, watched):
    ran = []
    step = flaky("sync", ran)

    @flow(task_runner=ThreadPoolTaskRunner(1))
    def job():
        future = step.submit()
        assert watched.resting.wait(DEADLINE)
        future.cancel()
        return step.submit(fails=False).result()

    assert job() == "good"


def test_it_is_not_cancelled_while_its_body_executes_nor_when_it_has_ended(journal):
    inside, go = threading.Event(), threading.Event()

    @task(retries=1, retry_delay_seconds=HOUR)
    def step():
        inside.set()
        go.wait(DEADLINE)

    @flow
    def job():
        future = step.submit()
        assert inside.wait(DEADLINE)
        assert not future.cancel()
        go.set()
        future.wait()
        return future.cancel()

    assert job() is False
    assert histories(journal, "step") == [["Running", "Completed"]]


@colours
@pytest.mark.parametrize("late", [False, True], ids=["it waits already", "it begins to wait"])
def test_a_flow_whose_body_raises_does_not_wait_for_other_attempts(colour, late, journal, watched):
    ran, fixed, held, inside = [], [], [], threading.Event()

    def goes_on():
        inside.set()
        return not late or (held and held[0].home.closing)

    def end():
        ran.append(1)
        if not fixed:
            raise ValueError("no")
        return "good"

    @task(name="flaky", retries=2, retry_delay_seconds=HOUR)
    def step():
        while not (fixed or goes_on()):
            time.sleep(0.001)
        return end()

    @task(name="flaky", retries=2, retry_delay_seconds=HOUR)
    async def step_async():
        while not (fixed or goes_on()):  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.001)
        return end()

    @flow
    def job():
        held.append((step if colour == "sync" else step_async).submit())
        if fixed:
            return held[-1].result()
        assert (inside if late else watched.resting).wait(DEADLINE)
        raise KeyError("the body")

    with pytest.raises(KeyError):
        job()
    assert ran == [1]
    assert histories(journal, "flaky") == [["Running", "AwaitingRetry", "Cancelled"]]
    # The run is continued with the attempts that were left.
    fixed.append(1)
    assert job() == "good"
    assert histories(journal, "flaky") == [["Running", "AwaitingRetry", "Cancelled", "Running", "Completed"]]


def test_what_is_around_a_call_that_waits_is_cut_off_with_it(journal, watched):
    ran = []
    step = flaky("sync", ran)

    @flow(retries=5, retry_delay_seconds=HOUR)
    def inner():
        step()

    @task(retries=3)
    def outer():
        inner()

    @flow
    def job():
        outer.submit()
        assert watched.resting.wait(DEADLINE)
        raise KeyError("the body")

    with pytest.raises(KeyError):
        job()
    assert ran == [1]
    assert histories(journal, "flaky") == [["Running", "AwaitingRetry"]]  # nothing was cut off in it
    assert histories(journal, "outer") == [["Running", "Crashed"]]


def test_others_wait_on_when_a_flow_beside_them_stops(journal, watched):
    """Only what the stopped flow is around of is woken for good."""
    ran, beside = [], threading.Event()

    @task(retries=1, retry_delay_seconds=0.3)
    def patient():
        ran.append(1)
        if len(ran) == 1:
            raise ValueError
        return "patient"

    @flow
    def stops():
        raise KeyError("the body")

    @task
    def noop():
        return 1

    @flow
    def stopping():
        noop.submit()
        stops()

    @flow
    def job():
        future = patient.submit()
        assert watched.resting.wait(DEADLINE)
        with pytest.raises(KeyError):
            stopping()
        beside.set()
        return future.result()

    assert job() == "patient"


SCRIPT = """
    @task(retries=3, retry_delay_seconds=3600 if asked("fail") else 0)
    DEF flaky():
        ran("flaky")
        if asked("fail"):
            raise ValueError("no")
        return 1

    @flow
    DEF job():
        HOW

    if __name__ == "__main__":
        print(RUN(job()))
"""
HOWS = {"submitted": "return flaky.submit().result()", "direct": "return AWAIT flaky()"}
HOWS_ASYNC = {"submitted": "return await flaky.submit()", "direct": "return await flaky()"}


def resting(tmp_path, colour, how):
    """A script that waits for another attempt."""
    script = Script(tmp_path)
    hows = HOWS if colour == "sync" else HOWS_ASYNC
    script.write(in_colour(SCRIPT, colour).replace("HOW", hows[how].replace("AWAIT ", "")))
    return script, started(script)


def started(script):
    process = script.start(DIE="fail")
    deadline = time.monotonic() + DEADLINE
    while not script.journal.exists() or script.tasks("flaky") != [["Running", "AwaitingRetry"]]:
        assert process.poll() is None, finish(process)
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


@colours
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_first_signal_ends_the_wait_and_the_run_goes_on_with_the_attempts_left(tmp_path, colour, how, number):
    script, process = resting(tmp_path, colour, how)
    process.send_signal(number)
    assert finish(process).code in (1, 130, -signal.SIGINT, 143)
    assert script.flows() == [["Running", "Crashed"]]
    called_off = how == "submitted" and number == signal.SIGINT
    assert script.tasks("flaky")[0] == ["Running", "AwaitingRetry", *(["Cancelled"] if called_off else [])]
    assert script.ok() == "1"
    assert script.ran() == ["flaky", "flaky"]
    assert script.query("SELECT count(*) FROM task_runs") == [(1,)]


@colours
@pytest.mark.parametrize("how", HOWS)
def test_durable_cancel_ends_the_wait(tmp_path, colour, how):
    script, process = resting(tmp_path, colour, how)
    assert durable(script, "cancel", "runs.db", "-", "--wait").code == 0
    assert finish(process).code != 0
    assert script.flows() == [["Running", "Cancelling", "Cancelled"]]
    assert script.tasks("flaky") == [["Running", "AwaitingRetry", "Cancelled"]]
    assert script.ran() == ["flaky"]


def test_ctrl_c_ends_the_wait_of_what_a_worker_process_executed(tmp_path):
    script = Script(tmp_path)
    script.write(
        """
        from durable.task_runners import ProcessPoolTaskRunner

        @task(retries=3, retry_delay_seconds=3600 if asked("fail") else 0)
        def flaky():
            if asked("fail"):
                raise ValueError("no")
            return 1

        @flow(task_runner=ProcessPoolTaskRunner(1))
        def job():
            return flaky.submit().result()

        if __name__ == "__main__":
            print(job())
        """
    )
    process = started(script)
    process.send_signal(signal.SIGINT)
    assert finish(process).code in (1, 130, -signal.SIGINT)
    assert script.tasks("flaky") == [["Running", "AwaitingRetry", "Cancelled"]]
    assert script.ok() == "1"
