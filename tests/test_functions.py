"""Every kind of function is a task: what identifies its calls, and that a resume finds them."""

import dataclasses
import logging
from functools import partial

import pytest
from callables import Decorated, Point, multiply
from scripts import in_colour, query

from durable import cache_policies, flow, task

COLOURS = pytest.mark.parametrize("colour", ["sync", "async"])


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
