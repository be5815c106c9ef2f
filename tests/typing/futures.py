"""Submitted and mapped tasks as a type checker sees them. Checked as `api.py` is, and never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator, Iterator
from typing import Any

from typing_extensions import assert_type

from durable import Future, State, allow_failure, flow, quote, task, unmapped
from durable.futures import DoneAndNotDone, FutureList, as_completed, wait


@task
def size(path: str, scale: int = 1) -> int:
    """A plain task."""
    return len(path) * scale


@task(retries=1)
async def fetch(url: str) -> bytes:
    """An async task."""
    return url.encode()


@task
def lines(path: str) -> Generator[str, int, bool]:
    """A generator task."""
    sent = yield path
    return sent > 1


@task
def words(path: str) -> Iterator[str]:
    """A generator task annotated with less."""
    yield path


@task
async def pages(url: str) -> AsyncGenerator[bytes, None]:
    """An async generator task."""
    yield url.encode()


@task(log_prints=True)
async def rows(url: str) -> AsyncIterator[list[int]]:
    """An async generator task annotated with less."""
    yield [len(url)]


# A future gives what the call would: awaited for a coroutine function, all that is yielded for a generator function.

assert_type(size.submit("a"), Future[int])
assert_type(size.submit("a", scale=2), Future[int])
assert_type(fetch.submit("a"), Future[bytes])
assert_type(lines.submit("a"), Future[list[str]])
assert_type(words.submit("a"), Future[list[str]])
assert_type(pages.submit("a"), Future[list[bytes]])
assert_type(rows.submit("a"), Future[list[list[int]]])
assert_type(size.with_options(retries=2).submit("a"), Future[int])
assert_type(fetch.with_options(retries=2).submit("a"), Future[bytes])

size.submit()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
size.submit(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
size.submit("a", "b")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
size.submit("a", other=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
fetch.submit(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
lines.submit(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
pages.submit(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]

# With arguments of the call itself the function's are not checked, and what it gives is.

assert_type(size.submit("a", wait_for=[lines.submit("b")]), Future[int])
assert_type(fetch.submit("a", wait_for=[lines.submit("b")]), Future[bytes])
assert_type(words.submit("a", wait_for=lines.submit("b")), Future[list[str]])
assert_type(size.submit("a", return_state=True), State[int])
assert_type(fetch.submit("a", return_state=True, wait_for=[]), State[bytes])
assert_type(rows.submit("a", return_state=True), State[list[list[int]]])

# What a future offers.

future = size.submit("a")
assert_type(future.result(), int)
assert_type(future.result(timeout=1.5), int)
assert_type(future.state, State[int])
assert_type(future.done(), bool)
assert_type(future.cancel(), bool)
assert_type(future.task_run_id, str)
assert_type(future.name, str)
assert_type(future.wait(1), None)
future.add_done_callback(lambda ended: assert_type(ended, Future[int]))
future.result("soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
len(future.result())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
wider: Future[float] = future  # a future only gives
assert_type(wider.result(), float)


async def awaiting() -> None:
    """Futures may be awaited."""
    assert_type(await size.submit("a"), int)
    assert_type(await fetch.submit("a"), bytes)
    assert_type(await pages.submit("a"), list[bytes])
    assert_type(await size.map(["a"]), list[int])


# What is mapped over is no argument of the function, so arguments are not checked.

assert_type(size.map(["a", "b"]), FutureList[int])
assert_type(size.map(["a"], scale=unmapped(2)), FutureList[int])
assert_type(fetch.map({"a", "b"}), FutureList[bytes])
assert_type(lines.map(("a",)), FutureList[list[str]])
assert_type(words.map("a" for _ in range(3)), FutureList[list[str]])
assert_type(pages.map(["a"]), FutureList[list[bytes]])
assert_type(size.map(["a"], wait_for=[future]), FutureList[int])
assert_type(fetch.map(size.map(["a"])), FutureList[bytes])
assert_type(size.map(["a"], return_state=True), list[State[int]])
assert_type(fetch.map(["a"], return_state=True, wait_for=[]), list[State[bytes]])
assert_type(rows.map(["a"], return_state=True), list[State[list[list[int]]]])

futures = size.map(["a"])
assert_type(futures.result(), list[int])
assert_type(futures.result(timeout=3, raise_on_failure=False), list[int])
assert_type(futures[0], Future[int])
assert_type([each.result() for each in futures], list[int])
assert_type(futures.wait(3), None)
futures.append(size.submit("b"))
futures.append(fetch.submit("b"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# Several at once.

assert_type(wait(futures), DoneAndNotDone)
assert_type(wait([future], timeout=2.0).done, set[Future[Any]])
for ended in as_completed(futures, timeout=2.0):
    assert_type(ended, Future[int])
wait(future)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# What an argument may be wrapped in.

assert_type(unmapped([1]).unwrap(), list[int])
assert_type(allow_failure(future).value, Future[int])
assert_type(quote("a").unwrap(), str)


# Methods lose their first parameter.


class Store:
    """Has tasks of its own."""

    @task
    def put(self, key: str, value: int) -> bool:
        """A task."""
        return bool(key) and bool(value)

    @task
    async def get(self, key: str) -> int:
        """An async task."""
        return len(key)

    @task
    def keys(self, prefix: str) -> Generator[str, None, None]:
        """A generator task."""
        yield prefix

    @task
    async def watch(self, prefix: str) -> AsyncGenerator[str, None]:
        """An async generator task."""
        yield prefix

    @flow
    async def sync(self) -> None:
        """Uses them."""
        assert_type(await self.get("a"), int)
        async for key in self.watch("a"):
            assert_type(key, str)


store = Store()
assert_type(store.put.submit("a", 1), Future[bool])
assert_type(store.get.submit("a"), Future[int])
assert_type(store.keys.submit("a"), Future[list[str]])
assert_type(store.watch.submit("a"), Future[list[str]])
assert_type(store.put.map(["a"], [1]), FutureList[bool])
assert_type(store.get.map(["a"]), FutureList[int])
assert_type(store.put.submit("a", 1, return_state=True), State[bool])
syncing: Coroutine[Any, Any, None] = store.sync()
store.put.submit("a")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
store.get.submit(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
