"""How often a flow that fails or is interrupted goes on waiting for the task runs that it has submitted."""

from __future__ import annotations

from types import TracebackType

from durable.interrupts import giving_up


class Stopping:
    """A context for each wait, in which an interruption ends the wait and not the stopping.

    The first interruption only begins to stop; a further one, or a SIGTERM, ends the waiting.

    Args:
        error: what the flow's body raised.
        abandon: do not wait at all.

    Attributes:
        waits: another wait is due.
        cause: why it is stopped.
        interruption: what arrived meanwhile, if the body raised no interruption itself.
        idle: a wait came to its end: nothing runs any more.
    """

    def __init__(self, error: BaseException, *, abandon: bool) -> None:
        self._error = error
        self.waits = not abandon
        self.interruption: BaseException | None = None
        self.idle = False

    @property
    def cause(self) -> BaseException:
        """What is to be told: the newest of what speaks for stopping."""
        return self.interruption or self._error

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if raised is None:
            self.waits, self.idle = False, True
            return False
        if not (isinstance(raised, (KeyboardInterrupt, SystemExit)) or _is_cancellation(raised)):
            return False  # an error of durable's own, or the end of the time of what is around: that waits no longer
        self.waits = not (giving_up() or not isinstance(self.cause, Exception))
        if isinstance(self._error, Exception):
            self.interruption = self.interruption or raised
        return True


def _is_cancellation(raised: BaseException) -> bool:
    """Whether the flow's coroutine was cancelled; by name, for not every program imports asyncio."""
    return type(raised).__name__ == "CancelledError" and not isinstance(raised, Exception)
