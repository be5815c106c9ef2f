"""Run states, and the one table of which may follow which.

A state is what a flow run or task run is in; its *type* groups names as Prefect 3 does (``TimedOut`` is of type
``FAILED``). `STATES` gives each name its type and the number that stands for it in the journal; `TRANSITIONS` is the
state machine, fired in `check_transition` alone. Both are facts of the journal format: numbers are never reused.

Rules the table holds:

1. Within one attempt a run ends once: Completed, Failed, TimedOut, Crashed or Cancelled.
2. A final state may be followed by Running again only because a later process, or a retried parent, executes the same
   run once more; history is appended to, never replaced.
3. Retrying and AwaitingRetry follow a failed attempt of the same execution; Running begins a new one.
4. RolledBack follows RolledBack: it was decided, then its hooks have run (`durable.transactions`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final, Generic, NamedTuple, TypeVar

from durable.errors import CancelledRun, InvalidTransition, TaskFailed

R = TypeVar("R")


class StateType(str, Enum):
    """The group a state name belongs to; names and values as in Prefect 3."""

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CRASHED = "CRASHED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"


TERMINAL_TYPES: Final = frozenset({StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED})


class StateKind(NamedTuple):
    """One row of `STATES`: the name shown, its type, and its number in the journal."""

    name: str
    type: StateType
    code: int


PENDING: Final = StateKind("Pending", StateType.PENDING, 1)
NOT_READY: Final = StateKind("NotReady", StateType.PENDING, 2)
AWAITING_RETRY: Final = StateKind("AwaitingRetry", StateType.SCHEDULED, 3)
AWAITING_CONCURRENCY_SLOT: Final = StateKind("AwaitingConcurrencySlot", StateType.SCHEDULED, 4)
RUNNING: Final = StateKind("Running", StateType.RUNNING, 5)
RETRYING: Final = StateKind("Retrying", StateType.RUNNING, 6)
COMPLETED: Final = StateKind("Completed", StateType.COMPLETED, 7)
CACHED: Final = StateKind("Cached", StateType.COMPLETED, 8)
ROLLED_BACK: Final = StateKind("RolledBack", StateType.COMPLETED, 9)
FAILED: Final = StateKind("Failed", StateType.FAILED, 10)
TIMED_OUT: Final = StateKind("TimedOut", StateType.FAILED, 11)
CRASHED: Final = StateKind("Crashed", StateType.CRASHED, 12)
CANCELLING: Final = StateKind("Cancelling", StateType.CANCELLING, 13)
CANCELLED: Final = StateKind("Cancelled", StateType.CANCELLED, 14)

STATES: Final[tuple[StateKind, ...]] = (
    PENDING,
    NOT_READY,
    AWAITING_RETRY,
    AWAITING_CONCURRENCY_SLOT,
    RUNNING,
    RETRYING,
    COMPLETED,
    CACHED,
    ROLLED_BACK,
    FAILED,
    TIMED_OUT,
    CRASHED,
    CANCELLING,
    CANCELLED,
)
BY_CODE: Final = {kind.code: kind for kind in STATES}

_STARTS: Final = frozenset({PENDING, RUNNING, NOT_READY, CACHED, AWAITING_CONCURRENCY_SLOT, CANCELLED})
_ENDS: Final = frozenset({COMPLETED, FAILED, TIMED_OUT, CRASHED, CANCELLED})
_EXECUTING: Final = _ENDS | {AWAITING_RETRY, RETRYING, CANCELLING}

TRANSITIONS: Final[dict[StateKind | None, frozenset[StateKind]]] = {
    None: _STARTS,
    PENDING: _STARTS - {PENDING} | {CRASHED},
    NOT_READY: _STARTS,
    AWAITING_CONCURRENCY_SLOT: frozenset({RUNNING, CRASHED, CANCELLED}),
    RUNNING: _EXECUTING,
    RETRYING: _EXECUTING,
    AWAITING_RETRY: frozenset({RETRYING, CRASHED, CANCELLED}),
    CANCELLING: frozenset({CANCELLED, CRASHED, COMPLETED, FAILED}),
    COMPLETED: frozenset({RUNNING, ROLLED_BACK}),
    CACHED: frozenset({RUNNING, ROLLED_BACK}),
    ROLLED_BACK: frozenset({RUNNING, ROLLED_BACK}),
    FAILED: frozenset({RUNNING}),
    TIMED_OUT: frozenset({RUNNING}),
    CRASHED: frozenset({RUNNING, CANCELLED}),
    CANCELLED: frozenset({RUNNING}),
}


def check_transition(before: StateKind | None, after: StateKind, what: str) -> None:
    """Raise `InvalidTransition` unless `after` may follow `before` (None: nothing recorded yet) in `what`'s history."""
    if after not in TRANSITIONS[before]:
        was = before.name if before else "no state"
        raise InvalidTransition(
            f"{what}: {after.name} may not follow {was}. Please report this: it is a bug in durable."
        )


@dataclass(frozen=True)
class State(Generic[R]):
    """What a run ended in, as ``return_state=True`` hands it out. Borrowed from Prefect 3's ``State``.

    Attributes:
        kind: the row of `STATES` it is.
        message: one line for people; empty where there is nothing to say.
        timestamp: when it was entered, aware, UTC; None for a state made by hand.
        run_id: id of the task run or flow run it belongs to, or None.
    """

    __durable_upstream__ = True  # as an argument it stands for its value: see durable.upstream

    kind: StateKind
    message: str = ""
    timestamp: datetime | None = None
    run_id: str | None = None
    data: Any = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The state's name, such as ``"TimedOut"``."""
        return self.kind.name

    @property
    def type(self) -> StateType:
        """The state's type, such as ``StateType.FAILED``."""
        return self.kind.type

    def is_completed(self) -> bool:
        """Whether the run ended well."""
        return self.type is StateType.COMPLETED

    def is_failed(self) -> bool:
        """Whether the run ended in an exception (or timed out)."""
        return self.type is StateType.FAILED

    def is_crashed(self) -> bool:
        """Whether the run was cut off: its process died, was interrupted or exited."""
        return self.type is StateType.CRASHED

    def is_cancelled(self) -> bool:
        """Whether the run was cancelled."""
        return self.type is StateType.CANCELLED

    def is_running(self) -> bool:
        """Whether the run is executing now."""
        return self.type is StateType.RUNNING

    def is_pending(self) -> bool:
        """Whether the run has not begun yet."""
        return self.type is StateType.PENDING

    def is_scheduled(self) -> bool:
        """Whether the run waits for a time or a slot."""
        return self.type is StateType.SCHEDULED

    def is_final(self) -> bool:
        """Whether the run has ended."""
        return self.type in TERMINAL_TYPES

    def result(self, raise_on_failure: bool = True) -> R:  # noqa: FBT001, FBT002 - Prefect's signature
        """The run's value; a plain call in sync and async code alike (Prefect's returns a coroutine in async code).

        Args:
            raise_on_failure: raise the run's exception if it failed; False returns the exception instead.

        Raises:
            CancelledRun: the run was called off.
            Exception: the run's own, or `TaskFailed` where a run that did not complete left none.
        """
        if self.is_completed():
            return self.data  # type: ignore[no-any-return]  # the caller's R
        if isinstance(self.data, BaseException):
            failure = self.data
        elif self.is_cancelled():
            failure = CancelledRun(f"run {self.run_id[:7]}" if self.run_id else "the run", self.message)
        else:
            failure = TaskFailed(self.name, self.message)
        if raise_on_failure:
            raise failure
        return failure  # type: ignore[return-value]  # Prefect's contract for raise_on_failure=False

    def __str__(self) -> str:
        shown = f"type={self.type.value}" if self.name.upper() != self.type.value else ""
        return f"{self.name}({', '.join(filter(None, [repr(self.message) if self.message else '', shown]))})"
