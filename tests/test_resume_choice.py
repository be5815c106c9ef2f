"""Which run a call of a flow is: a new one, an unfinished one, or a finished one's value."""

import asyncio
from datetime import timedelta

import pytest
from scripts import histories, query

import durable
from durable import FlowRunInProgress, NothingToResume, flow, task
from durable.spoken import spoken

HOUR = 3600


def flow_runs(journal, name="job"):
    return [
        state for (state,) in query(journal, "SELECT state FROM flow_runs WHERE flow = ? ORDER BY flow_run_row", name)
    ]


class Job:
    """A flow of two tasks; the second is interrupted while `broken`. `ran` is what was executed."""

    def __init__(self, **options):
        self.ran = []
        self.broken = True

        @task
        def first(n):
            self.ran.append(f"first {n}")
            return n + 1

        @task
        def second(n):
            self.ran.append(f"second {n}")
            if self.broken:
                raise KeyboardInterrupt
            return n * 10

        @flow(**options)
        def job(n=1):
            return second(first(n))

        self.flow = job

    def interrupted(self, *args, **changes):
        with pytest.raises(KeyboardInterrupt):
            self.flow.with_options(**changes)(*args)
        self.broken = False
        self.ran.clear()


def test_a_run_younger_than_resume_within_is_continued(journal, clock):
    job = Job()
    job.interrupted()
    clock.seconds += 12 * HOUR
    assert job.flow() == 20
    assert job.ran == ["second 2"]
    assert flow_runs(journal) == ["Completed"]


def test_an_older_run_is_named_and_not_continued(journal, clock, caplog, monkeypatch):
    job = Job()
    job.interrupted()
    clock.seconds += 12 * HOUR + 1
    assert job.flow() == 20
    assert job.ran == ["first 1", "second 2"]
    assert flow_runs(journal) == ["Crashed", "Completed"]
    (line,) = [record.getMessage() for record in caplog.records if "resume_within" in record.getMessage()]
    old = query(journal, "SELECT id FROM flow_runs ORDER BY flow_run_row")[0][0]
    assert f"DURABLE_RESUME={old[:7]}" in line
    assert "job" in line
    # What the line says to do works.
    monkeypatch.setenv("DURABLE_RESUME", old[:7])
    job.ran.clear()
    assert job.flow() == 20
    assert job.ran == ["second 2"]
    assert flow_runs(journal) == ["Completed", "Completed"]


def test_its_age_is_that_of_its_last_record_not_of_its_beginning(journal, clock):
    ran = []

    @task
    def slow(i):
        ran.append(i)
        clock.seconds += 10 * HOUR
        if i == 2 and len(ran) == 3:
            raise KeyboardInterrupt
        return i

    @flow
    def job():
        return [slow(i) for i in range(3)]

    with pytest.raises(KeyboardInterrupt):
        job()
    clock.seconds += 11 * HOUR
    assert job() == [0, 1, 2]
    assert ran == [0, 1, 2, 2]


@pytest.mark.parametrize("within", [0, timedelta(seconds=0), timedelta(minutes=1), 59.5])
def test_resume_within_may_be_short(journal, clock, within):
    job = Job()
    job.interrupted()
    clock.seconds += 61
    assert job.flow.with_options(resume_within=within)() == 20
    assert flow_runs(journal) == ["Crashed", "Completed"]


def test_resume_never_begins_anew(journal):
    job = Job()
    job.interrupted()
    assert job.flow.with_options(resume="never")() == 20
    assert job.ran == ["first 1", "second 2"]
    assert flow_runs(journal) == ["Crashed", "Completed"]


def test_resume_require_continues_or_refuses(journal):
    job = Job()
    required = job.flow.with_options(resume="require")
    with pytest.raises(NothingToResume, match="durable inspect"):
        required()
    assert job.ran == []
    job.interrupted()
    assert required() == 20
    assert job.ran == ["second 2"]
    with pytest.raises(NothingToResume):
        required()
    assert flow_runs(journal) == ["Completed"]


@pytest.mark.parametrize(("option", "runs"), [("auto", ["Crashed", "Completed"]), ("require", ["Completed"])])
def test_durable_resume_never_in_the_environment(journal, monkeypatch, option, runs):
    job = Job()
    job.interrupted()
    monkeypatch.setenv("DURABLE_RESUME", "never")
    assert job.flow.with_options(resume=option)() == 20
    assert flow_runs(journal) == runs


def test_durable_resume_auto_lifts_never(journal, monkeypatch):
    job = Job(resume="never")
    job.interrupted()
    monkeypatch.setenv("DURABLE_RESUME", "AUTO ")
    assert job.flow() == 20
    assert job.ran == ["second 2"]


@pytest.mark.parametrize(
    "asked", [lambda run: run[:12].upper(), lambda run: spoken(bytes.fromhex(run))], ids=["id", "name"]
)
def test_durable_resume_names_a_run_by_a_prefix_or_its_name_even_if_it_is_not_the_newest(journal, monkeypatch, asked):
    job = Job()
    job.interrupted(resume="never")
    job.broken = True
    job.interrupted(resume="never")
    old = query(journal, "SELECT id FROM flow_runs ORDER BY flow_run_row")[0][0]
    monkeypatch.setenv("DURABLE_RESUME", asked(old))
    assert job.flow() == 20
    assert flow_runs(journal) == ["Completed", "Crashed"]


@pytest.mark.parametrize("given", ["0123456789abcdef", "%", "_", "yes"])
def test_durable_resume_with_an_unknown_id_is_an_error_before_anything_runs(journal, monkeypatch, given):
    job = Job()
    job.interrupted()
    monkeypatch.setenv("DURABLE_RESUME", given)
    with pytest.raises(NothingToResume, match=f"DURABLE_RESUME={given}"):
        job.flow()
    assert job.ran == []


def test_durable_resume_of_a_completed_run_is_an_error(journal, monkeypatch):
    job = Job()
    job.broken = False
    job.flow()
    (run,) = query(journal, "SELECT id FROM flow_runs")[0]
    monkeypatch.setenv("DURABLE_RESUME", run)
    with pytest.raises(NothingToResume, match="completed"):
        job.flow()


def test_durable_resume_of_a_run_with_other_parameters_is_not_a_wrong_replay(journal, monkeypatch, caplog):
    job = Job()
    job.interrupted(5)
    (run,) = query(journal, "SELECT id FROM flow_runs")[0]
    monkeypatch.setenv("DURABLE_RESUME", run)
    assert job.flow(1) == 20
    assert "other parameters" in caplog.text
    assert job.ran == ["first 1", "second 2"]
    assert job.flow(5) == 60
    assert job.ran[2:] == ["second 6"]


def test_different_parameters_are_different_runs(journal):
    job = Job()
    job.interrupted(1)
    assert job.flow(2) == 30
    assert job.flow(n=1) == 20  # however it is spelled
    assert job.ran == ["first 2", "second 3", "second 2"]
    assert flow_runs(journal) == ["Completed", "Completed"]


def test_the_newest_unfinished_run_is_continued(journal):
    job = Job(resume="never")
    job.interrupted()
    job.broken = True
    job.interrupted()
    assert job.flow.with_options(resume="auto")() == 20
    assert flow_runs(journal) == ["Crashed", "Completed"]


def test_a_completed_key_gives_the_recorded_value_at_any_age(journal, clock):
    job = Job(idempotency_key="night 1")
    job.interrupted()
    clock.seconds += 1000 * 24 * HOUR
    assert job.flow() == 20
    assert job.ran == ["second 2"]
    clock.seconds += 1000 * 24 * HOUR
    assert job.flow() == 20
    assert job.ran == ["second 2"]
    assert job.flow.with_options(idempotency_key="night 2")() == 20
    assert job.ran == ["second 2", "first 1", "second 2"]
    assert flow_runs(journal) == ["Completed", "Completed"]


def test_a_key_that_failed_gets_a_new_chance_in_the_same_run(journal):
    ran = []

    @task
    def flaky():
        ran.append(1)
        if len(ran) < 3:
            raise ValueError("no")
        return len(ran)

    @flow(idempotency_key="k")
    def job():
        return flaky()

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            job()
    assert job() == 3
    assert job() == 3
    assert flow_runs(journal) == ["Completed"]


def test_a_keyed_flow_that_cannot_keep_its_value_says_so(journal):
    @flow(idempotency_key="k")
    def job():
        return lambda: 1

    with pytest.raises(durable.NotSerializable, match="result"):
        job()
    assert flow_runs(journal) == ["Failed"]


def test_a_flow_with_a_value_nobody_will_ask_for_completes_anyway(journal, caplog):
    @flow
    def job():
        return lambda: 1

    assert job()() == 1
    assert flow_runs(journal) == ["Completed"]
    assert "not recorded" in caplog.text


def test_a_flow_that_calls_itself_by_its_key_is_refused_not_deadlocked(journal):
    @flow(idempotency_key="k")
    def job(n=1):
        return job(n)

    with pytest.raises(FlowRunInProgress):
        job()


def test_recursion_without_a_key_makes_subflows(journal):
    @flow
    def count(n):
        return [n, *(count(n - 1) if n else [])]

    assert count(3) == [3, 2, 1, 0]
    assert flow_runs(journal, "count") == ["Completed"] * 4
    assert query(journal, "SELECT count(*) FROM flow_runs WHERE parent_flow_run_id IS NULL") == [(1,)]


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_return_state_of_a_flow(journal, colour):
    def body(n):
        if n:
            raise ValueError("boom")
        return "value"

    if colour == "sync":
        call = flow(body)
    else:

        async def coroutine(n):
            return body(n)

        made = flow(name="body")(coroutine)
        call = lambda *args, **kwargs: asyncio.run(made(*args, **kwargs))
    good, bad = call(0, return_state=True), call(1, return_state=True)
    assert (good.name, good.result()) == ("Completed", "value")
    assert bad.is_failed()
    assert "boom" in bad.message
    with pytest.raises(ValueError, match="boom"):
        bad.result()
    assert flow_runs(journal, "body") == ["Completed", "Failed"]


SUBFLOWS = """
@task
def step(where, i):
    ran(where, i)
    die(f"{where} {i}")
    return i

@flow
def inner(where):
    if where == "odd" and not os.environ.get("FIXED"):
        step(where, 0)
        ran("raise")
        raise ValueError("odd")
    return sum(step(where, i) for i in range(3))

@flow
def job():
    found = [inner("a"), inner("a")]
    try:
        found.append(inner("odd"))
    except ValueError:
        found.append("caught")
    found.append(inner("b"))
    if asked("fail"):
        raise RuntimeError("the parent fails")
    return found

print(job())
"""


def test_of_subflows_the_completed_are_replayed_the_unfinished_continued_the_failed_history(script):
    script.write(SUBFLOWS)
    script.killed("b 1")
    assert script.ran() == [*["a 0", "a 1", "a 2"] * 2, "odd 0", "raise", "b 0", "b 1"]
    assert script.ok(FIXED="1") == "[3, 3, 'caught', 3]"
    assert script.ran() == ["b 1", "b 2"]
    assert script.flows("inner") == [
        ["Running", "Completed"],
        ["Running", "Completed"],
        ["Running", "Failed"],
        ["Running", "Crashed", "Running", "Completed"],
    ]
    assert script.flows() == [["Running", "Crashed", "Running", "Completed"]]


def test_when_the_parent_failed_a_failed_subflow_gets_a_new_chance(script):
    script.write(SUBFLOWS)
    assert script.run(DIE="fail").code == 1
    script.ran()
    assert script.ok(FIXED="1") == "[3, 3, 3, 3]"
    assert script.ran() == ["odd 1", "odd 2"]
    assert script.flows("inner")[2] == ["Running", "Failed", "Running", "Completed"]
    assert len(script.flows("inner")) == 4


def test_a_subflow_in_a_task_that_died_half_way_is_continued(script):
    script.write(
        """
        @task
        def step(i):
            ran("step", i)
            die(f"step {i}")
            return i

        @flow
        def inner():
            return [step(i) for i in range(3)]

        @task
        def outer():
            ran("outer")
            return inner()

        @flow
        def job():
            return outer()

        print(job())
        """
    )
    script.killed("step 1")
    script.ran()
    assert script.ok() == "[0, 1, 2]"
    assert script.ran() == ["outer", "step 1", "step 2"]
    assert script.flows("inner") == [["Running", "Crashed", "Running", "Completed"]]


def test_a_subflow_of_an_async_flow_may_be_either_colour(script):
    script.write(
        """
        @task
        def step(i):
            ran("step", i)
            return i

        @flow
        def plain():
            return step(1)

        @flow
        async def coroutine():
            return step(2)

        @flow
        async def job():
            found = plain(), await coroutine(), await asyncio.gather(coroutine(), coroutine())
            die("end")
            return found

        print(asyncio.run(job()))
        """
    )
    script.killed("end")
    assert len(script.ran()) == 4
    assert script.ok() == "(1, 2, [2, 2])"
    assert script.ran() == []


def test_a_subflow_called_again_by_the_same_failed_parent_keeps_the_completed_ones(journal):
    ran = []

    @flow
    def inner(n):
        ran.append(n)
        if n == 2 and len(ran) < 5:
            raise ValueError("no")
        return n

    @flow
    def outer():
        return [inner(n) for n in range(4)]

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            outer()
    assert outer() == [0, 1, 2, 3]
    assert ran == [0, 1, 2, 2, 2, 3]
    assert histories(journal, "x") == []
