"""Every kind of function is a task: what it is called, what identifies its calls, and that a resume finds them."""

import asyncio
import contextvars
import dataclasses
import functools
import inspect
import logging
import pickle
import threading
from functools import partial

import pytest
from scripts import Script, in_colour, query

from durable import Flow, Task, cache_policies, flow, task
from durable.errors import NotSerializable

COLOURS = pytest.mark.parametrize("colour", ["sync", "async"])


@pytest.fixture
def script(tmp_path):
    return Script(tmp_path)


# Killed and run again, by real processes

HELPERS = """
import dataclasses, functools

def make(k):
    @task
    DEF add(x):
        ran("add", k, x)
        return x + k
    return add

@task
DEF from_a_module(x):
    ran("module", x)
    return x

DEF power(base, exponent, *, plus=0):
    ran("power", base, exponent, plus)
    return base ** exponent + plus

@dataclasses.dataclass(frozen=True)
class Scale:
    by: int

    DEF __call__(self, x):
        ran("scale", self.by, x)
        return x * self.by

    DEF method(self, x, y=1):
        ran("method", self.by, x, y)
        return x * self.by + y

class Plain(Scale):
    __slots__ = ()
"""
KINDS = """
import functools
from functools import partial
from helpers import *

one, ten = make(1), make(10)
two, three, shifted = task(partial(power, 2)), task(partial(power, 3)), task(partial(power, 2, plus=100))
double, triple = task(Scale(2)), task(Scale(3))
method_2, method_3 = task(Scale(2).method), task(partial(Scale(3).method, y=5))
square, negative = task(lambda x: ran("square", x) or x * x), task(lambda x: ran("negative", x) or -x)

def loud(function):
    @functools.wraps(function)
    DEF wrapper(*args, **kwargs):
        return AWAIT function(*args, **kwargs)
    return wrapper

@task
@loud
DEF wrapped(x):
    ran("wrapped", x)
    return x

@task
DEF in_main(x):
    ran("main", x)
    die("main")
    return AWAIT one(x) + AWAIT one(x)

@flow
DEF job():
    first = [
        AWAIT one(1), AWAIT ten(1), AWAIT from_a_module(1),
        AWAIT two(5), AWAIT three(5), AWAIT shifted(5),
        AWAIT double(7), AWAIT triple(7),
        AWAIT method_2(7), AWAIT method_3(7),
        square(9), negative(9), AWAIT wrapped(1),
    ]
    die("half")
    second = [AWAIT in_main(3), AWAIT double(7), AWAIT one(1), square(9)]
    die("end")
    return [*first, *second]

if __name__ == "__main__":
    print(RUN(job()))
"""
FIRST = [2, 11, 1, 32, 243, 132, 14, 21, 15, 26, 81, -9, 1]


@COLOURS
def test_functions_of_every_kind_are_known_again_by_the_next_process(script, colour):
    script.write(in_colour(HELPERS, colour), "helpers.py")
    script.write(in_colour(KINDS, colour))
    script.killed("half")
    assert len(script.ran()) == len(FIRST)
    script.killed("main")
    assert script.ran() == ["main 3"]
    script.killed("end")
    assert script.ran() == ["main 3", "add 1 3", "add 1 3", "scale 2 7", "add 1 1", "square 9"]
    assert script.ok() == str([*FIRST, 8, 14, 2, 81])
    assert script.ran() == []


@COLOURS
def test_in_another_order_all_but_lambdas_and_closures_are_still_known(script, colour):
    text = in_colour(KINDS, colour)
    script.write(in_colour(HELPERS, colour), "helpers.py")
    script.write(text)
    script.killed("half")
    script.ran()
    for one, other in (("two(5)", "three(5)"), ("double(7)", "triple(7)"), ("method_2(7)", "method_3(7)")):
        text = text.replace(one, "?", 1).replace(other, one, 1).replace("?", other, 1)
    script.write(text)
    script.killed("half")
    assert script.ran() == []


# What identifies a call


@dataclasses.dataclass
class Point:
    x: int

    def __call__(self, n):
        return self.x * n

    def times(self, n):
        return self.x * n


@dataclasses.dataclass
class Slotted:
    __slots__ = ("x",)
    x: int

    def times(self, n):
        return self.x * n


@dataclasses.dataclass
class Falsy(Point):
    def __bool__(self):
        return False


@dataclasses.dataclass
class Empty(Point):
    def __len__(self):
        return 0


def multiply(x, n=1, *, plus=0):
    return x * n + plus


class Decorated(Point):
    @task
    def decorated(self, n):
        return self.x * n


@dataclasses.dataclass
class DecoratedFalsy(Falsy):
    @task
    def decorated(self, n):
        return self.x * n


@dataclasses.dataclass
class DecoratedEmpty(Empty, DecoratedFalsy):
    __slots__ = ()


PAIRS = {
    "partial": lambda x: task(partial(multiply, x)),
    "partial of a partial": lambda x: task(partial(partial(multiply, x), plus=0)),
    "partial with a keyword": lambda x: task(partial(multiply, plus=x)),
    "partial of a method": lambda x: task(partial(Point(x).times)),
    "method": lambda x: task(Point(x).times),
    "method of a slotted instance": lambda x: task(Slotted(x).times),
    "method of a falsy instance": lambda x: task(Falsy(x).times),
    "method of an empty instance": lambda x: task(Empty(x).times),
    "callable object": lambda x: task(Point(x)),
    "falsy callable object": lambda x: task(Falsy(x)),
    "partial of a callable object": lambda x: task(partial(Point(x))),
    "method of a builtin type": lambda x: task([1, x].index),
    "task method": lambda x: Decorated(x).decorated,
    "task method of a falsy instance": lambda x: DecoratedFalsy(x).decorated,
    "task method of an empty instance": lambda x: DecoratedEmpty(x).decorated,
}


@pytest.mark.parametrize("kind", PAIRS)
def test_what_a_function_was_given_already_identifies_its_calls(journal, kind):
    """Run again in another order, each call finds its own result, and nothing is executed."""
    order, fails = [PAIRS[kind](2), PAIRS[kind](3)], [True]
    assert order[0].definition.key == order[1].definition.key, "one task"
    argument = 3 if "builtin" in kind else 10

    @flow
    def job():
        found = []
        for function in order:
            try:
                found.append(function(argument))
            except ValueError:
                found.append(None)
        if fails[0]:
            raise RuntimeError(repr(found))
        return found

    with pytest.raises(RuntimeError) as caught:
        job()
    order.reverse()
    fails[0] = False
    again = job()
    assert repr(again[::-1]) == str(caught.value)
    assert again[0] != again[1]
    runs = query(journal, "SELECT count(*), max(occurrence), max(attempts) FROM task_runs")
    assert runs == [(2, 1, 2 if None in again else 1)]


def test_a_partial_and_a_plain_call_with_the_same_arguments_are_equal_calls(journal):
    @flow
    def job():
        task(multiply)(2, 5)
        task(partial(multiply, 2))(5)
        task(partial(multiply, 2, n=5))()

    job()
    assert query(journal, "SELECT max(occurrence), count(DISTINCT function), min(task) FROM task_runs") == [
        (3, 1, "multiply")
    ]


class Ordinary:
    def __init__(self, x):
        self.x = x

    def __call__(self, n):
        return self.x * n


def test_a_callable_object_without_a_canonical_form_counts_by_its_type_and_says_so(journal, caplog):
    one, other = task(Ordinary(2)), task(Ordinary(3))
    with caplog.at_level(logging.WARNING, "durable"):

        @flow
        def job():
            return [one(10), other(10)]

        assert job() == [20, 30]
    assert any("argument 'self' counts by its type only" in message for message in caplog.messages)
    assert query(journal, "SELECT occurrence FROM task_runs ORDER BY task_run_row") == [(1,), (2,)]


@pytest.mark.parametrize("kind", ["closure", "lambda"])
def test_a_memo_is_not_shared_by_functions_that_only_share_a_name(journal, kind):
    def make(k):
        def add(x):
            return x + k

        return task(cache_policy=cache_policies.INPUTS)(add)

    if kind == "closure":
        one, ten = make(1), make(10)
    else:
        memo = task(cache_policy=cache_policies.INPUTS)
        one = memo(lambda x: x + 1)
        ten = memo(lambda x: x + 10)
    assert [one(5), ten(5), one(5), ten(5)] == [6, 15, 6, 15]
    states = [state for (state,) in query(journal, "SELECT state FROM task_runs ORDER BY task_run_row")]
    assert states == ["Completed", "Completed", "Cached", "Cached"]
    again = make(1) if kind == "closure" else one
    assert again(5, return_state=True).name == "Cached"


def test_what_a_function_counts_itself_does_not_take_part_in_its_memo(journal):
    count, seen = 0, []

    @task(cache_policy=cache_policies.INPUTS)
    def step(n):
        nonlocal count
        count += 1
        seen.append(n)
        return n

    assert [step(1), step(1)] == [1, 1]
    assert (count, seen) == (1, [1])


# Methods


class Base:
    @task
    def load(self, n):
        return ["base", n]

    @task
    async def load_async(self, n):
        return ["base", n]


class Derived(Base):
    @task
    def load(self, n):
        return ["derived", *super().load(n)]

    @task
    async def load_async(self, n):
        return ["derived", *await super().load_async(n)]


def test_a_task_method_may_call_the_one_it_overrides(journal):
    @flow
    def job():
        return Derived().load(1)

    assert job() == ["derived", "base", 1]
    assert asyncio.run(Derived().load_async(2)) == ["derived", "base", 2]
    rows = query(journal, "SELECT function, parent_task_run_row IS NULL FROM task_runs ORDER BY task_run_row")
    here = __name__
    assert rows == [
        (f"{here}:{name}", alone)
        for name, alone in [("Derived.load", 1), ("Base.load", 0), ("Derived.load_async", 1), ("Base.load_async", 0)]
    ]


def test_an_inherited_method_and_an_attribute_that_is_a_task_work_as_undecorated(journal):
    class Child(Base):
        number = task(partial(multiply, 2))  # no method, as a partial is none

        def __init__(self):
            self.step = task(multiply)

    assert Child().load(1) == ["base", 1]
    assert Child().number(5) == 10
    assert Child().step(3, 4) == 12


def test_one_instance_in_many_threads_and_two_instances_interleaved(journal):
    shared, others, found = Decorated(2), (Decorated(3), Decorated(4)), {}

    @flow
    def job():
        def work(number):
            bound = [(instance, instance.decorated) for instance in (shared, *others)]
            found[number] = [method(number) for _, method in bound] + [method(number) for _, method in reversed(bound)]

        threads = [threading.Thread(target=contextvars.copy_context().run, args=(work, n)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    job()
    assert found == {n: [2 * n, 3 * n, 4 * n, 4 * n, 3 * n, 2 * n] for n in range(16)}
    assert query(journal, "SELECT count(*), max(occurrence) FROM task_runs WHERE state = 'Completed'") == [(96, 2)]


class Methods:
    """Both orders, so that the decorators' own binding is tested."""

    factor = 3

    @classmethod
    @task
    def outer(cls, n):
        return (cls.__name__, n)

    @task
    @classmethod
    def inner(cls, n):
        return (cls.__name__, n)

    @task
    @staticmethod
    def static(n):
        return n

    @staticmethod
    @task(retries=1)
    def outer_static(n):
        return n

    @property
    @task
    def size(self):
        return self.factor

    @classmethod
    @task
    async def outer_async(cls, n):
        return (cls.__name__, n)

    @task
    @classmethod
    async def inner_async(cls, n):
        return (cls.__name__, n)


class Others(Methods):
    pass


def test_class_methods_and_static_methods_in_both_orders(journal):
    for holder in (Methods, Methods(), Others, Others()):
        name = (holder if isinstance(holder, type) else type(holder)).__name__
        assert holder.outer(1) == holder.inner(n=1) == (name, 1)
        assert holder.static(2) == holder.outer_static(2) == 2
        assert asyncio.run(holder.outer_async(1)) == asyncio.run(holder.inner_async(1)) == (name, 1)
        assert holder.inner.with_options(name="other")(4) == (name, 4)
        assert holder.static.with_options(name="other")(4) == 4
    assert Methods().size == 3


def test_the_class_of_a_class_method_is_an_argument(journal):
    @flow
    def job():
        return [Methods.outer(1), Others.outer(1), Methods.inner(1), Others.inner(1)]

    job()
    assert query(journal, "SELECT max(occurrence) FROM task_runs") == [(1,)]


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

    line = f"({__file__}:{multiply.__code__.co_firstlineno})"
    for made in (decorate(multiply), decorate(partial(multiply, 1)), decorate(wrapper)):
        assert (made.name, made.__name__, made.definition.where) == ("multiply", "multiply", f"multiply {line}")
        assert made.definition.function == f"{__name__}:multiply"
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


# Where tasks are called


@COLOURS
def test_tasks_are_called_from_tasks_from_flows_and_alone(script, colour):
    script.write(
        in_colour(
            """
            @task
            DEF leaf(n):
                ran("leaf", n)
                return n

            @task
            DEF branch(n):
                return AWAIT leaf(n) + AWAIT leaf(n + 1)

            @flow
            DEF job():
                return AWAIT branch(1) + AWAIT leaf(1)

            if __name__ == "__main__":
                print(RUN(leaf(7)), RUN(branch(8)), RUN(job()))
            """,
            colour,
        )
    )
    assert script.ok() == "7 17 4"
    rows = script.query(
        "SELECT t.task, p.task, t.flow_run_row FROM task_runs AS t "
        "LEFT JOIN task_runs AS p ON p.task_run_row = t.parent_task_run_row ORDER BY t.task_run_row"
    )
    assert rows == [
        ("leaf", None, None),
        *[("branch", None, None), ("leaf", "branch", None), ("leaf", "branch", None)],
        *[("branch", None, 1), ("leaf", "branch", 1), ("leaf", "branch", 1), ("leaf", None, 1)],
    ]
