"""``.map``: what is mapped over and what is not, and what is refused before anything is submitted."""

import asyncio
import io

import pytest
from scripts import query
from submitting import run

from durable import MappingError, ParameterBindError, State, SubmittedTaskFailed, allow_failure, task, unmapped
from durable.futures import FutureList, future, several
from durable.runners import ThreadPoolTaskRunner

pytestmark = pytest.mark.usefixtures("journal")


@task
def pair(x, y=(1, 2)):
    return x, y


@task
async def pair_async(x, y=(1, 2)):
    await asyncio.sleep(0)
    return x, y


@task
def give(x):
    return x


@task
def fail(x=None):
    raise ValueError(x)


def submitted(journal):
    return query(journal, "SELECT count(*) FROM task_runs")[0][0] if journal.exists() else 0


def numbers():
    yield from (1, 2, 3)


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        (([1, 2],), {}, [(1, (1, 2)), (2, (1, 2))]),  # a default is not mapped
        ((), {"x": (1, 2), "y": [3, 4]}, [(1, 3), (2, 4)]),
        (([1, 2], unmapped([3, 4])), {}, [(1, [3, 4]), (2, [3, 4])]),
        (([1, 2], "ab"), {}, [(1, "ab"), (2, "ab")]),
        (([1, 2], b"ab"), {}, [(1, b"ab"), (2, b"ab")]),
        (([1, 2], 5), {}, [(1, 5), (2, 5)]),
        ((range(2), {"a": 1, "b": 2}), {}, [(0, "a"), (1, "b")]),
        ((numbers, lambda: iter("abc")), {}, [(1, "a"), (2, "b"), (3, "c")]),
        ((lambda: iter([1]),), {"y": unmapped(None)}, [(1, None)]),
        (([],), {}, []),
    ],
)
@pytest.mark.parametrize("mapped", [pair, pair_async], ids=["sync", "async"])
def test_iterables_are_mapped_over_in_step_and_the_rest_is_given_whole(mapped, args, kwargs, expected):
    args = [arg() if callable(arg) else arg for arg in args]  # an iterator is made for each case

    def job():
        futures = mapped.map(*args, **kwargs)
        assert isinstance(futures, FutureList)
        return futures.result()

    assert run(job) == expected


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (([1, 2], [1, 2, 3]), r"pair.*argument 1 has 2, argument 2 has 3\. Wrap constants in unmapped"),
        (([1, 2], allow_failure([1])), "argument 1 has 2, argument 2 has 1"),
        ((5, "text"), r"needs an iterable argument .* found int, str"),
        ((unmapped([1]), io.StringIO("a")), "needs an iterable argument"),
        ((), "found no argument"),
    ],
)
def test_what_cannot_be_mapped_is_refused_before_anything_is_submitted(journal, args, message):
    def job():
        with pytest.raises(MappingError, match=message):
            pair.map(*args)
        return "refused"

    assert run(job) == "refused"
    assert submitted(journal) == 0


def test_arguments_that_do_not_fit_are_refused_before_anything_is_submitted(journal):
    def job():
        with pytest.raises(ParameterBindError):
            pair.map([1, 2], z=[1, 2])

    run(job)
    assert submitted(journal) == 0


def test_a_generator_that_ends_too_soon_is_told_and_what_was_submitted_goes_on(journal):
    def job():
        with pytest.raises(MappingError, match=r"y ended after 2 items, which are submitted"):
            pair.map([1, 2, 3], y=(n for n in "ab"))

    run(job)
    assert query(journal, "SELECT state, count(*) FROM task_runs GROUP BY state") == [("Completed", 2)]


def test_an_error_in_a_generator_of_items_reaches_its_caller():
    def items():
        yield 1
        raise LookupError("no more")

    def job():
        with pytest.raises(LookupError, match="no more"):
            give.map(items())

    run(job)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_futures_and_lists_of_them_are_mapped_over(journal, colour):
    def job():
        values = give.submit([1, 2])
        return give.map(values).result(), give.map(give.map([3, 4])).result(), give.map([give.submit(5), 6]).result()

    async def job_async():
        values = give.submit([1, 2])
        return await give.map(values), await give.map(give.map([3, 4])), await give.map([give.submit(5), 6])

    assert run(job if colour == "sync" else job_async) == ([1, 2], [3, 4], [5, 6])
    # Also a future whose value was mapped over is a dependency of each.
    assert len(query(journal, "SELECT * FROM dependencies")) == 2 + 2 + 1


def test_a_future_that_is_not_mapped_over_is_resolved_for_each():
    def job():
        return pair.map([1, 2], unmapped(give.submit([3, 4]))).result()

    assert run(job) == [(1, [3, 4]), (2, [3, 4])]


def test_a_future_to_map_over_that_failed_raises_its_failure(journal):
    def job():
        with pytest.raises(ValueError, match="gone"):
            give.map(fail.submit("gone"))
        return "handled"

    assert run(job) == "handled"
    assert submitted(journal) == 1


def test_allow_failure_around_what_is_mapped_holds_for_each_item():
    def job():
        futures = [fail.submit("a"), give.submit(1)]
        return [str(value) for value in give.map(allow_failure(futures)).result()]

    assert run(job) == ["a", "1"]


def test_states_are_given_when_asked_for():
    def job():
        states = give.map([1, 2], return_state=True)
        assert all(isinstance(state, State) for state in states)
        return [state.result() for state in states]

    assert run(job) == [1, 2]


def test_wait_for_holds_for_every_call_also_one_given_as_an_iterator(journal):
    def job():
        first = [give.submit("first"), give.submit("second")]
        return give.map([1, 2, 3], wait_for=iter(first)).result()

    assert run(job) == [1, 2, 3]
    assert query(journal, "SELECT argument, count(*) FROM dependencies GROUP BY argument") == [("wait_for", 6)]


def test_equal_items_are_runs_of_their_own(journal):
    assert run(lambda: give.map([7, 7, 7]).result()) == [7, 7, 7]
    assert query(journal, "SELECT occurrence FROM task_runs ORDER BY occurrence") == [(1,), (2,), (3,)]


def test_methods_are_mapped_with_their_instance():
    class Scale:
        def __init__(self, by):
            self.by = by

        @task
        def times(self, x):
            return self.by * x

    assert run(lambda: Scale(3).times.map([1, 2]).result()) == [3, 6]


def test_a_failure_nobody_asks_about_fails_the_flow_and_counts_them(journal):
    def job():
        fail.map(range(3))

    with pytest.raises(SubmittedTaskFailed, match=r"3 submitted task runs failed .* the first: fail-...: ValueError"):
        run(job)
    assert query(journal, "SELECT state FROM flow_runs") == [("Failed",)]


@pytest.mark.parametrize("asked", ["at once", "once it has failed"])
def test_the_first_failure_in_order_is_raised_while_later_ones_still_run(gate, asked):
    """It is known once those before it have ended, and not only when all have."""

    @task
    def one_of_three(n):
        if n == 1:
            raise ValueError(n)
        return n if n == 0 else gate.stand()

    def job():
        futures = one_of_three.map(range(3))
        if asked == "once it has failed":
            futures[1].wait()
        with pytest.raises(ValueError, match="1"):
            futures.result()
        assert not futures[2].done()
        gate.open.set()
        return futures[2].result()

    assert run(job, task_runner=ThreadPoolTaskRunner(3)) == "stood"


def test_whoever_asks_for_many_results_is_woken_once_in_256(monkeypatch):
    """Each time it is woken, those who work wait for it."""
    waits, wait_for = [], several.wait_for
    for module in (several, future):
        monkeypatch.setattr(module, "wait_for", lambda *args: waits.append(args) or wait_for(*args))

    def job():
        return give.map(range(1500)).result()

    assert run(job, task_runner=ThreadPoolTaskRunner(8)) == list(range(1500))
    assert len(waits) <= 6
