"""How many task runs were submitted, and how they ended: plain counters, for whoever shows progress."""

from __future__ import annotations

from typing import Any

from durable.states import State


class Tally:
    """The counts of one task runner. Its lock guards them; who only looks may do without.

    Attributes:
        submitted: task runs that were submitted.
        announced: how many there will be once the maps under way are submitted, as far as is known.
        open_ended: maps under way whose length is not known.
        done: task runs that have ended.
        recorded: of those, the ones whose outcome was in the journal already.
        failed: of those, the ones that failed.
    """

    __slots__ = ("announced", "done", "failed", "open_ended", "recorded", "submitted")

    def __init__(self) -> None:
        self.submitted = self.announced = self.open_ended = self.done = self.recorded = self.failed = 0

    def announce(self, length: int | None, change: int) -> None:
        """A map begins (1) or ends (-1)."""
        if length is None:
            self.open_ended += change
        elif change > 0:
            self.announced = max(self.announced, self.submitted) + length

    def total(self) -> int | None:
        """How many there will be, as far as is known; None while that is open."""
        return None if self.open_ended else max(self.announced, self.submitted)

    def count(self, state: State[Any], *, executed: bool) -> None:
        """One has ended."""
        self.done += 1
        if state.is_completed():
            self.recorded += not executed
        elif not state.is_cancelled():
            self.failed += 1
