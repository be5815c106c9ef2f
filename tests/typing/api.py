"""The public interface as a type checker sees it: this folder is checked by mypy --strict and pyright, and never run.

An error that is expected is ignored, for each of the two by its code, and unused ignores are errors, so one that goes
missing is noticed.
"""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

from typing_extensions import assert_type

import durable
from durable import Flow, State, StateType, Task, flow, task
from durable.cache_policies import DEFAULT, INPUTS, NONE, TASK_SOURCE, CachePolicy
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

bare()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
bare(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
bare("a", "b")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
bare("a", other=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
every_option("a", True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
len(empty_parentheses("a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

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
    fetch(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportUnusedCoroutine]
    return depth


coroutine: Coroutine[Any, Any, dict[str, int]] = fetch("a")
crawling: Coroutine[Any, Any, int] = crawl(["a"])

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
plain(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
plain()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
plain.with_options(resume="never")("monday")

# Other options, same types.

assert_type(bare.with_options(retries=2), Task[[str, int], list[str]])  # type: ignore[assert-type]  # pyright: ignore[reportAssertTypeFailure]  # it keeps the names too
assert_type(bare.with_options(retries=2)("a"), list[str])
assert_type(plain.with_options(name="other")("monday"), float)
bare.with_options(retries=2)(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]

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
loader.load(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
loader.load("a", "b")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
fetching: Coroutine[Any, Any, bytes] = loader.fetch("a")
assert_type(loader.load.with_options(retries=1)("a"), int)
assert_type(Loader.load(loader, "a"), int)
assert_type(Loader.of_none("a"), int)
assert_type(loader.day("monday"), str)

# Options that cannot be meant.

task(retries="3")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
task(on_interrupt="ignore")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
task(result_serializer="json")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
task(cache_policy="INPUTS")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
task(unknown=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
flow(resume="always")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
flow(retries="1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
flow(validate_parameters="yes")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
INPUTS - 1  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
INPUTS + "a"  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
durable.configure(durability="fast")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
durable.configure(journal=Path("runs.db"), durability="process")
durable.configure(log_prints=True, task_default_retries=2, task_default_retry_delay_seconds=[1, 10, 100])
durable.configure(retries=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
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
transaction(commit_mode="LAZY")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
transaction(key=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# What users annotate with.


def call(one: Task[[str], int], other: Flow[..., float]) -> float:
    """Takes a task and a flow."""
    return one("a") + other("monday")


call(empty_parentheses, plain)
call(fetch, plain)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
assert_type((DEFAULT + NONE - "path"), CachePolicy)
