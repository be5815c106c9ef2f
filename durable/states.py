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

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Final, Generic, NamedTuple, TypeGuard, TypeVar, overload

from durable.errors import CancelledRun, InvalidTransition, TaskFailed, UnfinishedRun

__all__ = [
    "AwaitingRetry",
    "Cancelled",
    "Cancelling",
    "Completed",
    "Crashed",
    "Failed",
    "Pending",
    "Retrying",
    "Running",
    "Scheduled",
    "State",
    "StateType",
    "get_state_exception",
    "is_state",
    "raise_state_exception",
]

R = TypeVar("R", covariant=True)  # noqa: PLC0105 - it is State[R] to those who read it
T = TypeVar("T")


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

    __hash__ = str.__hash__  # the same number as Enum's own, which every transition would compute in Python


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


@dataclass(frozen=True, init=False, repr=False, eq=False)  # its methods would be compiled at every import
class State(Generic[R]):
    """What a run ended in, as ``return_state=True`` hands it out. Borrowed from Prefect 3's ``State``.

    To make one by hand, call `Completed`, `Failed` and so on.

    Attributes:
        kind: its name and type.
        message: one line for people; empty where there is nothing to say.
        timestamp: when it was entered, aware, UTC; None for a state made by hand.
        run_id: id of the task run or flow run it belongs to; None for a state made by hand.
        data: the run's value or exception. Ask `result` for it.
    """

    __durable_upstream__ = True  # as an argument it stands for its value: see durable.upstream

    kind: StateKind
    message: str = ""
    timestamp: datetime | None = None
    run_id: str | None = None
    data: Any = None

    def __init__(
        self,
        kind: StateKind,
        message: str = "",
        timestamp: datetime | None = None,
        run_id: str | None = None,
        data: Any = None,
    ) -> None:
        self.__dict__.update(kind=kind, message=message, timestamp=timestamp, run_id=run_id, data=data)

    def _fields(self) -> tuple[Any, ...]:
        return self.kind, self.message, self.timestamp, self.run_id, self.data

    def __eq__(self, other: object) -> bool:
        return self._fields() == other._fields() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._fields())

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
        return self.kind.type is StateType.COMPLETED

    def is_failed(self) -> bool:
        """Whether the run ended in an exception (or timed out)."""
        return self.kind.type is StateType.FAILED

    def is_crashed(self) -> bool:
        """Whether the run was cut off: its process died, was interrupted or exited."""
        return self.kind.type is StateType.CRASHED

    def is_cancelled(self) -> bool:
        """Whether the run was cancelled."""
        return self.kind.type is StateType.CANCELLED

    def is_running(self) -> bool:
        """Whether the run is executing now."""
        return self.kind.type is StateType.RUNNING

    def is_pending(self) -> bool:
        """Whether the run has not begun yet."""
        return self.kind.type is StateType.PENDING

    def is_scheduled(self) -> bool:
        """Whether the run waits for a time or a slot."""
        return self.kind.type is StateType.SCHEDULED

    def is_final(self) -> bool:
        """Whether the run has ended."""
        return self.kind.type in TERMINAL_TYPES

    def result(self, raise_on_failure: bool = True) -> R:  # noqa: FBT001, FBT002 - Prefect's signature
        """The run's value; a plain call in sync and async code alike (Prefect's returns a coroutine in async code).

        Args:
            raise_on_failure: raise the run's exception if it failed; False returns the exception instead.

        Raises:
            CancelledRun: the run was called off.
            UnfinishedRun: the run has not ended.
            Exception: the run's own, or `TaskFailed` where a run that did not complete left none.
        """
        if self.is_completed():
            return self.data  # type: ignore[no-any-return]  # the caller's R
        failure = self._failure()
        if raise_on_failure:
            raise failure
        return failure  # type: ignore[return-value]  # Prefect's contract for raise_on_failure=False

    def _failure(self) -> BaseException:
        """Why there is no value."""
        data = self.data
        if isinstance(data, BaseException):
            return data
        run = f"run {self.run_id[:7]}" if self.run_id else "the run"
        if not self.is_final():
            return UnfinishedRun(run, f"{self.message or 'it has not ended'} (it is {self.name})")
        inner = data if isinstance(data, (list, tuple)) else (data,)
        for state in inner:
            if isinstance(state, State) and not state.is_completed():
                return state._failure()  # noqa: SLF001 - of this very class
        text = data if isinstance(data, str) else self.message
        if self.is_cancelled():
            return CancelledRun(f"{run} has no result: {text or 'it was cancelled.'}")
        return TaskFailed(self.name, text)

    def __repr__(self) -> str:
        return f"{self.name}(message={self.message!r}, type={self.type.value})"  # its data may be large, or a secret

    def __str__(self) -> str:
        shown = f"type={self.type.value}" if self.name.upper() != self.type.value else ""
        return f"{self.name}({', '.join(filter(None, [repr(self.message) if self.message else '', shown]))})"


# States made by hand. A flow or task that returns one ends in it; with a name of one's own the state is shown under it.

_SCHEDULED: Final = StateKind("Scheduled", StateType.SCHEDULED, AWAITING_RETRY.code)


def _made(base: StateKind, message: str, data: Any, name: str | None) -> State[Any]:
    same = (kind for kind in STATES if kind.name == name and kind.type is base.type)
    kind = base if name is None else next(same, StateKind(name, base.type, base.code))
    return State(kind, message, data=data)


@overload
def Completed(*, message: str = "", name: str | None = None) -> State[None]: ...
@overload
def Completed(*, data: T, message: str = "", name: str | None = None) -> State[T]: ...
def Completed(*, message: str = "", data: Any = None, name: str | None = None) -> Any:
    """A state to return: the run completes, and its value is `data`. Borrowed from Prefect 3, as its siblings are.

    Args:
        message: one line for people; recorded with the run.
        data: the value.
        name: a name of one's own, such as ``"Skipped"``. The journal knows the run as Completed, and has the name in
            its message.
    """
    return _made(COMPLETED, message, data, name)


def Failed(*, message: str = "", data: Any = None, name: str | None = None) -> State[Any]:
    """A state to return: the run fails, and is retried as if it had raised.

    Args:
        message: why; recorded with the run.
        data: the exception to raise; without one a `TaskFailed` with the message (or with `data`, if that is a str).
        name: a name of one's own; see `Completed`.
    """
    return _made(FAILED, message, data, name)


def Crashed(*, message: str = "", data: Any = None, name: str | None = None) -> State[Any]:
    """A state to return: the run was cut off. It is not retried, and a resume runs it again. Arguments as in
    `Failed`.
    """
    return _made(CRASHED, message, data, name)


def Cancelled(*, message: str = "", data: Any = None, name: str | None = None) -> State[Any]:
    """A state to return: the run was called off. It is not retried; a cancelled flow run is not continued, a cancelled
    task run in another is run again by a resume. Arguments as in `Failed`.
    """
    return _made(CANCELLED, message, data, name)


def Cancelling(*, message: str = "", name: str | None = None) -> State[Any]:
    """The state of a run that is being called off. It is no end of a run. Arguments as in `Completed`."""
    return _made(CANCELLING, message, None, name)


def Pending(*, message: str = "", name: str | None = None) -> State[Any]:
    """The state of a run that has not begun. It is no end of a run. Arguments as in `Completed`."""
    return _made(PENDING, message, None, name)


def Running(*, message: str = "", name: str | None = None) -> State[Any]:
    """The state of a run that executes. It is no end of a run. Arguments as in `Completed`."""
    return _made(RUNNING, message, None, name)


def Retrying(*, message: str = "", name: str | None = None) -> State[Any]:
    """The state of a run that executes once more. It is no end of a run. Arguments as in `Completed`."""
    return _made(RETRYING, message, None, name)


def Scheduled(*, message: str = "", name: str | None = None) -> State[Any]:
    """The state of a run that waits for a time. It is no end of a run. Arguments as in `Completed`."""
    return _made(_SCHEDULED, message, None, name)


def AwaitingRetry(*, message: str = "", name: str | None = None) -> State[Any]:
    """The state of a run that waits for its next attempt. It is no end of a run. Arguments as in `Completed`."""
    return _made(AWAITING_RETRY, message, None, name)


def is_state(value: object) -> TypeGuard[State[Any]]:
    """Whether a value is a state. Borrowed from Prefect 3."""
    return isinstance(value, State)


def get_state_exception(state: State[Any]) -> BaseException:
    """The exception that asking a state for its result raises. A plain call, unlike Prefect 3's.

    Raises:
        ValueError: the run completed.
    """
    if state.is_completed():
        raise ValueError(f"expected a state that did not complete, found {state}")
    failure: BaseException = state.result(raise_on_failure=False)
    return failure


def raise_state_exception(state: State[Any]) -> None:
    """Raise what a state's result raises; nothing, if the run completed. A plain call, unlike Prefect 3's.

    Raises:
        UnfinishedRun: the run has not ended.
        Exception: the run's own.
    """
    if not state.is_completed():
        state.result()
