"""A crash resumes history; a failure gets a new chance."""

import pytest
from scripts import in_colour

COLOURS = ["sync", "async"]


BUG = """
@task
DEF step(i):
    ran("step", i)
    if i == 3:
        FIX
    return i * 2

@flow
DEF job():
    return [AWAIT step(i) for i in range(5)]

print(RUN(job()))
"""


@pytest.mark.parametrize("colour", COLOURS)
def test_fix_the_bug_run_again_done(script, colour):
    text = in_colour(BUG, colour)
    script.write(text.replace("FIX", "1 / 0"))
    ended = script.run()
    assert ended.code == 1
    assert "ZeroDivisionError" in ended.err
    assert script.ran() == ["step 0", "step 1", "step 2", "step 3"]
    script.write(text.replace("FIX", "pass"))
    assert script.ok() == "[0, 2, 4, 6, 8]"
    assert script.ran() == ["step 3", "step 4"]
    assert script.flows() == [["Running", "Failed", "Running", "Completed"]]
    assert script.tasks("step")[3] == ["Running", "Failed", "Running", "Completed"]


def test_a_failure_may_be_fixed_many_runs_later(script):
    text = in_colour(BUG, "sync")
    script.write(text.replace("FIX", "1 / 0"))
    for _ in range(3):
        assert script.run().code == 1
    assert script.ran() == ["step 0", "step 1", "step 2", "step 3", "step 3", "step 3"]
    script.write(text.replace("FIX", "pass"))
    script.ok()
    assert script.flows() == [["Running", "Failed"] * 3 + ["Running", "Completed"]]


CAUGHT = """
class Refused(Exception):
    def __init__(self, code, reason, *, retry_after):
        super().__init__(f"{code}: {reason}")
        self.code, self.reason, self.retry_after = code, reason, retry_after

class RefusedHard(Refused):
    pass

@task
DEF call(i):
    ran("call", i)
    if i % 2 and not os.environ.get("FIXED"):
        error = RefusedHard(400 + i, "no", retry_after=(i, {"s": {1}}))
        error.add_note("seen") if hasattr(error, "add_note") else None
        raise error from KeyError("cause")
    return i

@flow
DEF job():
    out = []
    for i in range(4):
        try:
            out.append(AWAIT call(i))
        except Refused as error:
            assert type(error) is RefusedHard and type(error.__cause__) is KeyError
            out.append((error.code, error.reason, error.retry_after, str(error), error.args))
            ran("caught", error.code)
    die("end")
    if asked("fail"):
        raise RuntimeError("the flow fails")
    return out

print(RUN(job()))
"""
CAUGHT_OUT = str(
    [0, (401, "no", (1, {"s": {1}}), "401: no", ("401: no",)), 2, (403, "no", (3, {"s": {1}}), "403: no", ("403: no",))]
)


@pytest.mark.parametrize("colour", COLOURS)
def test_after_a_crash_a_caught_failure_is_history_and_takes_the_same_branch(script, colour):
    script.write(in_colour(CAUGHT, colour))
    script.killed("end")
    assert script.ran() == ["call 0", "call 1", "caught 401", "call 2", "call 3", "caught 403"]
    assert script.ok(FIXED="1") == CAUGHT_OUT
    assert script.ran() == ["caught 401", "caught 403"]
    assert script.tasks("call") == [["Running", "Completed"], ["Running", "Failed"]] * 2


@pytest.mark.parametrize("colour", COLOURS)
def test_when_the_flow_failed_its_caught_failures_get_a_new_chance_too(script, colour):
    script.write(in_colour(CAUGHT, colour))
    assert script.run(DIE="fail").code == 1
    script.ran()
    assert script.ok(FIXED="1") == "[0, 1, 2, 3]"
    assert script.ran() == ["call 1", "call 3"]
    assert script.tasks("call")[1] == ["Running", "Failed", "Running", "Completed"]


def test_a_failure_after_the_new_chance_is_history_again(script):
    """Failed, run again, failed again and caught, then killed: that last failure is not run again."""
    script.write(in_colour(CAUGHT, "sync"))
    assert script.run(DIE="fail").code == 1
    script.killed("end")
    assert [line for line in script.ran() if line.startswith("call")][4:] == ["call 1", "call 3"]
    assert script.ok(FIXED="1") == CAUGHT_OUT
    assert script.ran() == ["caught 401", "caught 403"]


def test_an_exception_whose_class_is_gone_is_told_as_taskfailed(script):
    text = """
    EXTRA

    @task
    def call():
        ran("call")
        raise make()

    @flow
    def job():
        try:
            call()
        except Exception as error:
            die("end")
            return type(error).__name__, str(error)

    print(job())
    """
    script.write(text.replace("EXTRA", "class Odd(Exception): pass\n    def make(): return Odd('boom')"))
    script.killed("end")
    script.write(text.replace("EXTRA", "def make(): return ValueError('other')"))
    assert script.ok() == "('TaskFailed', 'job.Odd: boom')"
    assert script.ran() == ["call"]


RETRIED = """
@task(retries=2)
DEF flaky():
    ran("flaky")
    count = len(open("ran.log").read().splitlines())
    die(f"attempt {count}")
    if count < int(os.environ["GOOD"]):
        raise ValueError(f"attempt {count}")
    return count

@flow
DEF job():
    return AWAIT flaky()

print(RUN(job()))
"""


@pytest.mark.parametrize("colour", COLOURS)
def test_the_retry_budget_continues_after_a_crash(script, colour):
    script.write(in_colour(RETRIED, colour))
    script.killed("attempt 2", GOOD="99")  # one failure recorded, the retry in flight
    ended = script.run(GOOD="99")
    assert ended.code == 1
    assert "ValueError: attempt 4" in ended.err
    # Attempt 2 was cut off, so it does not count: failures 1, 3 and 4 are the three of retries=2.
    assert len(script.ran()) == 4
    assert script.tasks("flaky") == [["Running", "Retrying", "Crashed", "Running", "Retrying", "Failed"]]


@pytest.mark.parametrize("colour", COLOURS)
def test_the_retry_budget_is_fresh_after_the_flow_failed(script, colour):
    script.write(in_colour(RETRIED, colour))
    assert script.run(GOOD="99").code == 1
    assert len(script.ran()) == 3
    assert script.ok(GOOD="6") == "6"
    assert len(script.ran()) == 3
    assert script.tasks("flaky") == [
        ["Running", "Retrying", "Retrying", "Failed", "Running", "Retrying", "Retrying", "Completed"]
    ]
    assert len(script.flows()) == 1


UNSERIALIZABLE = """
@task(retries=3)
DEF load():
    ran("load")
    return RESULT

@flow
DEF job():
    return len(AWAIT load())

print(RUN(job()))
"""


@pytest.mark.parametrize("options", ["cache_policy=NONE", "persist_result=False", "cache_policy=DEFAULT + TASK_SOURCE"])
def test_a_completed_task_that_is_executed_again_has_all_its_retries(script, options):
    """Those that its result once took are spent for that result, also if the new execution is cut off in between."""
    text = """
    from durable.cache_policies import DEFAULT, NONE, TASK_SOURCE

    tries = []

    @task(OPTIONS, retries=2)
    def flaky():
        VERSION
        tries.append(1)
        ran(len(tries))
        if asked("third") and len(tries) == 2:
            die("third")
        if len(tries) < (2 if asked("second") else 3):
            raise ValueError(len(tries))
        return 1

    @flow
    def job():
        flaky()
        die("first")
        die("second")

    job()
    """.replace("OPTIONS", options)
    script.write(text.replace("VERSION", "1"))
    script.killed("first")
    assert script.ran() == ["1", "2", "3"]
    script.write(text.replace("VERSION", "2"))
    script.killed("third")
    assert script.ran() == ["1", "2"]
    script.killed("second")
    assert script.ran() == ["1", "2"]  # one retry was spent before it was killed, and this is the other
    assert script.tasks("flaky") == [
        ["Running", "Retrying", "Retrying", "Completed", "Running", "Retrying", "Crashed", "Running", "Retrying"]
        + ["Completed"]
    ]


@pytest.mark.parametrize("colour", COLOURS)
def test_an_unserializable_result_says_where_and_is_not_retried(script, colour):
    text = in_colour(UNSERIALIZABLE, colour)
    script.write(text.replace("RESULT", "{'rows': [1, 2, {'conn': open('kit.py')}]}"))
    ended = script.run()
    assert ended.code == 1
    assert "NotSerializable" in ended.err
    assert "result['rows'][2]['conn']" in ended.err
    assert "load" in ended.err
    assert script.ran() == ["load"]
    assert script.tasks("load") == [["Running", "Failed"]]
    script.write(text.replace("RESULT", "{'rows': [1, 2]}"))
    assert script.ok() == "1"
    assert script.ran() == ["load"]
    assert script.tasks("load") == [["Running", "Failed", "Running", "Completed"]]


def test_an_unserializable_result_that_the_flow_caught_is_history_after_a_crash(script):
    script.write(
        """
        from durable import NotSerializable

        @task
        def load():
            ran("load")
            return lambda: 1

        @flow
        def job():
            try:
                load()
            except NotSerializable as error:
                die("end")
                return error.path, error.type_name

        print(job())
        """
    )
    script.killed("end")
    assert script.ok() == "('result', 'function')"
    assert script.ran() == ["load"]


NESTED = """
@task
def good():
    ran("good")
    return 1

@task
def bad():
    ran("bad")
    if len(open("ran.log").read().splitlines()) < int(os.environ.get("GOOD", "0")):
        raise ValueError("bad")
    return 2

@task
def between():
    die(f"between {open('ran.log').read().count('outer')}")
    return 3

@task(retries=1)
def outer():
    ran("outer")
    return between() + good() + bad()

@flow
def job():
    return outer()

print(job())
"""


def test_a_retried_task_keeps_what_completed_in_it_and_runs_the_failed_again(script):
    script.write(NESTED)
    assert script.ok(GOOD="4") == "6"
    assert script.ran() == ["outer", "good", "bad", "outer", "bad"]
    assert script.tasks("bad") == [["Running", "Failed", "Running", "Completed"]]
    assert script.tasks("good") == [["Running", "Completed"]]


def test_a_retry_that_was_killed_still_gives_what_failed_in_it_a_new_chance(script):
    """The retry began after the nested failure; a kill in between does not turn that failure into history."""
    script.write(
        NESTED.replace("return between() + good() + bad()", "return tail(good())").replace(
            "@task(retries=1)",
            """
def tail(first):
    if open("ran.log").read().count("outer") == 2:
        die("second attempt")
    return first + bad() + 3

@task(retries=1)""",
        )
    )
    ended = script.killed("second attempt", GOOD="4")
    assert "Retry 1/1" in ended.err
    assert script.ran() == ["outer", "good", "bad", "outer"]
    assert script.ok() == "6"
    assert script.ran() == ["outer", "bad"]


def test_a_retry_with_a_delay_that_was_killed_while_it_waited_runs_again_at_once(script):
    script.write(
        """
        from durable import clock

        class Killer(clock.Clock):
            def rest(self, seconds, *_):
                ran("sleep", seconds)
                die("sleep")

        @task(retries=3, retry_delay_seconds=[10, 20])
        def flaky():
            ran("flaky")
            raise ValueError("no")

        @flow
        def job():
            flaky()

        with clock.use_clock(Killer()):
            job()
        """
    )
    script.killed("sleep")
    assert script.ran() == ["flaky", "sleep 10.0"]
    assert script.tasks("flaky") == [["Running", "AwaitingRetry"]]
    assert script.run().code == 1
    # The budget and its delays go on where they stood; the last delay repeats.
    assert script.ran() == ["flaky", "sleep 20.0", "flaky", "sleep 20.0", "flaky"]
    assert script.tasks("flaky") == [
        ["Running", "AwaitingRetry", "Crashed", "Running"] + ["AwaitingRetry", "Retrying"] * 2 + ["Failed"]
    ]


def test_a_flow_called_in_a_retry_loop_continues_the_same_run(script):
    script.write(
        """
        @task
        def step(i):
            ran("step", i)
            if i == 2 and len(open("ran.log").read().splitlines()) < 5:
                raise ConnectionError("down")
            return i

        @flow
        def job():
            return [step(i) for i in range(4)]

        for attempt in range(5):
            try:
                print(job())
                break
            except ConnectionError:
                continue
        """
    )
    assert script.ok() == "[0, 1, 2, 3]"
    assert script.ran() == ["step 0", "step 1", "step 2", "step 2", "step 2", "step 3"]
    assert len(script.flows()) == 1


def test_the_exception_of_a_failed_flow_is_the_users_own_object(script):
    script.write(
        """
        class Own(Exception): pass
        error = Own("x")

        @task
        def fail():
            raise error

        @flow
        def job():
            fail()

        try:
            job()
        except Own as caught:
            import traceback
            files = [os.path.basename(f.filename) for f in traceback.extract_tb(caught.__traceback__)]
            print(caught is error, [f for f in files if f not in ("job.py", "drivers.py", "tasks.py", "flows.py")])
        """
    )
    assert script.ok() == "True []"
