"""Waiting for a limit, of whatever colour: who is first in line, how long to wait, and when to stop waiting.

Contract with who waits. A ticket's `steps` are a generator that yields pauses until it has what it is for; `wait` and
`wait_async` do the waiting and nothing else, so that all policy exists once. Whatever ends a wait (Ctrl-C, a
cancellation, a timeout) closes the generator, which gives back what it had.

Rules:

1. In a process, first come, first served: only the first in line looks. It is rung when something may have changed;
   between processes nobody rings, so it looks every `LOOK` seconds.
2. A wait ends when its flow run is cancelled or given up, or was interrupted and calls off what it submitted: a task
   that still waits has done nothing that would be worth waiting for.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from typing import Any, Final

from durable.cancelling import error_of
from durable.clock import clock
from durable.errors import ConcurrencyTimeoutError, RunAbandoned
from durable.interrupts import interrupted
from durable.runs import FlowRun, current

LOOK: Final = 0.02  # seconds between two looks at what other processes hold
BUSY: Final = 0.001  # until the folder is free again
IDLE: Final = 0.5  # until somebody who will be rung looks whether waiting makes sense
_GRACE: Final = 1.0  # beyond the time there is, for whoever could not even look
_TOLD_AFTER: Final = 5.0  # seconds until a log line says what is waited for

_log = logging.getLogger("durable")
# What this process knows of its limits. Taken again by whoever has it: a garbage collection in the middle may close a
# generator, and that may give slots back.
lock = threading.RLock()


class Waiter:
    """Somebody in a line, and the bell that tells them to look."""

    __slots__ = ("_event", "_future", "_loop")

    def __init__(self) -> None:
        self._event = threading.Event()
        self._future: Any = None
        self._loop: Any = None

    def ring(self) -> None:
        """Something may have changed. The lock is held."""
        self._event.set()
        if self._future is not None:
            with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
                self._loop.call_soon_threadsafe(_wake, self._future)

    def pause(self, seconds: float) -> None:
        """Wait until it rings, or so long."""
        self._event.wait(seconds)
        self._event.clear()

    async def pause_async(self, seconds: float) -> None:
        """As `pause`, without blocking the event loop."""
        from asyncio import get_running_loop  # a loop is running, so this is a look-up

        loop = get_running_loop()
        with lock:
            if not self._event.is_set():
                self._loop, self._future = loop, loop.create_future()
        if self._future is not None:
            timer = loop.call_later(seconds, _wake, self._future)
            try:
                await self._future
            finally:
                timer.cancel()
                self._future = None
        self._event.clear()


def _wake(future: Any) -> None:
    if not future.done():
        future.set_result(None)


Pause = tuple["Waiter | None", float]  # rung or not, seconds
Steps = Generator[Pause, None, None]


def wait(steps: Steps) -> None:
    """Take the steps on this thread."""
    try:
        for waiter, seconds in steps:
            if waiter is None:
                clock().sleep(seconds)
            else:
                waiter.pause(seconds)
    finally:
        steps.close()


async def wait_async(steps: Steps) -> None:
    """Take the steps on the running event loop."""
    try:
        for waiter, seconds in steps:
            if waiter is None:
                await clock().sleep_async(seconds)
            else:
                await waiter.pause_async(seconds)
    finally:
        steps.close()


class Line:
    """Those who wait for one limit in this process. The lock is held for every call."""

    def __init__(self) -> None:
        self._waiters: deque[Waiter] = deque()

    def __len__(self) -> int:
        return len(self._waiters)

    def join(self, waiter: Waiter) -> None:
        """Be the last."""
        self._waiters.append(waiter)

    def is_first(self, waiter: Waiter) -> bool:
        """Whether it is its turn."""
        return self._waiters[0] is waiter

    def leave(self, waiter: Waiter) -> None:
        """Wait no more; the next one looks, for there may be room for it, too."""
        self._waiters.remove(waiter)
        self.ring()

    def ring(self) -> None:
        """Tell the first to look."""
        if self._waiters:
            self._waiters[0].ring()


class Patience:
    """How long somebody waits, for one call of theirs.

    Args:
        timeout: seconds; None: for ever.
    """

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._began = clock().monotonic()
        self._told = False

    def left(self) -> float | None:
        """Seconds left; None: for ever."""
        return None if self._timeout is None else self._timeout - (clock().monotonic() - self._began)

    def pause(self, seconds: float, ticket: Any) -> float:
        """How long to wait before another look, `seconds` at most.

        Raises:
            ConcurrencyTimeoutError: the time is up.
            FlowRunCancelled: the flow run is to be cancelled.
            RunAbandoned: it was given up.
        """
        _check_run()
        left = self.left()
        if left is not None and left <= (-_GRACE if seconds == BUSY else 0.0):
            raise self.over(ticket)
        if not self._told and clock().monotonic() - self._began >= _TOLD_AFTER:
            self._told = True
            _log.info("still waiting for %s: %s", ticket.wanted(), ticket.found())
        return seconds if left is None else min(seconds, max(left, BUSY))

    def over(self, ticket: Any) -> ConcurrencyTimeoutError:
        """The time is up, or what is waited for will not be there in time."""
        assert self._timeout is not None  # noqa: S101 - or it would not be
        return ConcurrencyTimeoutError(
            f"no {ticket.wanted()} within {self._timeout:g} second(s): {ticket.found()}. Wait longer "
            "(timeout_seconds), or raise the limit"
        )


def _check_run() -> None:
    """Stop waiting if the flow run around is not to go on (rule 2)."""
    scope = current.get()
    run = scope.flow_run if scope is not None else None
    if not isinstance(run, FlowRun):
        return
    if run.cancel.asked():
        raise error_of(run)
    if run.root.abandoned:
        raise RunAbandoned(f"nothing is waited for any more: flow run {run.name!r} was given up")
    if run.runner is not None and run.runner.closing and interrupted():
        raise _interruption()


def _interruption() -> BaseException:
    """What ends a body that a signal stops: what it would have got on the main thread, or in the flow's coroutine."""
    asyncio = sys.modules.get("asyncio")
    on_loop = asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001 - the documented one raises
    return asyncio.CancelledError() if asyncio is not None and on_loop else KeyboardInterrupt()
