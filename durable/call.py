"""The life of one task call, as a passive object.

Contract with its driver. A driver (see `durable.drivers`) runs the user's function and waits; a `Call` decides and
composes what is recorded, and does neither. The driver calls `replay` once; then, until `done`, `started` and either
`returned` or `caught` and `raised`, each followed by committing the entry it returned, if any, and then by the hooks
that `due` holds. `enter` and `leave` enclose the body.
When `raised` leaves `propagates` set, the driver re-raises the exception it holds; when not `done`, it waits `delay`
seconds and goes round. `outcome` gives the end. `close` is called last, whatever happened.

No method waits, sleeps, runs the user's task or knows whether the task is sync or async, so every policy exists once.

Rules:

1. What is returned or raised to the caller is committed first; the driver may not look at `outcome` before.
2. A start is committed before the body runs.
3. An error of durable's own is no failure of the task: it is recorded if it can be, never retried.
4. Being interrupted (KeyboardInterrupt, SystemExit, cancellation) is a crash, not a failure: never retried here, and
   run again by a resume.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from durable.clock import clock
from durable.codec import canonical_digest_abridged
from durable.definitions import TaskDefinition
from durable.errors import NotSerializable, TaskRunTimeoutError
from durable.execution import SLOTS, Execution
from durable.journal import Entry, Journal, Outcome, Place, TaskRecord
from durable.journal.rollbacks import Run
from durable.logs import task_log
from durable.outcomes import (
    message_of,
    of_exception,
    of_value,
)
from durable.recall import Asked, recall, recorded_source
from durable.runs import FlowRun, Scope
from durable.states import (
    AWAITING_RETRY,
    CACHED,
    COMPLETED,
    CRASHED,
    FAILED,
    RETRYING,
    RUNNING,
    StateKind,
    StateType,
    check_transition,
)
from durable.transactions.block import Transaction, any_hooks, enclosing
from durable.views import TaskRun, TaskRunContext

_IN_FLIGHT = frozenset({RUNNING, RETRYING, AWAITING_RETRY})
_making: Final = threading.RLock()


class Call(Execution, Scope):
    """One call of a task; also the scope of the calls its body makes. Attributes as in `Execution`."""

    __slots__ = (*SLOTS, "_begun", "_cache_key", "_inputs", "_name", "_occurrence", "_parent", "_record", "_unhashable")

    is_task_run = True
    late = TaskRunTimeoutError
    noun = "Task run"

    definition: TaskDefinition

    def __init__(
        self,
        definition: TaskDefinition,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        parent: Scope,
        journal: Journal,
        *,
        return_state: bool = False,
    ) -> None:
        self._inputs, self._unhashable = definition.identity_inputs(args, kwargs)
        key, self._occurrence = parent.identify(definition.key, self._inputs)
        if not definition.options.record_inputs:
            self._inputs = canonical_digest_abridged(self._inputs)
        Scope.__init__(self, key, parent.flow_run, journal)
        self._prepare(definition, args, kwargs, return_state=return_state)
        self.mark = parent.mark
        log_prints = definition.options.log_prints
        self.log_prints = parent.log_prints if log_prints is None else log_prints
        self._parent = parent
        self._name: str | None = None
        self._record: TaskRecord | None = None
        self._begun: Entry | None = None
        self._cache_key: bytes | None = None

    # What a driver calls, in this order.

    def replay(self) -> Entry | None:
        """Look for a recorded outcome; sets `done` if there is one to give."""
        parent, policy = self._parent, self.definition.policy
        if not (parent.has_history or policy.is_memo or policy.extras):
            return None
        known = recall(Asked(self.definition, parent, self.key, self._inputs, self._unhashable, self._context))
        self._cache_key = known.cache_key
        if known.record is not None:
            self._record, self.row, self.kind, self._seq = (
                known.record,
                known.record.id,
                known.record.state,
                known.record.seq,
            )
            self.has_history = True
            self._retries, self.mark = known.retries, known.mark
            self._told = known.record.state, known.record.seq  # what is only replayed is not told again
            if known.owed and self.unit is not None:
                self.unit.is_of(self.journal, self.as_run(), replayed=True)
                self.unit.owes(self.definition.options.hooks.on_rollback, self._seq)
        if known.ended:
            self.done, self._value, self.error = True, known.value, known.error
            if known.record is not None:
                self.at, self.message = known.record.at, known.record.message or ""
                run = self.flow_run
                if known.error is not None and any_hooks() and run is not None and run.has_rollbacks():
                    self.transaction()  # the hooks of what it called may be owed
            if known.cached is not None:
                return self._is_cached(known.cached)
        return None

    def started(self) -> Entry | None:
        """An attempt begins."""
        self.attempt += 1
        self.open()
        if self._failure is not None:
            return self._begins_again()
        if self._record is None:
            self.kind = RUNNING
            self._begun = self.journal.task_run_begins(self._place(), RUNNING)
            self.at = self._begun.at
            return self._begun
        row = self.definition.row(self.journal)
        source = row if row != recorded_source(self.journal, self._record) else None
        if self._record.state in _IN_FLIGHT:
            died = "Its process died while it ran; found when the run was resumed."
            return self._enters((CRASHED, died), (RUNNING, None), source=source)
        return self._enters((RUNNING, None), source=source)

    def enter(self) -> None:
        """The body begins: calls made from here on are made in this task run."""
        if self.row is None and self._begun is not None:
            self.row = self._begun.rowid
        self._enter(self)

    def returned(self, value: Any) -> Entry | None:
        """The body returned `value`."""
        definition = self.definition
        self.done = True
        if self.journal.is_inherited:  # a forked child has come back from its parent's body
            self._value = value
            return None
        outcome: Outcome | None = None
        if definition.options.persist_result:
            try:
                format_, payload = of_value(value, definition.options.result_serializer, definition.where)
            except NotSerializable as error:
                self.error = error
                return self._ends(FAILED, message_of(error), of_exception(error))
            outcome = Outcome(format_, payload, self._cache_key, self._expiry())
        self._value = value
        return self._ends(COMPLETED, None, outcome)

    def close(self) -> None:
        """The call has ended; drop what only the body needed."""
        self.args, self.kwargs = (), {}

    # How it goes on.

    def transaction(self) -> Transaction:
        """Its part in the transaction around it, made now if nothing needed one before."""
        with _making:
            if self.unit is None:
                self.unit = Transaction.around_run(enclosing(self._parent))
            return self.unit

    def as_run(self) -> Run | None:
        """Where it is recorded; None of one found cached, whose effect is another's."""
        flow_run = self.flow_run
        return Run(False, self.row, flow_run.id if flow_run is not None else None) if self.row is not None else None

    @property
    def run_key(self) -> bytes:
        """The task run's id (16 bytes)."""
        return self.key

    def _expiry(self) -> int | None:
        seconds = self.definition.options.cache_expiration
        return None if seconds is None else clock().now() + round(seconds * 1_000_000)

    def _context(self) -> TaskRunContext:
        view = self.view()
        return TaskRunContext(self.definition.owner, view, view.parameters, self._inputs, self._unhashable)

    def view(self) -> TaskRun:
        """The task run, as users are told of it."""
        earlier = self.journal.executions(self._record.id) if self._record is not None else 0
        return TaskRun(
            id=self.key.hex(),
            name=self.name,
            task_name=self.definition.name,
            flow_run_id=self.flow_run.key.hex() if self.flow_run is not None else None,
            run_count=earlier or self.attempt,
            parameters=self.definition.parameters_of(self.args, self.kwargs),
            tags=self.definition.tags | self._tags,
        )

    def recorded(self, key: bytes) -> TaskRecord | None:
        """The record of a call made in this body. A retry looks its calls up one by one: a window would be stale."""
        if not self.has_history:
            return None
        run: FlowRun | None = self.flow_run if self.attempt == 1 else None
        return run.recorded(key) if run is not None and run.has_history else self.journal.find_task_run(key)

    @property
    def name(self) -> str:
        """How people call this task run: its own name, or the task's and three digits of its id, as in Prefect 3."""
        return self._name or f"{self.definition.name}-{self.key.hex()[:3]}"

    def _place(self) -> Place:
        flow_run, label = self.flow_run, self._label(self, self.definition.tags)
        self._name = label.name
        return Place(
            self.key,
            self.definition.row(self.journal),
            flow_run.id if flow_run is not None else None,
            self._parent.row,
            self._occurrence,
            self._inputs,
            label,
        )

    def _is_cached(self, result_id: int) -> Entry:
        self.kind = CACHED
        entry = self.journal.task_run_ends_at_once(self._place(), CACHED, result_id=result_id)
        self.at = entry.at
        return entry

    def _retrying(self) -> None:
        """What the body's calls failed at before has a new chance (rule 3 of `durable.runs`)."""
        assert self._failure is not None  # noqa: S101 - there was one
        self.mark = self._failure.rowid
        self.has_history = True
        if task_log.isEnabledFor(30):
            retry = f"{self._retries}/{self.definition.options.retries.count}"
            task_log.warning("Retry %s, after %s", retry, self.message, extra=self._log_fields())

    def _ends(self, kind: StateKind, message: str | None, outcome: Outcome | None = None) -> Entry:
        self.message = message or ""
        entry = self._enters((kind, message), outcome=outcome, synced=kind is not CRASHED)
        if self.unit is not None and kind.type is StateType.FAILED:
            self.unit.is_of(self.journal, self.as_run(), replayed=False)
            self.unit.failing(entry)
        if task_log.isEnabledFor(10):
            task_log.debug("Finished in state %s", self.state(), extra=self._log_fields())
        return entry

    def _enters(
        self,
        *states: tuple[StateKind, str | None],
        outcome: Outcome | None = None,
        synced: bool = False,
        source: int | None = None,
    ) -> Entry:
        for kind, _ in states:
            check_transition(self.kind, kind, self.definition.name)
            self.kind = kind
        if self.row is None:
            assert self._begun is not None  # noqa: S101 - a call has a row, or has just begun
            self.row = self._begun.rowid
        seq = self._seq + 1
        self._seq += len(states)
        entry = self.journal.task_run_enters(self.row, seq, states, outcome, synced=synced, source=source)
        self.at = entry.at
        return entry

    def _log_fields(self) -> dict[str, str | None]:
        return {"task_run": self.name, "flow_run": self.flow_run.name if self.flow_run is not None else None}
