"""States that bodies return: a run ends in them, sync or async, task or flow, first run or resumed."""

import asyncio
import inspect

import pytest
from scripts import histories, in_colour, query

from durable import CancelledRun, StateType, TaskFailed, UnfinishedRun, flow, quote, task
from durable.states import (
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Completed,
    Crashed,
    Failed,
    Pending,
    Retrying,
    Running,
    Scheduled,
    State,
    get_state_exception,
    is_state,
    raise_state_exception,
)

FINAL = {"Completed": Completed, "Failed": Failed, "Cancelled": Cancelled, "Crashed": Crashed}
UNFINISHED = [Pending, Running, Retrying, AwaitingRetry, Scheduled, Cancelling]


# States made by hand


@pytest.mark.parametrize(
    ("state", "shown", "represented"),
    [
        (Completed(), "Completed()", "Completed(message='', type=COMPLETED)"),
        (Failed(message="msg"), "Failed('msg')", "Failed(message='msg', type=FAILED)"),
        (Completed(name="Cached"), "Cached(type=COMPLETED)", "Cached(message='', type=COMPLETED)"),
        (
            Completed(name="Skipped", message="no news"),
            "Skipped('no news', type=COMPLETED)",
            "Skipped(message='no news', type=COMPLETED)",
        ),
        (Retrying(), "Retrying(type=RUNNING)", "Retrying(message='', type=RUNNING)"),
        (AwaitingRetry(), "AwaitingRetry(type=SCHEDULED)", "AwaitingRetry(message='', type=SCHEDULED)"),
        (Scheduled(), "Scheduled()", "Scheduled(message='', type=SCHEDULED)"),
        (Cancelling(), "Cancelling()", "Cancelling(message='', type=CANCELLING)"),
    ],
)
def test_a_state_made_by_hand_is_shown_as_prefect_shows_it(state, shown, represented):
    assert (str(state), repr(state)) == (shown, represented)
    assert (state.run_id, state.timestamp) == (None, None)


@pytest.mark.parametrize("make", [*FINAL.values(), *UNFINISHED], ids=lambda make: make.__name__)
def test_a_constructor_is_called_by_its_states_name_and_type(make):
    types = {"Retrying": StateType.RUNNING, "AwaitingRetry": StateType.SCHEDULED}
    state = make()
    assert state.name == make.__name__
    assert state.type is types.get(state.name, getattr(StateType, make.__name__.upper(), None))
    assert is_state(state) and not is_state("Completed()")
    with pytest.raises(TypeError):
        make("a message, by position")


def test_a_name_of_ones_own_changes_what_is_shown_and_nothing_else():
    state = Failed(name="TooLate", message="closed at five")
    assert (state.name, state.type, state.is_failed()) == ("TooLate", StateType.FAILED, True)
    assert Failed(name="TimedOut") == State(Failed(name="TimedOut").kind) != Failed()


def no_value(make):
    """What a state that `make` made raises if it has no exception of its own."""
    return CancelledRun if make is Cancelled else TaskFailed


def test_the_result_of_a_state_made_by_hand():
    error = ValueError("boom")
    assert Completed(data=[1]).result() == [1]
    assert Completed().result() is None
    for make in (Failed, Crashed, Cancelled):
        with pytest.raises(ValueError, match="boom") as caught:
            make(data=error).result()
        assert caught.value is error
        assert make(data=error).result(raise_on_failure=False) is error
        with pytest.raises(no_value(make), match=": the text$"):
            make(data="the text", message="not this").result()
        with pytest.raises(no_value(make), match=": the message$"):
            make(message="the message").result()
        with pytest.raises(ValueError, match="boom"):
            make(data=Failed(data=error)).result()
        with pytest.raises(ValueError, match="boom"):
            make(data=[Completed(data=1), Failed(data=error), Failed(message="later")]).result()


@pytest.mark.parametrize("make", UNFINISHED, ids=lambda make: make.__name__)
def test_a_state_that_is_not_final_has_no_result(make):
    with pytest.raises(UnfinishedRun, match=f"the run has no result: soon \\(it is {make.__name__}\\)"):
        make(message="soon").result()
    assert isinstance(make().result(raise_on_failure=False), UnfinishedRun)
    with pytest.raises(UnfinishedRun, match="it has not ended"):
        raise_state_exception(make())


def test_the_exception_of_a_state():
    error = KeyError("k")
    assert get_state_exception(Failed(data=error)) is error
    assert str(get_state_exception(Cancelled(message="stop"))) == "the run has no result: stop"
    with pytest.raises(ValueError, match=r"expected a state that did not complete, found Completed\(\)"):
        get_state_exception(Completed())
    raise_state_exception(Completed(data=error))
    with pytest.raises(KeyError):
        raise_state_exception(Failed(data=error))


# Bodies that return them


COLOURS = ["sync", "async"]


class Colour:
    """Makes and runs tasks and flows of one colour out of plain functions."""

    def __init__(self, name):
        self.is_async = name == "async"

    def body(self, fn):
        """`fn`, or a coroutine function that awaits what it gives."""
        if not self.is_async:
            return fn

        async def body():
            value = fn()
            return await value if inspect.isawaitable(value) else value

        body.__name__ = body.__qualname__ = fn.__name__
        return body

    def task(self, fn, **options):
        return task(self.body(fn), **options) if not options else task(**options)(self.body(fn))

    def flow(self, fn, **options):
        return flow(**options)(self.body(fn))

    def run(self, called, **options):
        value = called(**options)
        return asyncio.run(value) if inspect.isawaitable(value) else value


@pytest.fixture(params=COLOURS)
def colour(request, journal):
    return Colour(request.param)


def states_of(journal, kind):
    """Every recorded (state, message) of the one flow run or task run, in order."""
    return query(journal, "SELECT state, message FROM states WHERE run_kind = ? ORDER BY seq", kind)


def last(journal, kind):
    sql = f"SELECT state, message FROM {kind.replace(' ', '_')}s ORDER BY {kind.replace(' ', '_')}_row DESC LIMIT 1"
    return query(journal, sql)[0]


CASES = {
    "completed": (lambda: Completed(data=1), 1, ("Completed", None)),
    "completed with a message": (lambda: Completed(data=[1], message="all well"), [1], ("Completed", "all well")),
    "completed without data": (lambda: Completed(), None, ("Completed", None)),
    "completed by a name": (lambda: Completed(name="Skipped", message="old"), None, ("Completed", "Skipped: old")),
    "completed by a bare name": (lambda: Completed(data=2, name="Skipped"), 2, ("Completed", "Skipped")),
    "failed": (lambda: Failed(message="no disk"), TaskFailed, ("Failed", "no disk")),
    "failed with an exception": (lambda: Failed(data=KeyError("k")), KeyError, ("Failed", "KeyError: 'k'")),
    "failed with both": (lambda: Failed(data=KeyError("k"), message="no key"), KeyError, ("Failed", "no key")),
    "failed with a text": (lambda: Failed(data="no disk"), TaskFailed, ("Failed", "TaskFailed: Failed: no disk")),
    "failed by a name": (lambda: Failed(name="Late", message="x"), TaskFailed, ("Failed", "Late: x")),
    "timed out": (lambda: Failed(name="TimedOut", message="x"), TaskFailed, ("TimedOut", "x")),
    "failed with a timeout": (lambda: Failed(data=TimeoutError("x")), TimeoutError, ("Failed", "TimeoutError: x")),
    "cancelled": (lambda: Cancelled(message="enough"), CancelledRun, ("Cancelled", "enough")),
    "crashed": (lambda: Crashed(message="gone"), TaskFailed, ("Crashed", "gone")),
    "pending": (
        lambda: Pending(message="soon"),
        UnfinishedRun,
        ("Failed", "UnfinishedRun: the run has no result: soon (it is Pending)"),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["task run", "flow run"])
def test_a_run_ends_in_the_state_its_body_returned(colour, journal, kind, case):
    make, given, recorded = CASES[case]
    body = (colour.task if kind == "task run" else colour.flow)(make)
    if isinstance(given, type):
        with pytest.raises(given):
            colour.run(body)
    else:
        assert colour.run(body) == given
    name, message = last(journal, kind)
    assert (name, message or None) == recorded


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["task run", "flow run"])
def test_return_state_gives_the_recorded_state(colour, journal, kind, case):
    make, given, (name, message) = CASES[case]
    body = (colour.task if kind == "task run" else colour.flow)(make)
    state = colour.run(body, return_state=True)
    assert (state.name, state.message or None) == (name, message)
    assert state.run_id is not None and state.timestamp is not None
    if isinstance(given, type):
        assert type(state.result(raise_on_failure=False)) is given
    else:
        assert state.result() == given


def test_a_failed_state_is_retried_like_an_exception(colour, journal, clock):
    answers = iter([Failed(message="one"), Failed(data=ValueError("two")), Completed(data="three")])
    asked = []

    def condition(task, task_run, state):
        asked.append(str(state))
        return True

    def step():
        return next(answers)

    body = colour.task(step, retries=5, retry_delay_seconds=[1, 0], retry_condition_fn=condition)
    assert colour.run(body) == "three"
    assert asked == ["Failed('one')", "Failed('ValueError: two')"]
    assert clock.slept == [1]
    rows = states_of(journal, "task run")
    assert [(name, message or "") for name, message in rows] == [
        ("Running", ""),
        ("AwaitingRetry", "one"),
        ("Retrying", ""),
        ("Retrying", "ValueError: two"),
        ("Completed", ""),
    ]


def test_a_failed_state_of_a_flow_is_retried(colour, journal):
    answers = iter([Failed(message="one"), [Failed(message="two")], Completed(data=3, message="well")])

    def job():
        return next(answers)

    assert colour.run(colour.flow(job, retries=2)) == 3
    assert [message for name, message in states_of(journal, "flow run") if message] == [
        "one",
        "1/1 states failed. TaskFailed: Failed: two",
        "well",
    ]


@pytest.mark.parametrize("kind", ["task run", "flow run"])
def test_an_attempt_is_not_judged_by_what_the_one_before_returned(colour, journal, kind):
    answers = iter([Failed(name="TimedOut", message="returned"), ValueError("raised")])

    def body():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(ValueError):
        colour.run((colour.task if kind == "task run" else colour.flow)(body, retries=1))
    assert last(journal, kind) == ("Failed", "ValueError: raised")


@pytest.mark.parametrize("make", [Cancelled, Crashed], ids=["cancelled", "crashed"])
def test_what_was_cancelled_or_cut_off_is_not_retried(colour, journal, make):
    for decorate in (colour.task, colour.flow):
        ran = []

        def step(ran=ran):
            ran.append(1)
            return make(message="stop")

        with pytest.raises(no_value(make), match=": stop"):
            colour.run(decorate(step, retries=3))
        assert ran == [1]


def test_hooks_are_told_the_state_that_was_returned(colour, journal):
    told = []

    def hook(_, run, state):
        told.append((state.name, state.message))

    hooks = {"on_completion": [hook], "on_failure": [hook], "on_cancellation": [hook], "on_crashed": [hook]}
    for make in (Completed, Failed, Cancelled, Crashed):
        colour.run(colour.flow(lambda make=make: make(message="so"), name="job", **hooks), return_state=True)
    assert told == [("Completed", "so"), ("Failed", "so"), ("Cancelled", "so"), ("Crashed", "so")]


# Flows that return several


def test_collections_of_states_decide_as_in_prefect(colour, journal):
    boom = ValueError("boom")
    cases = [
        (lambda: [Completed(data=1), Completed(data=2)], [1, 2], ("Completed", "All states completed.")),
        (lambda: (Completed(data=1),), (1,), ("Completed", "All states completed.")),
        (lambda: {"a": Completed(data=1)}, {"a": 1}, ("Completed", "")),
        (lambda: [Completed(data=1), 2], [1, 2], ("Completed", "")),
        (lambda: [], [], ("Completed", "")),  # noqa: PIE807 - a flow is a function, no class
        (
            lambda: [Completed(), Failed(data=boom), Failed()],
            ValueError,
            ("Failed", "2/3 states failed. ValueError: boom"),
        ),
        (
            lambda: [Failed(data=boom), Cancelled()],
            ValueError,
            ("Cancelled", "1/2 states cancelled. ValueError: boom"),
        ),
        (
            lambda: [Completed(), Running()],
            UnfinishedRun,
            (
                "Failed",
                "1/2 states are not final. UnfinishedRun: the run has no result: it has not ended (it is Running)",
            ),
        ),
        (lambda: [Failed(data=boom), Running()], ValueError, ("Failed", "2/2 states failed. ValueError: boom")),
        (lambda: {"a": Failed(data=boom)}, ValueError, ("Failed", "1/1 states failed. ValueError: boom")),
    ]
    for number, (body, given, recorded) in enumerate(cases):
        job = colour.flow(body, name=f"job-{number}")
        if isinstance(given, type):
            with pytest.raises(given):
                colour.run(job)
        else:
            assert colour.run(job) == given
        name, message = last(journal, "flow run")
        assert (name, message or "") == recorded, number


def test_a_quoted_state_is_a_value_and_decides_nothing(colour, journal):
    state = colour.run(colour.flow(lambda: quote(Failed(message="kept")), name="job"))
    assert isinstance(state, State) and str(state) == "Failed('kept')"
    assert last(journal, "flow run")[0] == "Completed"


def test_a_state_that_is_no_return_value_decides_nothing(colour, journal):
    step = colour.task(lambda: Failed(message="no"), name="step")

    def job():
        return step(return_state=True)

    with pytest.raises(TaskFailed, match="Failed: no"):
        colour.run(colour.flow(job))

    if colour.is_async:

        @flow
        async def ignoring():
            state = await step(return_state=True)
            return state.name

    else:

        @flow
        def ignoring():
            return step(return_state=True).name

    assert colour.run(ignoring) == "Failed"


# Subflows, submitted tasks and generators


def test_a_subflow_ends_in_the_state_it_returned(journal):
    @flow
    def child(how):
        return FINAL[how](message=f"the {how}")

    @flow
    def parent():
        return {how: str(child(how, return_state=True)) for how in FINAL}

    assert parent() == {how: f"{how}('the {how}')" for how in FINAL}

    @flow
    def raising():
        child("Failed")

    with pytest.raises(TaskFailed, match="Failed: the Failed"):
        raising()


def test_a_submitted_task_ends_in_the_state_it_returned(journal):
    @task
    def step(how):
        return FINAL[how](message=f"the {how}")

    @flow
    def job():
        futures = [step.submit(how) for how in FINAL]
        seen = []
        for future in futures:
            future.wait()
            seen.append((str(future.state), future.cancelled()))
        return seen

    assert job() == [(f"{how}('the {how}')", how == "Cancelled") for how in FINAL]


# Resumes


RESUMED = """
from durable.states import Completed, Failed, Cancelled, Crashed

KINDS = {"Completed": Completed, "Failed": Failed, "Cancelled": Cancelled, "Crashed": Crashed}

@task
DEF step(how):
    ran(how)
    return KINDS[how](message="the " + how)

@flow
DEF child(how):
    ran("child", how)
    return KINDS[how](message="the child's " + how)

@flow
DEF job():
    seen = []
    for how in KINDS:
        for call in (step, child):
            state = AWAIT call(how, return_state=True)
            seen.append(str(state))
    ran("end")
    die("end")
    return seen

for line in RUN(job()):
    print(line)
"""


@pytest.mark.parametrize("colour", COLOURS)
def test_a_crash_resumes_what_was_returned(script, colour):
    """Completed and Failed are history; what was called off or cut off is run again, as after a crash of its own."""
    script.write(in_colour(RESUMED, colour))
    script.killed("end")
    first = script.ran()
    assert script.ok().splitlines() == [
        text for how in FINAL for text in (f"{how}('the {how}')", f'{how}("the child\'s {how}")')
    ]
    assert first[-1] == "end" and len(first) == 9
    assert script.ran() == ["Cancelled", "child Cancelled", "Crashed", "child Crashed", "end"]
    assert script.tasks("step") == [
        ["Running", "Completed"],
        ["Running", "Failed"],
        ["Running", "Cancelled", "Running", "Cancelled"],
        ["Running", "Crashed", "Running", "Crashed"],
    ]


def test_a_returned_failure_gets_a_new_chance_when_the_flow_failed(journal):
    answers = iter([Failed(message="not yet"), Completed(data=5)])
    ran = []

    @task
    def before():
        ran.append("before")
        return Completed(data=1, message="kept")

    @task
    def step():
        ran.append("step")
        return next(answers)

    @flow
    def job():
        return before() + step()

    with pytest.raises(TaskFailed, match="Failed: not yet"):
        job()
    assert job() == 6
    assert ran == ["before", "step", "step"]
    assert histories(journal, "step") == [["Running", "Failed", "Running", "Completed"]]


@pytest.mark.parametrize("make", [Failed, Crashed, Cancelled], ids=lambda make: make.__name__)
def test_a_flow_that_returned_its_end_is_continued_by_the_next_call_unless_it_was_called_off(colour, journal, make):
    answers = iter([make(message="not today"), Completed(data=1)])
    ran = []

    def work():
        ran.append("work")

    step = colour.task(work)

    if colour.is_async:

        @flow
        async def job():
            await step()
            return next(answers)

    else:

        @flow
        def job():
            step()
            return next(answers)

    with pytest.raises(no_value(make), match=": not today"):
        colour.run(job)
    assert colour.run(job) == 1
    anew = make is Cancelled
    assert ran == ["work"] * (1 + anew), "what completed is kept"
    assert query(journal, "SELECT count(*) FROM flow_runs") == [(1 + anew,)]
    names = [name for name, _ in states_of(journal, "flow run")]
    assert sorted(names) == sorted(["Running", make.__name__, "Running", "Completed"])


def test_a_completed_run_of_a_key_gives_its_value_and_message_again(journal):
    @flow(idempotency_key="k")
    def job():
        return Completed(data=(1, 2), message="well")

    assert job() == (1, 2)
    again = job(return_state=True)
    assert (str(again), again.result()) == ("Completed('well')", (1, 2))


def test_a_memo_of_a_returned_state_is_its_value(journal):
    from durable.cache_policies import INPUTS

    ran = []

    @task(cache_policy=INPUTS)
    def step(n):
        ran.append(n)
        return Completed(data=n, message="well") if n else Failed(message="no")

    assert (step(1), step(1)) == (1, 1)
    for _ in range(2):
        with pytest.raises(TaskFailed):
            step(0)
    assert ran == [1, 0, 0], "a failure is no memo"
