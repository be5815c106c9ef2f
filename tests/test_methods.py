"""A method is a task: it is bound as an undecorated one is, and what it is bound to identifies its calls."""

import asyncio
import contextvars
import inspect
import threading
from functools import partial

from callables import Decorated, Methods, Others, multiply
from scripts import query

from durable import flow, task


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


def test_a_bound_task_has_the_signature_of_a_method():
    class Load:
        @task
        def one(self, n: int) -> str: ...

        @task
        @classmethod
        def other(cls, n: int) -> str: ...

    for bound in (Load().one, Load().one.with_options(retries=1), Load().other, Load.other):
        assert list(inspect.signature(bound).parameters) == ["n"], bound
    assert list(inspect.signature(Load.one).parameters) == ["self", "n"]


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
