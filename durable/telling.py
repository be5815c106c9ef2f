"""Calling a run's hooks and its retry condition.

What is called back sees the run it is told of: `get_run_logger`, `durable.runtime`, `durable.context` and log records
know it, as in Prefect 3, and its prints are logged if the run's are. What it calls in its turn is no part of the run,
nor of a transaction: a resume, which does not tell what is only replayed, would miss it among the body's own calls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from durable.blocks import active
from durable.callbacks import fire
from durable.output import printing
from durable.runs import Aside, Scope, current

if TYPE_CHECKING:
    from durable.transactions.block import Transaction


def ask(run: Scope, condition: Callable[..., Any], *args: Any) -> bool | Awaitable[bool]:
    """What a condition answers; one that raises answers False."""
    answer = tell(run, condition, *args)
    return answer if isawaitable(answer) else bool(answer)


def tell(run: Scope, callback: Callable[..., Any], *args: Any) -> Any:
    """Call a callback: its result, an awaitable of it, or None if it raised."""
    with _aside(run):
        result = fire(callback, *args)
    return _awaited(run, result) if isawaitable(result) else result


async def _awaited(run: Scope, awaitable: Awaitable[Any]) -> Any:
    with _aside(run):
        return await awaitable


def part_of(block: Transaction | None, scope: Scope | None) -> Transaction:
    """A run's own transaction, in `block` or, without one, in that of the task in whose body `scope` is."""
    from durable.transactions.block import Transaction, enclosing  # most programs have none

    return Transaction.around_run(block or enclosing(scope))


def seeing(run: Scope | None, steps: Iterator[Any]) -> Iterator[Any]:
    """The steps of a transaction's end: its hooks see the run around it, or `run` where there is none."""
    if run is None or current.get() is not None:
        yield from steps
        return
    current.set(Aside(run))
    try:
        yield from steps
    finally:
        current.set(None)


@contextmanager
def _aside(run: Scope) -> Iterator[None]:
    here, block = current.set(Aside(run)), active.set(None)
    if run.log_prints:
        printing.begin()
    try:
        yield
    finally:
        if run.log_prints:
            printing.end()
        active.reset(block)
        current.reset(here)
