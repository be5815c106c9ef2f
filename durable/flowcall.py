"""The life of one flow call: which run it is, taking it over, and how it ends.

The same contract with its driver as `durable.call.Call`. A root call first settles which flow run it is
(`durable.resume`) and takes its lock; a subflow is identified like a task, lives under its root's lock, and follows the
same rules for what is history and what gets a new chance.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from durable import views
from durable.clock import as_datetime, clock
from durable.codec import canonical_digest_abridged
from durable.definitions import FlowDefinition
from durable.errors import FlowRunTimeoutError, NotSerializable, TerminationSignal
from durable.execution import SLOTS, Execution
from durable.interrupts import Interrupts
from durable.journal import Entry, FlowRecord, Journal, Outcome
from durable.journal.rollbacks import Run
from durable.keys import digest
from durable.logs import flow_log, root_log
from durable.outcomes import (
    interruption,
    message_of,
    of_exception,
    of_value,
    restore,
)
from durable.ownership import RunLock
from durable.phrases import counted, duration, moment
from durable.resume import Choice, Request, choose
from durable.runs import FlowRun, Scope
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


_DIED = "Its process died; found when the run was resumed."


class FlowCall(Execution):
    """One call of a flow. Attributes as in `Execution`."""

    __slots__ = (
        *SLOTS,
        "_found_dead",
        "_identity",
        "_interrupts",
        "_is_root",
        "_key",
        "_lock",
        "_parameters",
        "_parameters_digest",
        "_parent",
        "_row",
        "journal",
        "run",
    )

    late = FlowRunTimeoutError
    noun = "Flow run"

    definition: FlowDefinition

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
        self._prepare(definition, args, kwargs, return_state=return_state)
        self._parameters = definition.parameters(args, kwargs)
        self._parameters_digest = digest("parameters", self._parameters)
        self._parent = parent
        # A subflow is identified when it is called, like a task; with an idempotency key it is that key's run instead.
        # A flow called in a task outside any flow is a root: there is no run it could be part of.
        self._identity: bytes | None = None
        self._is_root = parent is None or parent.flow_run is None
        if parent is not None and not self._is_root and definition.options.idempotency_key is None:
            self._identity, _ = parent.identify(definition.key, self._parameters)
        if not definition.options.record_inputs:
            self._parameters = canonical_digest_abridged(self._parameters)
        self.journal = journal
        self.run: FlowRun | None = None
        self._key: bytes | None = None
        self._lock: RunLock | None = None
        self._interrupts = Interrupts()
        self._found_dead = False
        self._row = 0

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
        """The body begins. The first time, what is recorded of it was recorded when the run was settled."""
        assert self.run is not None  # noqa: S101 - replay has settled it
        self.run.open()
        self.attempt += 1
        return self._begins_again() if self._failure is not None else None

    def enter(self) -> None:
        """The body begins: calls made from here on belong to this run, and signals are watched."""
        if self._is_root:
            self._interrupts.watch(_canceller() if self.definition.is_async else None)
        assert self.run is not None  # noqa: S101 - replay has settled it
        self._enter(self.run)

    def leave(self) -> None:
        """The body has ended. May be called again, should a signal handler have raised in here."""
        if self._is_root:
            self._interrupts.release()
        super().leave()

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

    def close(self) -> None:
        """The call has ended: whoever resumes the run may have it."""
        if self._lock is not None:
            self._lock.release()

    @property
    def run_key(self) -> bytes | None:
        """The flow run's id (16 bytes), once it is settled."""
        return self._key

    def as_run(self) -> Run | None:
        """Where it is recorded; None of another call's run, whose result an idempotency key gave."""
        return Run(True, self._row, None) if self._row else None

    def due(self) -> Iterator[Any]:
        """Tell the hooks of the state just recorded, and of the crash that was found with it."""
        if self._found_dead:
            self._found_dead = False
            yield from self._tell(CRASHED, State(CRASHED, _DIED, as_datetime(self.at), self.state().run_id))
        yield from super().due()

    def view(self) -> views.FlowRun:
        """The flow run, as users are told of it."""
        assert self.run is not None  # noqa: S101 - asked of a run that is settled
        parent = self._parent.flow_run if self._parent is not None else None
        return views.FlowRun(
            id=self.run.key.hex(),
            name=self.run.name,
            flow_name=self.definition.name,
            parent_flow_run_id=parent.key.hex() if parent is not None else None,
            run_count=self.attempt,
            parameters=self.definition.parameters_of(self.args, self.kwargs),
            tags=self._tags,
        )

    # How it goes on.

    def _meaning(self, error: BaseException) -> BaseException:
        """As in `Execution`; a cancellation by SIGTERM is a termination."""
        if self._interrupts.reason == "termination" and type(error).__name__ == "CancelledError":
            return TerminationSignal()
        return super()._meaning(error)

    def _interruption(self, error: BaseException) -> str:
        return interruption(error, self._interrupts.reason)

    def _retrying(self) -> None:
        """What failed before has a new chance, what completed is looked up."""
        assert self.run is not None  # noqa: S101 - it has run once
        assert self._failure is not None  # noqa: S101 - and failed
        self.run.mark = self._failure.rowid
        self.run.has_a_past()
        self._log("Retry %s/%s, after %s", self._retries, self.definition.options.retries.count, self.message)

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
        self.kind, self._key = RUNNING, key
        run = self._becomes(key, 0)
        label = self._label(run, frozenset())
        flow_run = parent.flow_run if parent is not None else None
        entry = self.journal.flow_run_begins(
            key,
            row,
            (flow_run.id if flow_run is not None else None, parent.row if parent is not None else None),
            RUNNING,
            self._parameters,
            self._parameters_digest,
            self.definition.options.idempotency_key,
            label,
        )
        self.journal.commit(entry)
        record = self.journal.find_flow_run(key)
        if record is None:
            self.close()
            return False
        run.id, run.own_name = record.id, label.name
        self._row = record.id
        run.mark = parent.mark if parent is not None else 0
        self._log("Beginning flow run %s", run.name)
        return True

    def _becomes(self, key: bytes, row: int) -> FlowRun:
        """The call executes that run."""
        run = self.run = FlowRun(self.journal, key, row, self.definition.name, self._parameters_digest)
        own, parent = self.definition.options.log_prints, self._parent
        run.log_prints = own if own is not None else parent is not None and parent.log_prints
        run.describe = self.view
        run.called_in = parent
        return run

    def _give_recorded(self, record: FlowRecord) -> bool:
        """Give the run's recorded end, if it has one that counts."""
        if record.state.type is StateType.COMPLETED and record.result_id is not None:
            self._value = restore(self.journal.outcome(record.result_id), f"flow run {record.key.hex()[:7]}")
        elif self._identity is not None and record.state.type is StateType.FAILED and self._is_history(record):
            self.error = restore(self.journal.outcome(record.result_id or 0), f"flow run {record.key.hex()[:7]}")
        else:
            return False
        self._row = record.id if self._identity is not None else 0
        self.kind, self.done, self._key = record.state, True, record.key
        self._told = self.kind, self._seq  # what is only replayed is not told again
        self.at, self.message = record.at, record.message or ""
        return True

    def _is_history(self, record: FlowRecord) -> bool:
        assert self._parent is not None  # noqa: S101 - asked of subflows only
        return (record.result_id or 0) > self._parent.mark

    def _take_over(self, record: FlowRecord) -> Entry:
        """Continue a run that did not complete."""
        run = self._becomes(record.key, record.id)
        run.own_name = record.name
        parent_mark = self._parent.mark if self._parent is not None else 0
        run.mark = max(parent_mark, self.journal.last_failure(record.id))
        run.has_a_past()
        self._row = record.id
        self._retries = self.journal.failed_flow_attempts(record.id)
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
            self._found_dead = True
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
