"""Ctrl-C and SIGTERM while a flow runs: remembered, so that the journal can say why the run stopped.

Python already turns Ctrl-C into KeyboardInterrupt, and asyncio into a cancellation, but for Python 3.10 and loops that
`asyncio.run` does not run: there the flow is cancelled by this module, or all it had submitted would be. SIGTERM is
turned into `TerminationSignal`, or a cancellation in an async flow, so that ``finally`` blocks run and the run is
recorded; only if the program has no SIGTERM handler of its own, and only on the main thread, where Python runs them.
"""

from __future__ import annotations

import math
import os
import signal
import threading
from time import monotonic
from typing import Any, Final, Literal

from durable.errors import TerminationSignal

Reason = Literal["interrupt", "termination"]
_watching: list[Interrupts] = []  # the outermost first
HEARD: Final = 1.0  # seconds: how long a wait may be, for a signal to be heard (see `wait_for`)


class Interrupts:
    """Watches both signals between `watch` and `release`.

    Attributes:
        reason: the signal that arrived, or None.
        gives_up: what still runs is not waited for.
    """

    __slots__ = ("_asked", "_before", "_cancel", "_pid", "gives_up", "reason")

    def __init__(self) -> None:
        self.reason: Reason | None = None
        self.gives_up = False
        self._before: dict[int, Any] = {}
        self._cancel: Any = None
        self._asked = False  # the flow was cancelled by this
        self._pid = os.getpid()

    def watch(self, cancel: Any = None) -> None:
        """Begin. `cancel` stops an async flow from a signal handler; a sync flow gets an exception instead."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._cancel = cancel
        _watching.append(self)
        on_interrupt = signal.getsignal(signal.SIGINT)
        if callable(on_interrupt):
            self._before[signal.SIGINT] = on_interrupt
            signal.signal(signal.SIGINT, self._interrupted)
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            self._before[signal.SIGTERM] = signal.SIG_DFL
            signal.signal(signal.SIGTERM, self._terminated)

    def release(self) -> None:
        """End: the handlers of before are back, unless the program has set others meanwhile."""
        if self in _watching:
            _watching.remove(self)
        for number, before in self._before.items():
            if signal.getsignal(number) in (self._interrupted, self._terminated):
                signal.signal(number, before)
        self._before.clear()

    def _interrupted(self, number: int, frame: Any) -> None:
        first, self.reason = self.reason is None, "interrupt"
        if first and self._cancel is not None and self._before[number] is signal.default_int_handler:
            self._asked = True
            self._cancel()
        else:
            self._before[number](number, frame)

    def _terminated(self, number: int, frame: Any) -> None:
        if os.getpid() != self._pid:
            # A forked child inherits the handler, but the flow is its parent's: it dies as it would have.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        del frame
        self.reason = "termination"
        self.gives_up = True
        if self._cancel is None:
            raise TerminationSignal
        self._asked = True
        self._cancel()

    def meant_by(self, error: BaseException) -> BaseException:
        """What `error` stands for: the signal, if it is the cancellation that one was turned into."""
        if not self._asked or type(error).__name__ != "CancelledError":
            return error
        return TerminationSignal() if self.reason == "termination" else KeyboardInterrupt()


def _release_in_child() -> None:
    # The flows are the parent's. A child that kept the handlers might not hear what is to end it: the interpreter looks
    # for signals before it waits, and one that comes in between and has a handler of Python's interrupts no wait.
    while _watching:
        _watching[-1].release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)


def giving_up() -> bool:
    """Whether this process is to end without waiting for what its flows still run: after SIGTERM, a second Ctrl-C."""
    return any(each.gives_up for each in _watching)


def interrupted() -> bool:
    """Whether a signal has arrived for a flow that has not ended yet."""
    return any(each.reason is not None for each in _watching)


def give_up() -> None:
    """A second Ctrl-C arrived: what the flows around still run is not waited for either."""
    for each in _watching:
        each.gives_up = True


def wait_for(event: threading.Event, timeout: float | None = None) -> bool:
    """Wait for `event`, `timeout` seconds at most, so that a signal is heard within one; whether it was set.

    CPython looks for signals and then waits: one that arrives in between is heard only when the wait ends.
    """
    until = math.inf if timeout is None else monotonic() + timeout
    while not event.wait(min(HEARD, max(0.0, until - monotonic()))):
        if monotonic() >= until:
            return False
    return True
