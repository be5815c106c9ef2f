"""Generators, coroutines, hooks and states as a type checker sees them. Checked as `api.py` is, and never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from logging import Logger
from typing import Any

from typing_extensions import assert_type

from durable import Flow, State, Task, flow, get_run_logger, runtime, tags, task
from durable.cache_policies import DEFAULT, INPUTS, NONE, RUN_ID, CachePolicy, IsolationLevel
from durable.context import FlowRunContext, TaskRunContext, get_run_context
from durable.states import (
    Cancelled,
    Completed,
    Failed,
    Running,
    StateType,
    get_state_exception,
    is_state,
    raise_state_exception,
)
from durable.tasks import exponential_backoff, task_input_hash

# A call of a generator task gives a generator.


@task
def lines(path: str, *, limit: int = 3) -> Generator[str, int, bool]:
    """A generator task."""
    sent = yield path[:limit]
    return sent > 1


@task(persist_result=False)
async def pages(url: str) -> AsyncGenerator[bytes, str]:
    """An async generator task."""
    yield url.encode()


generator = assert_type(lines("a", limit=2), Generator[str, int, bool])
assert_type(next(generator), str)
assert_type(generator.send(1), str)
generator.send("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
assert_type([line for line in lines("a")], list[str])  # noqa: C416
assert_type(pages("a"), AsyncGenerator[bytes, str])
lines(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
lines("a", 2)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
pages()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


@task
def delegating() -> Generator[str, int, int]:
    """A generator task in another."""
    done = yield from lines("a")
    assert_type(done, bool)
    return 1


# A call of a coroutine function gives a coroutine, of the state if that is asked for.


@task
async def fetch(url: str) -> bytes:
    """An async task."""
    return url.encode()


@flow(retries=1)
async def crawl(urls: list[str]) -> int:
    """An async flow."""
    assert_type(await fetch(urls[0], wait_for=[]), bytes)
    state = await fetch(urls[0], return_state=True)
    assert_type(state, State[bytes])
    assert_type(state.result(), bytes)
    async for page in pages(urls[0]):
        assert_type(page, bytes)
    await pages(urls[0]).asend(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return len(urls)


async def calling() -> None:
    """Awaits a flow."""
    assert_type(await crawl(["a"]), int)
    assert_type(await crawl(["a"], return_state=True), State[int])
    await crawl("a")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


crawling: Coroutine[Any, Any, int] = crawl.with_options(name="other")(["a"])

# Of a flow that is a generator function, a call gives the list of what it yields.


@flow
def counting(upto: int) -> Iterator[int]:
    """A generator flow."""
    yield from range(upto)


@flow(name="counting")
def counting_more(upto: int) -> Generator[int, None, None]:
    """A generator flow."""
    yield from range(upto)


@flow(name="streaming")
async def streaming(upto: int) -> AsyncIterator[str]:
    """An async generator flow."""
    yield str(upto)


assert_type(counting(3), list[int])
assert_type(counting_more(3), list[int])
assert_type(counting(3, return_state=True), State[list[int]])
streamed: Coroutine[Any, Any, list[str]] = streaming(3)
counting("3")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]

# A hook's decorator gives the hook.


@lines.on_failure
def on_failure(of: Task[..., Any], run: object, state: State[Any]) -> str:
    """A hook."""
    return f"{of.name} {run} {state}"


@crawl.on_crashed
@crawl.on_cancellation
@crawl.on_completion
@crawl.on_running
async def on_end(of: Flow[..., Any], run: object, state: State[Any]) -> None:
    """A hook of several."""


assert_type(on_failure(lines, 1, Running()), str)
hook: Callable[[Flow[..., Any], object, State[Any]], Coroutine[Any, Any, None]] = on_end
lines.on_completion(1)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
fetch.on_crashed  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # noqa: B018

# States.

state = lines.submit("a", return_state=True)
assert_type(state.result(raise_on_failure=False), list[str])
assert_type(state.type, StateType)
assert_type(state.message, str)
assert_type(state.is_final(), bool)
assert_type(Completed(data=1, message="well"), State[int])
assert_type(Completed(data=1).result(), int)
assert_type(Completed(), State[None])
assert_type(Failed(message="no", name="Late"), State[Any])
assert_type(Cancelled(data=ValueError()), State[Any])
assert_type(get_state_exception(state), BaseException)
raise_state_exception(state)
Completed(1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
Failed(message=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
raise_state_exception(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
wider: State[float] = Completed(data=1)  # a state only gives


def narrowed(value: int | State[int]) -> None:
    """Tells them apart."""
    if is_state(value):
        value.result()


@task
def by_state() -> State[int]:
    """Ends in the state it returns."""
    return Completed(data=1)


# Policies, delays and keys.

assert_type(DEFAULT + INPUTS - "connection", CachePolicy)
assert_type(INPUTS.configure(isolation_level="SERIALIZABLE"), CachePolicy)
assert_type(INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE) + RUN_ID, CachePolicy)
INPUTS.configure(isolation="SERIALIZABLE")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
assert_type(exponential_backoff(2), Callable[[int], list[float]])


def key(context: TaskRunContext, parameters: dict[str, Any]) -> str | None:
    """A cache_key_fn of one's own."""
    assert_type(context.unhashable, tuple[str, ...])
    return task_input_hash(context, parameters) if parameters else None


@task(cache_key_fn=key, retry_delay_seconds=exponential_backoff(2), retry_condition_fn=lambda *_: True)
def keyed(n: int) -> int:
    """A task with a key of its own."""
    return n


task(cache_key_fn="key")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
task(cache_policy=NONE, retry_delay_seconds="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
flow(on_crashed=print)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]

# Where a body is.

assert_type(get_run_context(), FlowRunContext | TaskRunContext)
assert_type(FlowRunContext.get(), FlowRunContext | None)
assert_type(get_run_logger(), Logger)
with tags("a", "b") as together:
    assert_type(together, frozenset[str])
tags(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
assert_type(runtime.flow_run.id, str | None)
assert_type(runtime.flow_run.parameters, dict[str, Any])
assert_type(runtime.task_run.run_count, int)
runtime.task_run.idd  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # noqa: B018
