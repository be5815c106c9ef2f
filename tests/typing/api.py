"""The public interface as a type checker sees it: this file is checked by mypy --strict, and never run.

An error that is expected is ignored by its code, and unused ignores are errors, so one that goes missing is noticed.
"""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

from typing_extensions import assert_type

import durable
from durable import Flow, State, StateType, Task, flow, task
from durable.cache_policies import DEFAULT, INPUTS, NONE, TASK_SOURCE
from durable.transactions import (
    CommitMode,
    IsolationLevel,
    Transaction,
    atransaction,
    get_transaction,
    transaction,
)

# With and without parentheses, a task keeps its function's signature.


@task
def bare(path: str, count: int = 1) -> list[str]:
    """A task."""
    return [path] * count


@task()
def empty_parentheses(path: str) -> int:
    """A task."""
    return len(path)


@task(
    name="Download",
    description="fetches a file",
    tags={"io"},
    retries=3,
    retry_delay_seconds=[1, 2.5],
    persist_result=True,
    on_interrupt="fail",
    cache_policy=DEFAULT + TASK_SOURCE - "path",
    result_serializer="pickle",
)
def every_option(path: str, *, force: bool = False) -> bytes:
    """A task."""
    return b"" if force else path.encode()


assert_type(bare("a"), list[str])
assert_type(bare("a", 2), list[str])
assert_type(bare(path="a", count=2), list[str])
assert_type(empty_parentheses("a"), int)
assert_type(every_option("a", force=True), bytes)
assert_type(bare.fn("a"), list[str])
assert_type(bare.name, str)
assert_type(bare.tags, frozenset[str])
assert_type(bare.description, str | None)

bare()  # type: ignore[call-overload]
bare(1)  # type: ignore[call-overload]
bare("a", "b")  # type: ignore[call-overload]
bare("a", other=1)  # type: ignore[call-overload]
every_option("a", True)  # type: ignore[call-overload]
len(empty_parentheses("a"))  # type: ignore[arg-type]

# The state instead of the value.

assert_type(bare("a", return_state=True), State[list[str]])
assert_type(bare("a", count=3, return_state=True), State[list[str]])
state = empty_parentheses("a", return_state=True)
assert_type(state.result(), int)
assert_type(state.type, StateType)
assert_type(state.name, str)
assert_type(state.is_completed(), bool)

# Coroutine functions give coroutines.


@task
async def fetch(url: str) -> dict[str, int]:
    """An async task."""
    return {url: 1}


@flow
async def crawl(urls: list[str], depth: int = 1) -> int:
    """An async flow."""
    assert_type(await fetch(urls[0]), dict[str, int])
    fetch(1)  # type: ignore[call-overload]
    return depth


coroutine = assert_type(fetch("a"), Coroutine[Any, Any, dict[str, int]])
crawling = assert_type(crawl(["a"]), Coroutine[Any, Any, int])

# Flows.


@flow
def plain(day: str) -> float:
    """A flow."""
    return float(len(bare(day)))


@flow(
    name="nightly",
    description="at night",
    resume="require",
    resume_within=timedelta(hours=1),
    idempotency_key="2024-01-01",
    journal=Path("runs.db"),
    validate_parameters=False,
)
def with_options(day: str, *, dry: bool = False) -> None:
    """A flow."""
    assert_type(plain(day), float)


assert_type(plain("monday"), float)
assert_type(plain("monday", return_state=True), State[float])
plain(1)  # type: ignore[call-overload]
plain()  # type: ignore[call-overload]
plain.with_options(resume="never")("monday")

# Other options, same types.

assert_type(bare.with_options(retries=2), Task[[str, int], list[str]])  # type: ignore[assert-type]  # it keeps the names too
assert_type(bare.with_options(retries=2)("a"), list[str])
assert_type(plain.with_options(name="other")("monday"), float)
bare.with_options(retries=2)(1)  # type: ignore[call-overload]

# Methods, class methods and static methods.


class Loader:
    """Has tasks of its own."""

    @task
    def load(self, path: str) -> int:
        """A task."""
        return len(path)

    @staticmethod
    @task
    def of_none(path: str) -> int:
        """A task; type checkers know this order of the decorators, durable both."""
        return len(path)

    @flow
    def day(self, name: str) -> str:
        """A flow."""
        return name

    @task(retries=1)
    async def fetch(self, path: str) -> bytes:
        """A task."""
        return path.encode()


loader = Loader()
assert_type(loader.load("a"), int)
assert_type(loader.load("a", return_state=True), State[int])
loader.load(1)  # type: ignore[call-overload]
loader.load("a", "b")  # type: ignore[call-overload]
fetching = assert_type(loader.fetch("a"), Coroutine[Any, Any, bytes])
assert_type(loader.load.with_options(retries=1)("a"), int)
assert_type(Loader.load(loader, "a"), int)
assert_type(Loader.of_none("a"), int)
assert_type(loader.day("monday"), str)

# Options that cannot be meant.

task(retries="3")  # type: ignore[call-overload]
task(on_interrupt="ignore")  # type: ignore[call-overload]
task(result_serializer="json")  # type: ignore[call-overload]
task(cache_policy="INPUTS")  # type: ignore[call-overload]
task(unknown=1)  # type: ignore[call-overload]
flow(resume="always")  # type: ignore[call-overload]
flow(retries="1")  # type: ignore[call-overload]
flow(validate_parameters="yes")  # type: ignore[call-overload]
INPUTS - 1  # type: ignore[operator]
INPUTS + "a"  # type: ignore[operator]
durable.configure(durability="fast")  # type: ignore[arg-type]
durable.configure(journal=Path("runs.db"), durability="process")
durable.configure(log_prints=True, task_default_retries=2, task_default_retry_delay_seconds=[1, 10, 100])
durable.configure(retries=2)  # type: ignore[call-arg]
with durable.temporary_settings({"log_prints": True}) as nothing:
    assert_type(nothing, None)

# Transactions.


@empty_parentheses.on_rollback
def undo(txn: Transaction) -> None:
    """A hook."""
    txn.set("seen", txn.get("path", None))


async def block() -> int:
    """An async block."""
    async with atransaction("key", isolation_level=IsolationLevel.SERIALIZABLE) as txn:
        assert_type(txn, Transaction)
    with transaction(commit_mode=CommitMode.EAGER) as txn:
        return empty_parentheses("a")  # what follows a block is reachable only if it may swallow exceptions


assert_type(get_transaction(), Transaction | None)
transaction(commit_mode="LAZY")  # type: ignore[arg-type]
transaction(key=1)  # type: ignore[arg-type]

# What users annotate with.


def call(one: Task[[str], int], other: Flow[..., float]) -> float:
    """Takes a task and a flow."""
    return one("a") + other("monday")


call(empty_parentheses, plain)
call(fetch, plain)  # type: ignore[arg-type]
assert_type((DEFAULT + NONE - "path"), durable.cache_policies.CachePolicy)
