"""How many task runs of a flow run have ended, counted where they end and looked at from another thread."""

from __future__ import annotations

from itertools import count
from typing import Any
from weakref import WeakSet


class Counts:
    """Counters of one flow run and all it calls.

    Attributes:
        runners: what executes what was submitted; of these it is known how many there will be.
    """

    __slots__ = ("_ended", "_failed", "_recorded", "runners")

    def __init__(self) -> None:
        self._ended, self._failed, self._recorded = count(), count(), count()
        self.runners: WeakSet[Any] = WeakSet()

    def count(self, executed: bool, failed: bool) -> None:  # noqa: FBT001 - hot path
        """A task run has ended. No lock is needed: a counter is moved in C, so two threads that count both do."""
        next(self._ended)
        if failed:
            next(self._failed)
        elif not executed:
            next(self._recorded)

    def seen(self) -> tuple[int, int, int]:
        """How many have ended; of those, whose value was in the journal already, and which failed."""
        return _value(self._ended), _value(self._recorded), _value(self._failed)


def _value(counter: Any) -> int:
    return int(repr(counter)[len("count(") : -1])  # the only way to look at one without moving it
