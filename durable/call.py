"""The life of one task call, as a passive object.

Contract with its driver. A driver (see `durable.drivers`) runs the user's function and waits; a `Call` decides and
composes what is recorded, and does neither. The driver calls `replay` once; then, until `done`, `started` and one of
`returned` or `raised`, each followed by committing the entry it returned, if any. `enter` and `leave` enclose the body.
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

from contextvars import Token
from typing import Any

from durable.clock import as_datetime
from durable.definitions import TaskDefinition
from durable.errors import JournalError, NotSerializable
from durable.journal import Entry, Journal, Outcome, TaskRecord
from durable.logs import task_log
from durable.options import TaskOptions
from durable.outcomes import (
    interruption,
    is_ours,
    message_of,
    of_exception,
    of_value,
    without_engine,
)
from durable.recall import Asked, recall, recorded_source
from durable.runs import FlowRun, Scope, current
from durable.states import (
    AWAITING_RETRY,
    CACHED,
    COMPLETED,
    CRASHED,
    FAILED,
    RETRYING,
    RUNNING,
    State,
    StateKind,
    check_transition,
)

_IN_FLIGHT = frozenset({RUNNING, RETRYING, AWAITING_RETRY})


class Call(Scope):
    """One call of a task; also the scope of the calls its body makes.

    Attributes:
        definition: the task.
        args, kwargs: the arguments, as given.
        done: the call has its outcome.
        propagates: the exception just raised is to be re-raised by the driver.
        delay: seconds to wait before the next attempt.
        kind: the newest state.
        attempt: executions of the body by this process.
    """

    __slots__ = (
        "_begun",
        "_cache_key",
        "_failure",
        "_inputs",
        "_occurrence",
        "_parent",
        "_record",
        "_retries",
        "_return_state",
        "_seq",
        "_token",
        "_unhashable",
        "_value",
        "args",
        "at",
        "attempt",
        "definition",
        "delay",
        "done",
        "error",
        "kind",
        "kwargs",
        "message",
        "propagates",
    )

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
        super().__init__(key, parent.flow_run, journal)
        self.mark = parent.mark
        self.definition = definition
        self.args = args
        self.kwargs = kwargs
        self.done = False
        self.propagates = False
        self.delay = 0.0
        self.kind: StateKind | None = None
        self.message = ""
        self.at = 0
        self.error: BaseException | None = None
        self.attempt = 0
        self._parent = parent
        self._return_state = return_state
        self._record: TaskRecord | None = None
        self._begun: Entry | None = None
        self._failure: Entry | None = None
        self._retries = 0
        self._seq = 0
        self._cache_key: bytes | None = None
        self._value: Any = None

    # What a driver calls, in this order.

    def replay(self) -> Entry | None:
        """Look for a recorded outcome; sets `done` if there is one to give."""
        parent, policy = self._parent, self.definition.policy
        if not (parent.has_history or policy.is_memo or policy.extras):
            return None
        known = recall(Asked(self.definition, parent, self.key, self._inputs, self._unhashable))
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
        if known.ended:
            self.done, self._value, self.error = True, known.value, known.error
            if known.record is not None:
                self.at, self.message = known.record.at, known.record.message or ""
            if known.cached is not None:
                return self._is_cached(known.cached)
        return None

    def started(self) -> Entry | None:
        """An attempt begins."""
        self.attempt += 1
        self.open()
        if self._failure is not None:
            return self._started_again()
        if self._record is None:
            flow_run = self.flow_run
            self.kind = RUNNING
            self._begun = self.journal.task_run_begins(
                self.key,
                self.definition.row(self.journal),
                flow_run.id if flow_run is not None else None,
                self._parent.row,
                RUNNING,
                self._occurrence,
                self._inputs,
            )
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
        self._token: Token[Scope | None] = current.set(self)

    def leave(self) -> None:
        """The body has ended."""
        current.reset(self._token)

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
            outcome = Outcome(format_, payload, self._cache_key)
        self._value = value
        return self._ends(COMPLETED, None, outcome)

    def raised(self, error: BaseException) -> Entry | None:
        """The body raised `error`."""
        without_engine(error)
        if isinstance(error, JournalError) or self.journal.is_inherited:
            self.done = self.propagates = True  # rule 3, and there is nothing to record it in
            return None
        if not isinstance(error, Exception):
            self.done = self.propagates = True
            return self._ends(CRASHED, interruption(error))
        options = self.definition.options
        if not is_ours(error) and self._retries < options.retries:
            return self._fails_for_now(error, options)
        self.done = True
        self.error = error
        self.propagates = not self._return_state
        return self._ends(FAILED, message_of(error), of_exception(error))

    def outcome(self) -> Any:
        """The value, the exception (raised), or either as a `State`. Committed before this is called."""
        if self._return_state:
            return self.state()
        if self.error is not None:
            raise self.error
        return self._value

    def close(self) -> None:
        """The call has ended; drop what only the body needed."""
        self.args, self.kwargs = (), {}

    # How it goes on.

    def state(self) -> State[Any]:
        """Where the call stands, with its value or exception."""
        assert self.kind is not None  # noqa: S101 - a driver asks after the first transition
        data = self.error if self.error is not None else self._value
        return State(self.kind, self.message, as_datetime(self.at), self.key.hex(), data)

    def recorded(self, key: bytes) -> TaskRecord | None:
        """The record of a call made in this body. A retry looks its calls up one by one: a window would be stale."""
        if not self.has_history:
            return None
        run: FlowRun | None = self.flow_run if self.attempt == 1 else None
        return run.recorded(key) if run is not None and run.has_history else self.journal.find_task_run(key)

    @property
    def name(self) -> str:
        """How people call this task run: the task's name and three digits of its id, as in Prefect 3."""
        return f"{self.definition.name}-{self.key.hex()[:3]}"

    def _is_cached(self, result_id: int) -> Entry:
        flow_run = self.flow_run
        self.kind = CACHED
        entry = self.journal.task_run_cached(
            self.key,
            self.definition.row(self.journal),
            flow_run.id if flow_run is not None else None,
            self._parent.row,
            self._occurrence,
            self._inputs,
            result_id,
        )
        self.at = entry.at
        return entry

    def _started_again(self) -> Entry | None:
        """After a failed attempt: what its calls failed at before has a new chance (rule 3 of `durable.runs`)."""
        assert self._failure is not None  # noqa: S101 - checked by the caller
        self.mark = self._failure.rowid
        if task_log.isEnabledFor(30):
            retry = f"{self._retries}/{self.definition.options.retries}"
            task_log.warning("Retry %s, after %s", retry, self.message, extra=self._log_fields())
        self.has_history = True
        return self._enters((RETRYING, None)) if self.kind is AWAITING_RETRY else None

    def _fails_for_now(self, error: Exception, options: TaskOptions) -> Entry:
        self.delay = options.delay_before_retry(self._retries)
        self._retries += 1
        kind = AWAITING_RETRY if self.delay else RETRYING
        self.message = message_of(error)
        self._failure = self._enters((kind, self.message), outcome=of_exception(error))
        return self._failure

    def _ends(self, kind: StateKind, message: str | None, outcome: Outcome | None = None) -> Entry:
        self.message = message or ""
        entry = self._enters((kind, message), outcome=outcome, synced=kind is not CRASHED)
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
