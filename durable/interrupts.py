"""Ctrl-C and SIGTERM while a flow runs: remembered, so that the journal can say why the run stopped.

Python already turns Ctrl-C into KeyboardInterrupt (asyncio into a cancellation). SIGTERM is turned into
`TerminationSignal`, or a cancellation in an async flow, so that ``finally`` blocks run and the run is recorded; only if
the program has no SIGTERM handler of its own, and only on the main thread, where Python runs handlers.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any, Literal

from durable.errors import TerminationSignal

Reason = Literal["interrupt", "termination"]


class Interrupts:
    """Watches both signals between `watch` and `release`.

    Attributes:
        reason: the signal that arrived, or None.
    """

    __slots__ = ("_before", "_cancel", "_pid", "reason")

    def __init__(self) -> None:
        self.reason: Reason | None = None
        self._before: dict[int, Any] = {}
        self._cancel: Any = None
        self._pid = os.getpid()

    def watch(self, cancel: Any = None) -> None:
        """Begin. `cancel` stops an async flow from a signal handler; a sync flow gets an exception instead."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._cancel = cancel
        on_interrupt = signal.getsignal(signal.SIGINT)
        if callable(on_interrupt):
            self._before[signal.SIGINT] = on_interrupt
            signal.signal(signal.SIGINT, self._interrupted)
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            self._before[signal.SIGTERM] = signal.SIG_DFL
            signal.signal(signal.SIGTERM, self._terminated)

    def release(self) -> None:
        """End: the handlers of before are back, unless the program has set others meanwhile."""
        for number, before in self._before.items():
            if signal.getsignal(number) in (self._interrupted, self._terminated):
                signal.signal(number, before)
        self._before.clear()

    def _interrupted(self, number: int, frame: Any) -> None:
        self.reason = "interrupt"
        self._before[number](number, frame)

    def _terminated(self, number: int, frame: Any) -> None:
        if os.getpid() != self._pid:
            # A forked child inherits the handler, but the flow is its parent's: it dies as it would have.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        del frame
        self.reason = "termination"
        if self._cancel is None:
            raise TerminationSignal
        self._cancel()
