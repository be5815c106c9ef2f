"""The time, injected: everything that reads a clock or waits does it through `clock()`, so no test has to sleep."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any


class Clock:
    """The machine's clock. Subclass it and hand it to `use_clock` to govern time in a test."""

    def now(self) -> int:
        """The time in whole microseconds since the Unix epoch, as the journal records it."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Seconds since some moment; never set back, so that waits are measured by it."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait; ends at once when a signal handler raises (Ctrl-C)."""
        time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Wait without blocking the event loop; ends at once when the asyncio task is cancelled."""
        from asyncio import sleep  # a loop is running, so this is a look-up; `import durable` does without

        await sleep(seconds)

    def rest(self, seconds: float, woken: Any, is_over: Callable[[], bool], look: float) -> None:
        """Wait until `is_over` says so, for `seconds` at most: it is asked when `woken` (a threading.Event) is set, and
        every `look` seconds.
        """
        until = time.monotonic() + seconds
        while not is_over() and (left := until - time.monotonic()) > 0:
            woken.wait(min(left, look))
            woken.clear()

    async def rest_async(self, seconds: float, woken: Any, is_over: Callable[[], bool], look: float) -> None:
        """As `rest`, without blocking the event loop; `woken` is an asyncio.Event."""
        from asyncio import get_running_loop  # as above

        until = time.monotonic() + seconds
        while not is_over() and (left := until - time.monotonic()) > 0:
            # No wait_for: before Python 3.12 it may swallow a cancellation that arrives as the time is up.
            timer = get_running_loop().call_later(min(left, look), woken.set)
            try:
                await woken.wait()
            finally:
                timer.cancel()
            woken.clear()


_clock = Clock()


def clock() -> Clock:
    """The clock in force in this process."""
    return _clock


@contextmanager
def use_clock(replacement: Clock) -> Iterator[Clock]:
    """Put `replacement` in force for the block, in every thread of the process."""
    global _clock  # noqa: PLW0603 - one clock a process is the point
    before, _clock = _clock, replacement
    try:
        yield replacement
    finally:
        _clock = before


def as_datetime(microseconds: int) -> datetime:
    """A journal timestamp as an aware UTC datetime."""
    return datetime.fromtimestamp(microseconds / 1_000_000, tz=timezone.utc)
