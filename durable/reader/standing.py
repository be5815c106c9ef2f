"""From recorded states to what a run is shown as: the one place that tells running from lost."""

from __future__ import annotations

from typing import Final, NamedTuple

from durable.reader import model
from durable.states import STATES

_ENDED: Final = {
    "COMPLETED": model.OK,
    "FAILED": model.FAILED,
    "CRASHED": model.CRASHED,
    "CANCELLED": model.CANCELLED,
}
_NAMED: Final = {"Cached": model.CACHED, "RolledBack": model.ROLLED_BACK, "TimedOut": model.TIMED_OUT}
_EXECUTING: Final = {
    "Running": model.RUNNING,
    "Retrying": model.RETRYING,
    "AwaitingRetry": model.WAITING,
    "AwaitingConcurrencySlot": model.WAITING,
    "Cancelling": model.CANCELLING,
}
STARTS: Final = frozenset({5, 6})  # Running, Retrying: an attempt begins
UNDONE: Final = 9  # RolledBack


class StateName(NamedTuple):
    """A state as the file explains it."""

    name: str
    type: str

    @property
    def ended(self) -> bool:
        """Whether a run in it executes no more."""
        return self.type in _ENDED


KNOWN: Final = {kind.code: StateName(kind.name, kind.type.value) for kind in STATES}


class Standing(NamedTuple):
    """Who may be executing what belongs to a run: its newest process, and whether that one lives (None: unknown)."""

    live: bool | None
    process: int

    def status(self, state: StateName, process: int) -> str:
        """The word for a task run or subflow whose newest state was recorded by `process`."""
        if state.ended:
            return _NAMED.get(state.name) or _ENDED[state.type]
        if state.type == "PENDING":
            return model.PENDING
        if self.live is False or process != self.process:
            return model.LOST
        if self.live is None:
            return model.UNCERTAIN
        return _EXECUTING.get(state.name, state.name.lower())
