"""Many futures at once: lists of them, waiting for all, taking them as they end."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, Final, Generic, NamedTuple, TypeVar

from durable.errors import ConfigurationError
from durable.futures.future import Future, giving_way, read_together
from durable.interrupts import wait_for

T = TypeVar("T")
_BLOCK: Final = 256  # futures that are waited for together: fewer than stay in memory once they have ended


class FutureList(list["Future[T]"], Generic[T]):
    """What ``.map`` gives: a list of futures, in the order of the items."""

    __durable_plain__ = list  # what it is once values stand in it

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all have ended, for `timeout` seconds at most; returns silently either way."""
        wait(self, timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[T]:  # noqa: FBT001, FBT002 - Prefect's signature
        """The values, in order; or the first failure in order, and then all failures are taken as handled.

        Arguments and errors as in `Future.result`; the timeout is for all together.

        Raises:
            TimeoutError: some have not ended by then.
        """
        end = None if timeout is None else time.monotonic() + timeout
        values = []
        for at in range(0, len(self), _BLOCK):
            block = self[at : at + _BLOCK]
            all_ended = _wait_for_all_or_a_failure(block, _left(end))
            records = read_together(block)
            for future in block:
                if not (all_ended or future.finished(_left(end))):
                    raise TimeoutError(f"Task run {future.name!r} did not complete within {timeout} second(s)")
                values.append(self._value_of(future, raise_on_failure, records))
        return values

    def __await__(self) -> Generator[Any, None, list[T]]:
        """Await all: gives the values, or raises the first failure, as `result` does."""
        values = []
        for future in self:
            yield from future.settled().__await__()
            values.append(self._value_of(future, True, {}))
        return values

    def _value_of(self, future: Future[T], raise_on_failure: bool, records: Mapping[bytes, Any]) -> T:  # noqa: FBT001 - as above
        """The value of one that has ended."""
        try:
            return future.ended(records).result(raise_on_failure)  # type: ignore[no-any-return]  # the list's T
        except BaseException:
            for each in self:
                each.handled = True
            raise


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


def _wait_for_all_or_a_failure(futures: list[Future[T]], timeout: float | None) -> bool:
    """Wait until all have ended or one has not ended well, for `timeout` seconds at most; whether all have ended.

    Whoever then asks one after the other was woken once, and not by each of them while others want to go on.
    """
    unfinished = []
    for future in futures:
        if not future.done():
            unfinished.append(future)
        elif not future.is_well:
            return False
    left, enough = len(unfinished), threading.Event()
    lock = threading.Lock()

    def ends(future: Future[T]) -> None:
        nonlocal left
        with lock:
            left -= 1
        if not left or not future.is_well:
            enough.set()

    for future in unfinished:
        future.home.check_may_block(future)
        future.tells(ends)
    if unfinished:
        with giving_way():
            wait_for(enough, timeout)
    return not left


def _in_turn(futures: list[Future[T]], timeout: float | None) -> Iterator[Future[T]]:
    """The futures in the order they end, until all have or the time is up."""
    if timeout is not None and timeout < 0:
        raise ConfigurationError(f"timeout={timeout!r}: expected seconds, 0 or more")
    ended: deque[Future[T]] = deque()
    another = threading.Event()

    def ends(future: Future[T]) -> None:
        ended.append(future)
        another.set()

    for future in futures:
        if not future.done():
            future.home.check_may_block(future)
        future.tells(ends)
    end = None if timeout is None else time.monotonic() + timeout
    for _ in futures:
        while not ended:
            another.clear()
            with giving_way():
                if not (ended or wait_for(another, _left(end))):
                    return
        yield ended.popleft()


def _left(end: float | None) -> float | None:
    """The seconds until then."""
    return None if end is None else max(0.0, end - time.monotonic())
