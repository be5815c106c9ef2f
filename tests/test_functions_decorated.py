"""What decorating leaves of a function: its colour, its name and place, its attributes, and that it pickles by name."""

import asyncio
import functools
import inspect
import pickle
from functools import partial

import callables
import pytest
from callables import Decorated, Methods, Others, Point, multiply
from scripts import query

from durable import Flow, Task, flow, task
from durable.errors import NotSerializable

# Looks


async def coroutine(a, b=2):
    """Doc."""
    return a + b


class AsyncCallable:
    """Adds."""

    async def __call__(self, a, b=2):
        return a + b


ASYNC = {
    "coroutine function": coroutine,
    "partial": partial(coroutine),
    "partial with an argument": partial(coroutine, b=2),
    "callable object": AsyncCallable(),
    "partial of a callable object": partial(AsyncCallable(), b=2),
    "method": AsyncCallable().__call__,
    "lambda": None,
}


@pytest.mark.parametrize("kind", list(ASYNC)[:-1])
@pytest.mark.parametrize("decorate", [task, flow])
def test_coroutine_functions_of_every_kind_are_awaited_and_look_like_it(journal, decorate, kind):
    made = decorate(ASYNC[kind])
    assert asyncio.run(made(1)) == 3
    assert asyncio.iscoroutinefunction(made)
    if hasattr(inspect, "markcoroutinefunction"):
        assert inspect.iscoroutinefunction(made)
    assert not asyncio.iscoroutinefunction(decorate(multiply))


def count(start, stop):
    """Counts."""
    yield from range(start, stop)


class Counter:
    def __init__(self, start):
        self.start = start

    def __call__(self, stop):
        yield from range(self.start, stop)

    async def later(self, stop):
        for number in range(self.start, stop):
            yield number


def test_generators_of_every_kind_are_read_as_they_yield(journal):
    for made in (task(partial(count, 1)), task(Counter(1)), task(Counter(1).__call__), task(partial(Counter(1)))):
        assert list(made(4)) == [1, 2, 3]

    async def read(made):
        return [number async for number in made(4)]

    for made in (task(Counter(1).later), task(partial(Counter(1).later))):
        assert asyncio.run(read(made)) == [1, 2, 3]
        assert not asyncio.iscoroutinefunction(made), "it gives no coroutine"


def test_functions_of_every_kind_are_submitted(journal):
    tasks = [task(partial(multiply, 2)), task(Point(3)), task(Point(4).times), Decorated(5).decorated, task(len)]

    @flow
    def job():
        futures = [made.submit(10) for made in tasks[:-1]] + [tasks[-1].submit([1])]
        return [future.result() for future in futures] + [
            Methods.inner.submit(6).result(),
            *tasks[0].map([1, 2]).result(),
        ]

    assert job() == [20, 30, 40, 50, 1, ("Methods", 6), 2, 4]


class Job:
    def run(self, n: int) -> int:
        return n + 1

    def __call__(self, n: int) -> int:
        return n + 1


def test_a_flows_parameters_are_what_their_annotations_say_whatever_was_given_already(journal):
    def add(a: int, b: int = 0) -> int:
        return a + b

    for made in (
        flow(Job().run),
        flow(Job()),
        flow(partial(add, b=1)),
        flow(partial(add, 1)),
        flow(partial(Job().run)),
    ):
        assert made("5") == 6


def test_a_plain_function_that_gives_a_coroutine_is_told_so(journal):
    given = coroutine(1)
    with pytest.raises(NotSerializable, match=r"result: coroutine: .* await it .*lambda"):
        task(lambda: given)()
    given.close()


@pytest.mark.parametrize("decorate", [task, flow])
def test_names_descriptions_and_places_are_those_of_the_function(decorate):
    @functools.wraps(multiply)
    def wrapper(*args):
        return multiply(*args)

    line = f"({callables.__file__}:{multiply.__code__.co_firstlineno})"
    for made in (decorate(multiply), decorate(partial(multiply, 1)), decorate(wrapper)):
        assert (made.name, made.__name__, made.definition.where) == ("multiply", "multiply", f"multiply {line}")
        assert made.definition.function == "callables:multiply"
        assert made.description is None
    assert decorate(partial(coroutine, 1)).description == "Doc."
    made = decorate(AsyncCallable())
    assert (made.name, made.description, made.definition.function) == (
        "AsyncCallable",
        "Adds.",
        f"{__name__}:AsyncCallable",
    )
    assert made.definition.where == f"AsyncCallable ({__file__}:{AsyncCallable.__call__.__code__.co_firstlineno})"


@pytest.mark.parametrize("decorate", [task, flow])
def test_what_a_function_carries_cannot_disturb_what_decorates_it(journal, decorate):
    def step(n):
        return n

    step.fn = step.definition = step._options = step._bound = step.with_options = step.__call__ = "mine"
    step.note = "kept"
    made = decorate(step)
    assert made(1) == 1
    assert made.with_options(name="x")(2) == 2
    assert made.note == "kept"
    assert made.fn is step


def test_a_wrapper_around_a_task_is_a_task_of_its_own(journal):
    @task
    def inner(n):
        return n

    @task(name="outer")
    @functools.wraps(inner)
    def outer(n):
        return inner(n) + 1

    assert outer(1) == 2
    assert query(journal, "SELECT task FROM task_runs ORDER BY task_run_row") == [("outer",), ("inner",)]


def test_builtins_are_tasks(journal):
    assert task(len)([1, 2]) == 2
    assert task(max)(3, 5, key=None) == 5
    assert task("-".join)(["a", "b"]) == "a-b"
    assert task(str.upper)("a") == "A"
    rows = query(journal, "SELECT task, function FROM task_runs ORDER BY task_run_row")
    assert rows == [
        ("len", "builtins:len"),
        ("max", "builtins:max"),
        ("join", "builtins:str.join"),
        ("upper", "builtins:str.upper"),
    ]


# Pickling: by name, as functions are


@task
def by_name(n):
    return n


other_name = by_name.with_options(retries=2)
under_another = task(
    multiply,
)
of_a_partial = task(partial(multiply, 2))
of_a_method = task(Point(5).times)
a_flow = flow(multiply)


def test_a_task_is_pickled_by_name_and_a_copy_by_what_it_was_made_from(journal):
    def again(made):
        return pickle.loads(pickle.dumps(made))

    assert again(by_name) is by_name
    assert again(Methods.static) is Methods.static
    bound = again(Decorated(3).decorated)
    assert (bound._bound, bound.fn) == ((Decorated(3),), Decorated.decorated.fn)
    for holder in (Methods, Others):
        for name in ("outer", "inner"):
            assert again(getattr(holder, name))(1) == (holder.__name__, 1)
    copy = again(other_name)
    assert (copy.fn, copy.definition.options.retries.count) == (by_name.fn, 2)
    assert again(under_another).fn is multiply
    assert isinstance(again(a_flow), Flow)
    for made, result in ((of_a_partial, 10), (of_a_method, 25)):
        found = again(made)
        assert isinstance(found, Task)
        assert found(5) == made(5) == result


def test_a_hook_added_to_a_copy_is_pickled_with_it():
    made = by_name.with_options(name="hooked")
    made.on_failure(multiply)
    assert pickle.loads(pickle.dumps(made)).definition.options.hooks.on_failure == (multiply,)
