"""What cannot be a task or flow, and calls that do not fit, are refused before anything runs, with the place."""

import functools
from functools import partial

import pytest
from scripts import query

from durable import flow, task
from durable.errors import ConfigurationError, ParameterBindError


def multiply(x, n=1):
    return x * n


class Point:
    pass


ONCE = "a function is a task or a flow, once"


@pytest.mark.parametrize("decorate", [task, flow, task(retries=1), flow(name="x")])
def test_what_is_decorated_already_is_refused_with_its_place(decorate):
    class Callable:
        @task
        def method(self):
            pass

    place = rf"multiply \({__file__}:{multiply.__code__.co_firstlineno}\) has @(task|flow) already; {ONCE}"
    for kind in (task, flow):
        with pytest.raises(ConfigurationError, match=place):
            decorate(kind(multiply))
        with pytest.raises(ConfigurationError, match=place):
            decorate(partial(kind(multiply), 1))
    for made in (Callable.method, Callable().method, classmethod(task(multiply))):
        with pytest.raises(ConfigurationError, match=ONCE):
            decorate(made)
    with pytest.raises(ConfigurationError, match=r"give its options to \.with_options\(\)"):
        task(task(multiply))
    with pytest.raises(ConfigurationError, match="call one in the other"):
        task(flow(multiply))


@pytest.mark.parametrize("decorate", [task, flow, task(retries=1), flow(name="x")])
@pytest.mark.parametrize("made", [Point, int, partial(Point, 1), type("Meta", (type,), {})])
def test_a_class_is_refused(decorate, made):
    with pytest.raises(ConfigurationError, match="expected a function, found the class"):
        decorate(made)


@pytest.mark.parametrize("decorate", [task, flow])
def test_a_property_is_refused_with_the_order_that_works(decorate):
    for made in (property(multiply), functools.cached_property(multiply)):
        with pytest.raises(ConfigurationError, match="put @property above it"):
            decorate(made)


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("decorate", [task, flow])
def test_arguments_that_do_not_fit_are_refused_when_the_call_is_made(journal, decorate, colour):
    calls = []

    def plain(a, *, b):
        calls.append(a)

    async def waits(a, *, b):
        calls.append(a)

    fn = plain if colour == "sync" else waits
    made, place = decorate(fn), rf"{fn.__name__} \({__file__}:{fn.__code__.co_firstlineno}\)"
    bound = decorate(partial(fn, 1))
    for call in (made, lambda: made(1), lambda: made(1, 2, b=3), lambda: made(1, b=2, c=3), lambda: bound(1, b=2)):
        with pytest.raises(ParameterBindError, match=place):
            call()
    assert calls == []
    assert not journal.exists() or query(journal, "SELECT count(*) FROM task_runs") == [(0,)]
