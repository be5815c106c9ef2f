"""What a call waits for: futures and states anywhere in its arguments, and what becomes of it when one fails."""

import asyncio
import dataclasses
from collections import OrderedDict, defaultdict
from typing import Any, NamedTuple

import pytest
from operating import durable
from scripts import Script, histories, query
from submitting import run

from durable import State, SubmittedTaskFailed, UnfinishedRun, allow_failure, flow, quote, task
from durable.annotations import opaque
from durable.cache_policies import INPUTS
from durable.runners import ThreadPoolTaskRunner

pydantic = pytest.importorskip("pydantic")
pytestmark = pytest.mark.usefixtures("journal")


@dataclasses.dataclass
class Plain:
    one: Any
    two: Any = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    one: Any


class Named(NamedTuple):
    one: Any
    two: Any = 2


class Model(pydantic.BaseModel):
    one: Any
    two: Any = 2


@task
def give(x):
    return x


@task
def fail(text="boom"):
    raise ValueError(text)


@task
async def give_async(x):
    await asyncio.sleep(0)
    return x


@task
def show(value):
    return repr(value)


CONTAINERS = [
    (lambda x: x, 7),
    (lambda x: [1, x], [1, 7]),
    (lambda x: (x, (x, "a")), (7, (7, "a"))),
    (lambda x: {x}, {7}),
    (lambda x: frozenset({x, "a"}), frozenset({7, "a"})),
    (lambda x: {"k": x, "l": 1}, {"k": 7, "l": 1}),
    (lambda x: {x: 1}, {7: 1}),
    (lambda x: OrderedDict([("b", x), ("a", 1)]), OrderedDict([("b", 7), ("a", 1)])),
    (lambda x: defaultdict(list, a=x), defaultdict(list, a=7)),
    (lambda x: Plain(x), Plain(7)),
    (lambda x: Frozen([x]), Frozen([7])),
    (lambda x: Named(x), Named(7)),
    (lambda x: Model(one=x), Model(one=7)),
    (lambda x: {"deep": [Plain(Named({"er": Model(one=(x,))}))]}, {"deep": [Plain(Named({"er": Model(one=(7,))}))]}),
]


@pytest.mark.parametrize("call", ["submit", "direct"])
@pytest.mark.parametrize(("wrapped", "expected"), CONTAINERS, ids=[repr(value) for _, value in CONTAINERS])
def test_the_body_gets_the_value_in_place_of_the_future(wrapped, expected, call, journal):
    def job():
        argument = wrapped(give.submit(7))
        assert (show.submit(argument).result() if call == "submit" else show(argument)) == repr(expected)
        assert show(expected) == repr(expected)
        return repr(argument)

    assert "Future give-" in run(job)  # the caller's own object is left alone
    upstream, argument = query(journal, "SELECT upstream_task_run_id, argument FROM dependencies")[0]
    assert argument == "value"
    assert query(journal, "SELECT id FROM task_runs WHERE task = 'give'") == [(upstream,)]


def test_a_coroutine_waits_for_its_arguments_as_well():
    async def job():
        return await give_async([give.submit(1), give_async.submit(2)]), await give.submit(give_async.submit(3))

    assert run(job) == ([1, 2], 3)


def test_a_state_in_an_argument_is_its_value_and_a_dependency(journal):
    def job():
        state = give(5, return_state=True)
        assert isinstance(state, State)
        return show([state]), show(State(state.kind, data=6))

    assert run(job) == ("[5]", "6")
    assert len(query(journal, "SELECT * FROM dependencies")) == 1


def test_a_value_that_holds_states_itself_is_searched_and_opaque_is_not():
    @task(result_serializer="pickle")
    def nested():
        return [State(give(1, return_state=True).kind, data="inside")]

    def job():
        return show(nested.submit()), show(opaque(nested.submit()))

    searched, unsearched = run(job)
    assert searched == "['inside']"
    assert unsearched.startswith("[Completed(")


def test_what_is_quoted_is_handed_on_as_it_is_and_not_waited_for(journal):
    @task
    def look(value):
        return type(value[0]).__name__, value[0].done()

    def job():
        failed = fail.submit()
        assert failed.result(raise_on_failure=False)
        return look(quote([failed])), look.submit(quote([give.submit(1)])).result()[0]

    assert run(job) == (("Future", True), "Future")
    assert query(journal, "SELECT * FROM dependencies") == []


def test_containers_that_hold_no_future_are_handed_on_themselves():
    given = [{"a": [1, (2, 3)]}, Plain([1]), Model(one=[1])]
    got = []

    @task
    def keep(value, other):
        got.append(value)

    run(lambda: keep(given, give.submit(1)))
    assert got[0] is given


def test_shared_and_cyclic_arguments_cost_no_more_than_their_size():
    cycle: list[Any] = [1]
    cycle.append(cycle)
    tree: Any = object()
    for _ in range(60):
        tree = [tree, tree]

    @task
    def count(value, other):
        return other

    def job():
        return count(cycle, give.submit(1)), count(tree, give.submit(2))

    assert run(job) == (1, 2)


def test_an_upstream_that_fails_leaves_its_dependents_not_ready(journal):
    def job():
        failed = fail.submit("no network")
        middle = give.submit(x=failed)
        last = show.submit([middle])
        with pytest.raises(UnfinishedRun) as caught:
            last.result()
        assert middle.state.name == last.state.name == "NotReady"
        assert middle.state.is_pending()
        return str(caught.value), type(caught.value.__cause__), str(middle.result(raise_on_failure=False).__cause__)

    message, cause, first = run(job)
    assert message.startswith("task run 'show-")
    assert "its upstream 'give-" in message
    assert "(in value) ended NotReady" in message
    assert "its upstream 'fail-" in message
    assert "ValueError: no network" in message
    assert "the first to fail was another: its upstream 'fail-" in message
    assert cause is UnfinishedRun
    assert first == "no network"
    assert histories(journal, "give") == histories(journal, "show") == [["Pending", "NotReady"]]
    rows = query(journal, "SELECT t.task, d.argument FROM dependencies d JOIN task_runs t ON t.id = d.task_run_id")
    assert sorted(rows) == [("give", "x"), ("show", "value")]


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_direct_call_with_a_failed_upstream_raises_and_its_body_never_begins(journal, colour):
    def job():
        with pytest.raises(UnfinishedRun, match="ValueError: boom"):
            show(fail.submit())
        state = show(fail.submit("again"), return_state=True)
        return state.name

    async def job_async():
        with pytest.raises(UnfinishedRun, match="ValueError: boom"):
            await give_async(fail.submit())
        return (await give_async(fail.submit("again"), return_state=True)).name

    assert run(job if colour == "sync" else job_async) == "NotReady"


def test_allow_failure_gives_the_exception_to_the_body():
    def job():
        return [
            show(allow_failure(fail.submit())),
            show(allow_failure([fail.submit("a"), give.submit(1)])),
            show([allow_failure(fail(return_state=True))]),
        ]

    assert run(job) == ["ValueError('boom')", "[ValueError('a'), 1]", "[ValueError('boom')]"]


def test_a_failure_that_a_dependency_was_told_of_is_handled():
    def job():
        fail.submit()
        raise AssertionError

    def handled():
        show(allow_failure(fail.submit()))
        return "goes on"

    assert run(handled) == "goes on"
    with pytest.raises(AssertionError):
        run(job)


def test_wait_for_is_waited_for_recorded_and_no_part_of_the_identity(journal):
    seen = []

    @task
    def first():
        seen.append("first")

    @task
    async def second(x):
        seen.append("second")
        return x

    @task
    def third(x):
        seen.append("third")
        return x

    def job():
        one = first.submit()
        two = second.submit(1, wait_for=[one])
        return third(2, wait_for=two), third.submit(3, wait_for=[[one, two], allow_failure(fail.submit())]).result()

    assert run(job) == (2, 3)
    assert seen == ["first", "second", "third", "third"]
    rows = query(journal, "SELECT argument, count(*) FROM dependencies GROUP BY argument")
    assert rows == [("wait_for", 5)]


@pytest.mark.parametrize("wrong", [5, "text", [1], [None], {"a": 1}], ids=repr)
def test_wait_for_holds_futures_and_states_only(wrong):
    def job():
        give.submit(1, wait_for=wrong)

    with pytest.raises(Exception, match=r"give.*wait_for.*expected"):
        run(job)


def test_a_wait_for_that_failed_leaves_the_call_not_ready():
    def job():
        with pytest.raises(UnfinishedRun, match=r"\(in wait_for\) ended Failed"):
            give.submit(1, wait_for=[fail.submit()]).result()
        return "handled"

    assert run(job) == "handled"


def test_the_message_of_a_long_chain_of_failures_stays_short(journal):
    def job():
        future = fail.submit("no network")
        for _ in range(300):
            future = give.submit([future])
        with pytest.raises(UnfinishedRun, match="no network"):
            future.result()
        return "told"

    assert run(job) == "told"
    assert query(journal, "SELECT max(length(message)) FROM task_runs")[0][0] < 300


def test_a_call_waits_without_a_worker():
    def job():
        future = give.submit(0)
        for _ in range(1000):
            future = give.submit(future)
        return future

    assert run(job, task_runner=ThreadPoolTaskRunner(max_workers=1)) == 0


def test_a_chain_of_coroutines_waits_as_well():
    async def job():
        future = give_async.submit(0)
        for _ in range(300):
            future = give_async.submit(future)
        return await future

    assert run(job, task_runner=ThreadPoolTaskRunner(max_workers=1)) == 0


def test_a_flow_is_called_with_futures():
    @flow
    def inner(x, y):
        return x, y

    @flow
    async def inner_async(x):
        return x

    async def job():
        return await inner_async([give_async.submit(1)])

    def job_sync():
        with pytest.raises(UnfinishedRun, match=r"flow 'inner'.*\(in y\) ended Failed"):
            inner(1, fail.submit())
        return inner(give.submit(1), y=[give.submit(2)])

    assert run(job) == [1]
    assert run(job_sync) == (1, [2])


def test_what_a_flow_returns_holds_values():
    def job():
        return {"a": give.submit(1), "b": [give.submit(2), (give_async.submit(3),)]}

    async def job_async():
        return give.map([1, 2]), give_async.submit(3)

    assert run(job) == {"a": 1, "b": [2, (3,)]}
    assert run(job_async) == ([1, 2], 3)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda: give.map([1, 2]), "All states completed."),
        (lambda: [give(1, return_state=True)], "All states completed."),
        (lambda: [give.submit(1), 2], None),
        (lambda: give.submit(1), None),
        (lambda: {"a": give.submit(1)}, None),
    ],
)
def test_states_alone_decide_how_the_flow_ends(journal, returned, message):
    run(returned)
    assert query(journal, "SELECT state, message FROM flow_runs") == [("Completed", message)]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda: [fail.submit(), give.submit(1), give.submit(2)], "1/3 states failed. ValueError: boom"),
        (lambda: {"x": {"y": fail.submit()}}, "1/1 states failed. ValueError: boom"),
        (lambda: fail.submit(), "ValueError: boom"),
        (lambda: fail(return_state=True), "ValueError: boom"),
        (lambda: [fail(return_state=True)] * 2, "2/2 states failed. ValueError: boom"),
    ],
)
def test_a_failure_in_what_a_flow_returns_is_raised(journal, returned, message):
    with pytest.raises(ValueError, match="boom"):
        run(returned)
    assert query(journal, "SELECT state, message FROM flow_runs") == [("Failed", message)]


def test_quote_keeps_a_state_from_deciding():
    def job():
        return quote(fail(return_state=True)) and "fine"

    assert run(job) == "fine"


def test_a_task_that_returns_a_state_or_future_gives_its_value():
    @task
    def of_state():
        return give(5, return_state=True)

    @task
    def of_future():
        return give.submit(6)

    @task
    async def of_future_async():
        return give_async.submit(7)

    @task
    def of_failure():
        return fail(return_state=True)

    async def job():
        assert (await of_future_async.submit(), await of_future.submit()) == (7, 6)
        return of_state.submit().result(), of_state(), of_future()

    def failing():
        with pytest.raises(ValueError, match="boom"):
            of_failure()
        future = of_failure.submit()
        future.wait()
        assert future.state.is_failed()

    assert run(job) == (5, 5, 6)
    run(failing)


def test_a_task_that_returns_a_failed_state_is_retried():
    tries = []

    @task(retries=1)
    def at_second():
        tries.append(1)
        return fail(return_state=True) if len(tries) == 1 else "fine"

    assert run(lambda: at_second()) == "fine"
    assert len(tries) == 2


def test_a_memo_counts_by_the_values_of_its_futures(journal):
    @task(cache_policy=INPUTS)
    def memo(x):
        return x * 10

    def job():
        return memo(4), memo.submit(give.submit(4)).result(), memo.submit(give.submit(5)).result()

    assert run(job) == (40, 40, 50)
    assert sorted(histories(journal, "memo")) == [
        ["Pending", "Cached"],
        ["Running", "Completed"],
        ["Running", "Completed"],
    ]


def test_the_dependent_of_an_unhandled_failure_names_the_upstream_in_the_flows_error():
    def job():
        show.submit(fail.submit("lost"))

    with pytest.raises(SubmittedTaskFailed, match=r"show-...: UnfinishedRun.*upstream 'fail-.*ValueError: lost"):
        run(job)


def test_a_dependent_is_the_same_run_on_resume_and_another_for_another_value(tmp_path):
    script = Script(tmp_path)
    text = """
        @task
        def source():
            ran("source")
            return {value}

        @task
        def use(x):
            ran("use", x)
            return x

        @task
        def after(x):
            ran("after", x)
            die("after")
            return x

        @flow
        def job():
            return after.submit(use.submit(source.submit())).result()

        print(job())
    """
    script.write(text.format(value=1))
    script.killed("after")
    assert script.ran() == ["source", "use 1", "after 1"]
    assert script.ok() == "1"
    assert script.ran() == ["after 1"]

    script.killed("after", DURABLE_RESUME="never")
    script.ran()
    # The upstream is made to run again, and gives something else.
    script.write(
        text.format(value=2).replace(
            "@task\n        def source", "@task(version='2', tags=['new'])\n        def source"
        )
    )
    assert script.ok() == "2"
    assert script.ran() == ["source", "use 2", "after 2"]


def test_a_call_that_waited_in_vain_is_shown_with_what_it_waited_for(tmp_path):
    """The placeholder that stands for a future in its inputs reaches nobody, and is no argument to compare with."""
    script = Script(tmp_path)
    text = """
        @task
        def source():
            if {bad}:
                raise ValueError("no network")
            return 3

        @task
        def use(x, y=0):
            return x

        @flow
        def job():
            return use(source.submit())

        print(job())
    """
    script.write(text.format(bad=True))
    assert script.run().code == 1
    script.write(text.format(bad=False))
    assert script.ok() == "3"
    ids = dict(script.query("SELECT task, substr(id, 1, 7) FROM task_runs WHERE task = 'source'"))
    said = durable(script, "why", "runs.db", "-")
    assert f"use(x=<result of {ids['source']}>" in said.out
    assert "inputs changed" not in said.out
    script.write(text.format(bad=False))
    assert script.ok(DURABLE_RESUME="never") == "3"
    for words in (("why", "runs.db", "-"), ("inspect", "runs.db", "-"), ("inspect", "runs.db", "-", "--json")):
        assert "durable.upstream" not in durable(script, *words).out
    assert "durable.upstream" not in "".join(map(str, script.query("SELECT reason FROM task_runs")))
