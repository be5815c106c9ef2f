"""Futures: task runs that were submitted, and may not have ended yet. Names and semantics follow Prefect 3.

Unlike Prefect's, a future can be awaited and cancelled, and it keeps its value only among the newest ones of its task
runner: an older one is read from the journal again, so that a million of them fit in memory.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from durable.errors import ConfigurationError, UnfinishedRun
from durable.outcomes import restore
from durable.states import PENDING, RUNNING, State
from durable.upstream import Upstream

if TYPE_CHECKING:
    from durable.call import Call

__all__ = ["DoneAndNotDone", "Future", "FutureList", "as_completed", "wait"]

R = TypeVar("R", covariant=True)  # noqa: PLC0105 - it is Future[R] to those who read it
T = TypeVar("T")

_ELSEWHERE: Final = object()  # the value is in the journal, and not held here


class Future(Upstream, Generic[R]):
    """A submitted task run.

    Attributes:
        name: the task run's name, such as ``"load-3f2"``; a name of its own is known once it runs.
    """

    __slots__ = (
        "_broken",
        "_call",
        "_callbacks",
        "_event",
        "_state",
        "_waiting",
        "_where",
        "cancelling",
        "context",
        "handled",
        "home",
        "is_list",
        "loop",
        "loop_task",
    )

    def __init__(self, call: Call, home: Any) -> None:
        self._call: Call | None = call
        self.home = home
        # In a fork: what it was in the first of the line, so that calls it is an argument of keep their identity too.
        self.identity = call.key if call.flow_run is None or call.flow_run.fork is None else call.original[1]
        self.name = call.name
        self.handled = False  # somebody asked how it ended
        self.cancelling = False
        self.is_list = call.definition.is_generator  # its value is what was yielded, and no record of its own
        self.context: Any = None
        self.loop: Any = None  # of an async task: the event loop it runs on, and its task there
        self.loop_task: Any = None
        self._where = call.journal
        self._state: State[Any] | None = None
        self._broken: BaseException | None = None
        self._event: threading.Event | None = None
        self._callbacks: list[Callable[[Future[Any]], Any]] = []
        self._waiting = 0

    # What users call.

    @property
    def task_run_id(self) -> str:
        """The task run's id (32 hex digits). Of one that waits for others it is settled when they have ended."""
        state, call = self._state, self._call
        if state is not None and state.run_id is not None:
            return state.run_id
        return (call.key if call is not None else self.identity).hex()

    @property
    def state(self) -> State[R]:
        """How the run stands: Pending, Running, or how it ended. Asking for it takes its failure as handled."""
        state = self._state
        if state is not None:
            self.handled = True
            return self._whole(state)
        call = self._call
        return State(RUNNING if call is not None and call.attempt else PENDING, "", None, self.task_run_id)

    def done(self) -> bool:
        """Whether it has ended, one way or another."""
        return self._state is not None or self._broken is not None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it has ended, for `timeout` seconds at most; returns silently either way, as in Prefect 3.

        Raises:
            ConfigurationError: called on the event loop that the run itself needs: await the future instead.
        """
        self._finished(timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:  # noqa: FBT001, FBT002 - Prefect's signature
        """The run's value.

        Args:
            timeout: seconds to wait for it at most.
            raise_on_failure: raise the run's exception if it failed; False returns the exception instead.

        Raises:
            TimeoutError: it has not ended by then.
            UnfinishedRun: it never ran, because what it waited for did not complete.
            ConfigurationError: called on the event loop that the run itself needs: await the future instead.
            Exception: the run's own.
        """
        if not self._finished(timeout):
            raise TimeoutError(f"Task run {self.name!r} did not complete within {timeout} second(s)")
        return self._given(raise_on_failure)

    def __await__(self) -> Generator[Any, None, R]:
        """Await the run: gives its value, or raises its exception."""
        yield from self.settled().__await__()
        return self._given(True)

    def cancel(self) -> bool:
        """Call it off, if its body has not begun; an async run on its event loop is cancelled at its next ``await``.

        Returns:
            Whether it was, or will be.
        """
        return bool(self.home.cancel(self))

    def cancelled(self) -> bool:
        """Whether it was called off."""
        return self._state is not None and self._state.is_cancelled()

    def add_done_callback(self, callback: Callable[[Future[R]], Any]) -> None:
        """Call ``callback(future)`` once it has ended, in the thread that ends it; at once if it has.

        A callback that raises is logged, and disturbs nothing.
        """
        self.when_done(callback)

    def __repr__(self) -> str:
        state = self._state
        return f"<Future {self.name} {state if state is not None else 'unfinished'}>"

    # What durable calls.

    @property
    def call(self) -> Call:
        """The call, until it has ended."""
        assert self._call is not None  # noqa: S101 - asked of an unfinished one
        return self._call

    def when_done(self, callback: Callable[[Future[R]], Any]) -> None:
        """As `add_done_callback`."""
        with self.home.lock:
            if not self.done():
                self._callbacks.append(callback)
                return
        self.home.notify(callback, self)

    def waits_for(self, others: list[Upstream], ready: Callable[[Future[Any]], None]) -> None:
        """Call ``ready(self)`` once all `others` have ended."""
        self._waiting = len(others)

        def one_less(_: Any) -> None:
            with self.home.lock:
                self._waiting -= 1
                if self._waiting:
                    return
            ready(self)

        for other in others:
            other.when_done(one_less)  # type: ignore[attr-defined]  # futures are the only upstreams that may not be done

    def ends(self, state: State[Any] | None, broken: BaseException | None = None) -> None:
        """It has ended in `state`; or was `broken`, by what is no failure of the task."""
        with self.home.lock:
            call, self._call = self._call, None
            self._state, self._broken = state, broken
            if call is not None:
                self.name = call.name
            event, callbacks = self._event, self._callbacks
            self._event, self._callbacks, self.context, self.loop_task = None, [], None, None
        if event is not None:
            event.set()
        for callback in callbacks:
            self.home.notify(callback, self)

    def needs_loop(self, loop: Any) -> bool:
        """Whether it cannot go on while `loop` stands still: it, or what it waits for, runs there."""
        call = self._call
        if call is None:
            return False
        return self.loop is loop or any(other.needs_loop(loop) for other in call.awaited() if isinstance(other, Future))

    def forget(self) -> None:
        """Hold the value no longer: it is in the journal."""
        state = self._state
        if state is not None and state.is_completed():
            self._state = State(state.kind, state.message, state.timestamp, state.run_id, _ELSEWHERE)

    def ended(self) -> State[Any]:
        """How it has ended, to a run that waited for it."""
        self.handled = True
        if self._broken is not None:
            raise self._broken
        assert self._state is not None  # noqa: S101 - asked of one that has ended
        return self._whole(self._state)

    async def settled(self) -> None:
        """Wait until it has ended, without blocking the event loop."""
        from asyncio import get_running_loop  # a loop is running, so this is a look-up

        if not self.done():
            loop = get_running_loop()
            waiter = loop.create_future()

            def wake(_: Any) -> None:
                with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
                    loop.call_soon_threadsafe(lambda: None if waiter.done() else waiter.set_result(None))

            self.when_done(wake)
            await waiter

    @property
    def broken(self) -> BaseException | None:
        """What ended it that is no failure of the task: a journal that cannot be written, SystemExit."""
        return self._broken

    def failure(self) -> BaseException | None:
        """What it failed with, if it failed and nobody asked."""
        if self._broken is not None:
            return self._broken
        if self.handled or self._state is None or self._state.is_completed() or self._state.is_cancelled():
            return None
        failed = self._state.result(raise_on_failure=False)
        return failed if isinstance(failed, BaseException) else None

    def _finished(self, timeout: float | None) -> bool:
        if self.done():
            return True
        self.home.check_may_block(self)
        with self.home.lock:
            if self.done():
                return True
            event = self._event = self._event or threading.Event()
        with self.home.blocked():
            return event.wait(timeout)

    def _given(self, raise_on_failure: bool) -> R:  # noqa: FBT001 - see result
        self.handled = True
        if self._broken is not None:
            raise self._broken
        assert self._state is not None  # noqa: S101 - it has ended
        return self._whole(self._state).result(raise_on_failure)  # type: ignore[no-any-return]  # the caller's R

    def _whole(self, state: State[Any]) -> State[Any]:
        """The state with its value, from the journal if need be."""
        if state.data is not _ELSEWHERE:
            return state
        record = self._where.find_task_run(bytes.fromhex(state.run_id or ""))
        if record is None or record.result_id is None:
            raise UnfinishedRun(f"task run {self.name!r}", "its value is no longer in the journal")
        value = restore(self._where.outcome(record.result_id), f"task run {self.name!r}")
        return State(state.kind, state.message, state.timestamp, state.run_id, value)


class FutureList(list["Future[T]"], Generic[T]):
    """What ``.map`` gives: a list of futures, in the order of the items."""

    __durable_plain__ = list  # what it is once values stand in it

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all have ended, for `timeout` seconds at most; returns silently either way."""
        wait(self, timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[T]:  # noqa: FBT001, FBT002 - Prefect's signature
        """The values, in order. Arguments and errors as in `Future.result`; the timeout is for all together."""
        end = None if timeout is None else time.monotonic() + timeout
        return [
            future.result(None if end is None else max(0.0, end - time.monotonic()), raise_on_failure)
            for future in self
        ]

    def __await__(self) -> Generator[Any, None, list[T]]:
        """Await all: gives the values in order, or raises the first failure in order."""
        for future in self:
            yield from future.settled().__await__()
        return [future.result() for future in self]


class DoneAndNotDone(NamedTuple):
    """What `wait` gives."""

    done: set[Future[Any]]
    not_done: set[Future[Any]]


def wait(futures: Iterable[Future[Any]], timeout: float | None = None) -> DoneAndNotDone:
    """Wait until all have ended, for `timeout` seconds at most. Borrowed from Prefect 3.

    Raises:
        ConfigurationError: the timeout is below 0.
    """
    every = list(futures)
    for _ in _in_turn(every, timeout):
        pass
    done = {future for future in every if future.done()}
    return DoneAndNotDone(done, set(every) - done)


def as_completed(futures: Iterable[Future[T]], timeout: float | None = None) -> Iterator[Future[T]]:
    """The futures as they end. Borrowed from Prefect 3.

    Args:
        futures: each is given once.
        timeout: seconds for all of them.

    Raises:
        ConfigurationError: the timeout is below 0.
        TimeoutError: some have not ended by then.
    """
    every = list(dict.fromkeys(futures))
    given = 0
    for future in _in_turn(every, timeout):
        given += 1
        yield future
    if given < len(every):
        raise TimeoutError(f"{len(every) - given} (of {len(every)}) futures unfinished")


def _in_turn(futures: list[Future[T]], timeout: float | None) -> Iterator[Future[T]]:
    """The futures in the order they end, until all have or the time is up."""
    if timeout is not None and timeout < 0:
        raise ConfigurationError(f"timeout={timeout!r}: expected seconds, 0 or more")
    from queue import Empty, SimpleQueue  # `import durable` does without

    ended: SimpleQueue[Future[T]] = SimpleQueue()
    for future in futures:
        if not future.done():
            future.home.check_may_block(future)
        future.when_done(ended.put)
    end = None if timeout is None else time.monotonic() + timeout
    for _ in futures:
        try:
            future = ended.get_nowait()
        except Empty:
            left = None if end is None else max(0.0, end - time.monotonic())
            try:
                with futures[0].home.blocked():
                    future = ended.get(timeout=left)
            except Empty:
                return
        yield future
