"""Ending a body that runs longer than it may. What that takes depends on where the body runs.

* On the main thread: an interval timer, whose signal interrupts even a blocking system call. Timers nest, so the one
  armed is always the earliest. It rings again until it is heard: Python looks for signals before a blocking call and
  after it, so one that comes in between interrupts nothing. A program with a SIGALRM handler of its own keeps it, and
  the next way is taken.
* On another thread: an exception set from a watching thread. It arrives when the thread next runs Python code, so a
  blocking call is ended only when it returns.
* In a coroutine: a cancellation, which arrives at the next ``await``. Blocking code in a coroutine cannot be ended.

Where the way taken has not ended the body in time, one warning says so: its run is TimedOut only once it returns.

The body sees an `Expired`, which no ``except Exception`` stops, or a CancelledError; its caller gets a `TimeoutError`.
Waits are real: a limit is on what the machine does, not on the injected clock.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from typing import Any, Final

_HAS_ALARM: Final = hasattr(signal, "setitimer")
_GRACE: Final = 1.0  # seconds after its time is up in which a body on another thread should have ended
_AGAIN: Final = 0.1  # seconds until an alarm that was not heard rings again
_log = logging.getLogger("durable")


class Expired(BaseException):
    """Raised inside a body whose time is up. Internal: the caller gets a TimeoutError."""


class Limit:
    """One body's time, counted from `start` to `stop`.

    Args:
        seconds: how long it may run.
        who: what runs, with its file and line, for messages.

    Attributes:
        seconds: as given.
        expired: it was ended.
    """

    __slots__ = ("_active", "_deadline", "_handle", "_lock", "_task", "_thread", "_timer", "_who", "expired", "seconds")

    def __init__(self, seconds: float, who: str) -> None:
        self.seconds = seconds
        self._who = who
        self.expired = False
        self._deadline = 0.0
        self._active = False
        self._handle: Any = None
        self._task: Any = None
        self._thread = 0
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def start(self, *, in_coroutine: bool) -> None:
        """Begin to count."""
        self.expired, self._active = False, True
        self._deadline = time.monotonic() + self.seconds
        if in_coroutine:
            from asyncio import current_task, get_running_loop  # a loop is running, so this is a look-up

            self._task = current_task()
            self._handle = get_running_loop().call_later(self.seconds, self._cancel)
        elif not _alarms.add(self):
            self._thread = threading.get_ident()
            self._timer = threading.Timer(self.seconds, self._interrupt_thread)
            self._timer.daemon = True
            self._timer.start()

    def stop(self) -> None:
        """The body has ended. Whatever was on its way to it is called off; may be called again."""
        _alarms.remove(self)  # first: it is called again if the alarm of another limit ends it
        if not self._active:
            return
        with self._lock:
            self._active = False
            if self._timer is not None:
                self._timer.cancel()
                if self.expired:
                    _set_exception(self._thread, None)
        if self._handle is not None:
            self._handle.cancel()
            if not self.expired and self.left() < 0:
                _log.warning(
                    "%s ran %.1f s longer than its timeout of %s s and could not be ended: it blocked the event loop. "
                    "Await what takes long, or make it a plain function",
                    self._who,
                    -self.left(),
                    self.seconds,
                )
            if self.expired and hasattr(self._task, "uncancel"):  # from Python 3.11 on cancellations are counted
                self._task.uncancel()

    def ended(self, error: BaseException) -> bool:
        """Whether `error` is how the body was ended."""
        return self.expired and (isinstance(error, Expired) or type(error).__name__ == "CancelledError")

    def due(self, now: float) -> bool:
        """Whether its time is up, at `now` of the monotonic clock, and it has not been ended."""
        return self._active and not self.expired and self._deadline <= now

    @property
    def deadline(self) -> float:
        """When its time is up, by the monotonic clock."""
        return self._deadline

    def left(self) -> float:
        """Seconds until its time is up; below 0 when it is."""
        return self._deadline - time.monotonic()

    def _cancel(self) -> None:
        if self._active:
            self.expired = True
            self._task.cancel()

    def _interrupt_thread(self) -> None:
        with self._lock:
            if self._active:
                self.expired = True
                _set_exception(self._thread, Expired)
                self._timer = threading.Timer(_GRACE, self._warn)
                self._timer.daemon = True
                self._timer.start()

    def _warn(self) -> None:
        with self._lock:
            if self._active:
                _log.warning(
                    "%s has exceeded its timeout of %s s and is in a call that only its own return ends, because it "
                    "does not run on the main thread; then it is recorded as TimedOut. To end such calls, run it in a "
                    "process",
                    self._who,
                    self.seconds,
                )


class _Alarms:
    """The limits counted on the main thread, outermost first, and the one timer there is for them."""

    def __init__(self) -> None:
        self._limits: list[Limit] = []

    def add(self, limit: Limit) -> bool:
        """Count a limit here, if this is the main thread and the signal is free."""
        if not _HAS_ALARM or threading.current_thread() is not threading.main_thread():
            return False
        if signal.getsignal(signal.SIGALRM) not in (signal.SIG_DFL, self._rang):
            return False
        self._limits.append(limit)
        signal.signal(signal.SIGALRM, self._rang)
        self._arm()
        return True

    def remove(self, limit: Limit) -> None:
        """Count a limit no longer."""
        if limit not in self._limits:
            return
        self._limits.remove(limit)
        if self._limits:
            self._arm()
        else:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def forget(self) -> None:
        """Count nothing: in a forked child, which no timer of its parent reaches."""
        while self._limits:
            self.remove(self._limits[-1])

    def _arm(self) -> None:
        deadlines = [limit.deadline for limit in self._limits if not limit.expired]
        if deadlines:
            signal.setitimer(signal.ITIMER_REAL, max(min(deadlines) - time.monotonic(), 1e-6), _AGAIN)
        else:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _rang(self, number: int, frame: Any) -> None:
        del number, frame
        now = time.monotonic()
        for limit in self._limits:
            if limit.due(now):
                limit.expired = True
                signal.setitimer(signal.ITIMER_REAL, 0)  # it was heard; for the others it is set when this one stops
                raise Expired
        if self._limits:
            self._arm()


_alarms: Final = _Alarms()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_alarms.forget)


def _set_exception(thread: int, exception: type[BaseException] | None) -> None:
    """Raise `exception` in another thread when it next runs Python code; None calls it off."""
    import ctypes  # `import durable` does without

    raised = ctypes.py_object(exception) if exception is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)
