"""The life of one flow call: which run it is, taking it over, and how it ends.

The same contract with its driver as `durable.call.Call`. A root call first settles which flow run it is
(`durable.resume`) and takes its lock; a subflow is identified like a task, lives under its root's lock, and follows the
same rules for what is history and what gets a new chance.
"""

from __future__ import annotations

import os
from contextvars import Token
from typing import Any

from durable.clock import as_datetime, clock
from durable.definitions import FlowDefinition
from durable.errors import JournalError, NotSerializable, TerminationSignal
from durable.interrupts import Interrupts
from durable.journal import Entry, FlowRecord, Journal, Outcome
from durable.keys import digest
from durable.logs import flow_log, root_log
from durable.outcomes import interruption, message_of, of_exception, of_value, restore, without_engine
from durable.ownership import RunLock
from durable.phrases import counted, duration, moment
from durable.resume import Choice, Request, choose
from durable.runs import FlowRun, Scope, current
from durable.states import (
    AWAITING_RETRY,
    COMPLETED,
    CRASHED,
    FAILED,
    RETRYING,
    RUNNING,
    State,
    StateKind,
    StateType,
    check_transition,
)

_IN_FLIGHT = frozenset({RUNNING, RETRYING, AWAITING_RETRY})


class FlowCall:
    """One call of a flow. Attributes and methods as `durable.call.Call` documents them."""

    __slots__ = (
        "_identity",
        "_interrupts",
        "_is_root",
        "_key",
        "_lock",
        "_parameters",
        "_parameters_digest",
        "_parent",
        "_return_state",
        "_seq",
        "_token",
        "_value",
        "args",
        "at",
        "definition",
        "delay",
        "done",
        "error",
        "journal",
        "kind",
        "kwargs",
        "message",
        "propagates",
        "run",
    )

    def __init__(
        self,
        definition: FlowDefinition,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        parent: Scope | None,
        journal: Journal,
        *,
        return_state: bool = False,
    ) -> None:
        self._parameters = definition.parameters(args, kwargs)
        self._parameters_digest = digest("parameters", self._parameters)
        self._parent = parent
        # A subflow is identified when it is called, like a task; with an idempotency key it is that key's run instead.
        # A flow called in a task outside any flow is a root: there is no run it could be part of.
        self._identity: bytes | None = None
        self._is_root = parent is None or parent.flow_run is None
        if parent is not None and not self._is_root and definition.options.idempotency_key is None:
            self._identity, _ = parent.identify(definition.key, self._parameters)
        self.definition = definition
        self.args = args
        self.kwargs = kwargs
        self.journal = journal
        self.done = False
        self.propagates = False
        self.delay = 0.0
        self.kind: StateKind | None = None
        self.message = ""
        self.at = 0
        self.error: BaseException | None = None
        self.run: FlowRun | None = None
        self._key: bytes | None = None
        self._return_state = return_state
        self._seq = 0
        self._value: Any = None
        self._lock: RunLock | None = None
        self._interrupts = Interrupts()

    # What a driver calls, in this order.

    def replay(self) -> Entry | None:
        """Settle which run this is. Continues it, begins it, or sets `done` with what is recorded of it."""
        row = self.journal.flow_row(self.definition.key, self.definition.name, self.definition.function)
        while True:
            choice = self._choose(row)
            if choice.record is None:
                if self._begin(row):
                    return None
                continue  # another process has just taken the idempotency key
            self._lock = choice.lock
            if self._give_recorded(choice.record):
                return None
            return self._take_over(choice.record)

    def started(self) -> Entry | None:
        """The body begins. What is recorded of it was recorded when the run was settled."""
        assert self.run is not None  # noqa: S101 - replay has settled it
        self.run.open()
        return None

    def enter(self) -> None:
        """The body begins: calls made from here on belong to this run, and signals are watched."""
        self._token: Token[Scope | None] = current.set(self.run)
        if self._is_root:
            self._interrupts.watch(_canceller() if self.definition.is_async else None)

    def leave(self) -> None:
        """The body has ended."""
        if self._is_root:
            self._interrupts.release()
        current.reset(self._token)

    def returned(self, value: Any) -> Entry | None:
        """The body returned `value`."""
        self.done = True
        self._value = value
        if self.journal.is_inherited:  # a forked child has come back from its parent's body
            return None
        try:
            outcome: Outcome | None = Outcome(*of_value(value, "durable", self.definition.where))
        except NotSerializable as error:
            if self._identity is not None or self.definition.options.idempotency_key is not None:
                self.error = error
                return self._ends(FAILED, message_of(error), of_exception(error))
            # Nobody will ever ask the journal for this run's value, so a finished night's work is not failed for it.
            outcome = None
            root_log.warning("the flow's own result is not recorded: %s", error)
        return self._ends(COMPLETED, None, outcome)

    def raised(self, error: BaseException) -> Entry | None:
        """The body raised `error`."""
        without_engine(error)
        self.done = self.propagates = True
        if isinstance(error, JournalError) or self.journal.is_inherited:
            return None
        if not isinstance(error, Exception):
            reason = self._interrupts.reason
            if reason == "termination" and type(error).__name__ == "CancelledError":
                self.error, self.propagates = TerminationSignal(), False
            return self._ends(CRASHED, interruption(error, reason))
        self.error = error
        self.propagates = not self._return_state
        return self._ends(FAILED, message_of(error), of_exception(error))

    def outcome(self) -> Any:
        """The value, the exception (raised), or either as a `State`."""
        if self.error is not None and (not self._return_state or not isinstance(self.error, Exception)):
            raise self.error
        return self.state() if self._return_state else self._value

    def close(self) -> None:
        """The call has ended: whoever resumes the run may have it."""
        if self._lock is not None:
            self._lock.release()

    def state(self) -> State[Any]:
        """Where the call stands, with its value or exception."""
        assert self.kind is not None  # noqa: S101 - a driver asks after the first transition
        return State(
            self.kind,
            self.message,
            as_datetime(self.at),
            self._key.hex() if self._key is not None else None,
            self.error if self.error is not None else self._value,
        )

    # How it goes on.

    def _choose(self, row: int) -> Choice:
        if self._identity is None:
            return choose(Request(self.journal, self.definition, row, self._parameters_digest, self.definition.options))
        assert self._parent is not None  # noqa: S101 - only a subflow has an identity
        return Choice(self.journal.find_flow_run(self._identity) if self._parent.has_history else None)

    def _begin(self, row: int) -> bool:
        """Begin a new run. False if its idempotency key was taken in the meantime."""
        parent, key = self._parent, self._identity or os.urandom(16)
        if self._identity is None:
            self._lock = RunLock(self.journal.path, key)
            self._lock.acquire()
        flow_run = parent.flow_run if parent is not None else None
        entry = self.journal.flow_run_begins(
            key,
            row,
            (flow_run.id if flow_run is not None else None, parent.row if parent is not None else None),
            RUNNING,
            self._parameters,
            self._parameters_digest,
            self.definition.options.idempotency_key,
        )
        self.journal.commit(entry)
        record = self.journal.find_flow_run(key)
        if record is None:
            self.close()
            return False
        self.kind, self._key = RUNNING, key
        self.run = FlowRun(self.journal, key, record.id, self.definition.name, self._parameters_digest)
        self.run.mark = parent.mark if parent is not None else 0
        self._log("Beginning flow run %s", self.run.name)
        return True

    def _give_recorded(self, record: FlowRecord) -> bool:
        """Give the run's recorded end, if it has one that counts."""
        if record.state.type is StateType.COMPLETED and record.result_id is not None:
            self._value = restore(self.journal.outcome(record.result_id), f"flow run {record.key.hex()[:7]}")
        elif self._identity is not None and record.state.type is StateType.FAILED and self._is_history(record):
            self.error = restore(self.journal.outcome(record.result_id or 0), f"flow run {record.key.hex()[:7]}")
        else:
            return False
        self.kind, self.done, self._key = record.state, True, record.key
        self.at, self.message = record.at, record.message or ""
        return True

    def _is_history(self, record: FlowRecord) -> bool:
        assert self._parent is not None  # noqa: S101 - asked of subflows only
        return (record.result_id or 0) > self._parent.mark

    def _take_over(self, record: FlowRecord) -> Entry:
        """Continue a run that did not complete."""
        run = self.run = FlowRun(self.journal, record.key, record.id, self.definition.name, self._parameters_digest)
        parent_mark = self._parent.mark if self._parent is not None else 0
        run.mark = max(parent_mark, self.journal.last_failure(record.id))
        run.has_a_past()
        self._seq, self.kind, self._key = record.seq, record.state, record.key
        count, took = self.journal.restored(record.id)
        if self._identity is None:
            root_log.info(
                "resuming %s, begun %s: %s restored, %s saved",
                run.name,
                moment(record.begun, clock().now()),
                counted(count, "task"),
                duration(took),
            )
        if record.state in _IN_FLIGHT:
            died = f"Process {record.pid} on {record.host} died; found when the run was resumed."
            return self._enters((CRASHED, died), (RUNNING, None))
        return self._enters((RUNNING, None))

    def _ends(self, kind: StateKind, message: str | None, outcome: Outcome | None = None) -> Entry:
        self.message = message or ""
        entry = self._enters((kind, message), outcome=outcome)
        self._log("Finished in state %s", self.state())
        return entry

    def _enters(self, *states: tuple[StateKind, str | None], outcome: Outcome | None = None) -> Entry:
        assert self.run is not None  # noqa: S101 - a run that is not settled enters nothing
        for kind, _ in states:
            check_transition(self.kind, kind, self.run.name)
            self.kind = kind
        seq = self._seq + 1
        self._seq += len(states)
        entry = self.journal.flow_run_enters(self.run.id, seq, states, outcome)
        self.at = entry.at
        return entry

    def _log(self, message: str, *args: Any) -> None:
        if self.run is not None:
            flow_log.info(message, *args, extra={"flow_run": self.run.name, "task_run": None})


def _canceller() -> Any:
    """What stops the running asyncio task from a signal handler."""
    from asyncio import current_task, get_running_loop  # an async flow is running, so this is a look-up

    task, loop = current_task(), get_running_loop()
    return lambda: loop.call_soon_threadsafe(task.cancel) if task is not None else None
