"""The life of one task call, as a passive object.

Contract with its driver. A driver (see `durable.drivers`) runs the user's function and waits; a `Call` decides and
composes what is recorded, and does neither. If the call is `gated`, the driver first waits for what `awaited` gives and
then while `locked`. It calls `replay` once; then, until `done`, `started` and either `returned` or `caught` and
`raised`, each followed by committing the entry it returned, if any, and then by the hooks that `due` holds. `enter` and
`leave` enclose the body.
When `raised` leaves `propagates` set, the driver re-raises the exception it holds; when not `done`, it waits `delay`
seconds and goes round. `outcome` gives the end. `close` is called last, whatever happened.

No method waits, sleeps, runs the user's task or knows whether the task is sync or async, so every policy exists once.

Rules:

1. What is returned or raised to the caller is committed first; the driver may not look at `outcome` before.
2. A start is committed before the body runs.
3. An error of durable's own is no failure of the task: it is recorded if it can be, never retried.
4. Being interrupted (KeyboardInterrupt, SystemExit, cancellation) is a crash, not a failure: never retried here, and
   run again by a resume.
5. A call that waits for others is identified by which they are when it is made, and by their values besides once they
   are there. If one of them did not complete, the call is recorded as NotReady and its body never begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from durable import cancelling
from durable.clock import clock
from durable.codec import canonical_digest_abridged
from durable.definitions import Counted, TaskDefinition
from durable.errors import NotSerializable, RunAbandoned, TaskRunTimeoutError, UnfinishedRun
from durable.execution import SLOTS, Execution
from durable.feeding import fed_by, yielding
from durable.forks import follow, rejoin, twin
from durable.journal import Entry, Outcome, Place, TaskRecord
from durable.journal.rollbacks import Run
from durable.logs import at, task_log
from durable.outcomes import message_of, of_exception, of_value
from durable.ownership import MemoLock
from durable.recall import Asked, Known, cache_key, recall, recorded_source
from durable.runs import FlowRun, Scope, tell_start
from durable.states import (
    AWAITING_RETRY,
    CACHED,
    CANCELLED,
    COMPLETED,
    CRASHED,
    FAILED,
    NOT_READY,
    RETRYING,
    RUNNING,
    StateKind,
    check_transition,
)
from durable.upstream import Need, Upstream, awaited, not_ready, resolved, waited_for, why_not_ready

_IN_FLIGHT = frozenset({RUNNING, RETRYING, AWAITING_RETRY})
_DIED = "Its process died while it ran; found when the run was resumed."


class Call(Execution, Scope):
    """One call of a task; also the scope of the calls its body makes. Attributes as in `Execution`, and:

    needs: what it waits for; None where its arguments are handed on as they are.
    worker: what executes it, if a task runner does.
    """

    __slots__ = (
        *SLOTS,
        "_begun",
        "_cache_key",
        "_fed_by",
        "_guard",
        "_inputs",
        "_name",
        "_occurrence",
        "parent",
        "_reason",
        "_record",
        "_unhashable",
        "_unready",
        "called_off",
        "elsewhere",
        "gated",
        "needs",
        "worker",
    )

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
        identity: tuple[Counted, bytes, int],
        wait_for: Sequence[Need],
        return_state: bool,  # noqa: FBT001 - hot path
    ) -> None:
        counted, key, self._occurrence = identity
        self._inputs, self._unhashable, self.needs = counted.inputs, counted.unhashable, counted.needs
        Scope.__init__(self, key, parent.flow_run, parent.journal)
        if parent.has_history:
            follow(self, parent, definition.key, self._inputs, self._occurrence)
        if not definition.options.record_inputs:
            self._inputs = canonical_digest_abridged(self._inputs)
        self._prepare(definition, args, kwargs, return_state=return_state)
        self.mark = parent.mark
        log_prints = definition.options.log_prints
        self.log_prints = parent.log_prints if log_prints is None else log_prints
        if wait_for:
            self.needs = (*(self.needs or ()), *wait_for)
        self.gated = self.needs is not None or definition.is_serializable
        self.called_off = False
        self.elsewhere: Any = None
        self.worker: str | None = None
        self.parent = parent
        self._name: str | None = None
        self._record: TaskRecord | None = None
        self._begun: Entry | None = None
        self._cache_key: bytes | None = None
        self._reason: str | None = None
        self._guard: MemoLock | None = None
        self._unready: Entry | None = None
        self._fed_by = fed_by(live, definition.parameters_of(args, kwargs)) if (live := yielding.get()) else ()

    # What a driver calls, in this order.

    def awaited(self) -> list[Any]:
        """The futures among its arguments that have not ended."""
        return awaited(self.needs) if self.needs else []

    def locked(self) -> bool:
        """Whether another call computes the same memo now. Takes its place if not; to be asked until it says no."""
        if self._guard is None:
            self._resolve()
            if self.done or not self.definition.is_serializable:
                return False
            self._cache_key = cache_key(self._asked())
            if self._cache_key is None:
                return False
            self._guard = MemoLock(self.journal.path, self._cache_key, self.definition.where, self.definition.is_async)
        return not self._guard.acquire()

    def replay(self) -> Entry | None:
        """Look for a recorded outcome; sets `done` if there is one to give."""
        if self.done:  # not ready
            return self._unready
        if not (self.parent.has_history or self.definition.looks_up):
            return None
        asked = self._asked()
        if self.definition.looks_up and self._guard is None:
            self._cache_key = cache_key(asked)
        known = recall(asked, self._cache_key)
        self._reason = known.reason
        if known.record is not None:
            self._take_record(known.record)
            self._retries, self.mark = known.retries, known.mark
            self._is_replayed(owed=known.owed, failed=known.error is not None)
        return self._take_end(known) if known.ended else None

    def _take_record(self, record: TaskRecord) -> None:
        self._record, self.row, self.kind, self._seq = record, record.id, record.state, record.seq
        self.has_history = True

    def _take_end(self, known: Known) -> Entry | None:
        """The recorded outcome is this call's."""
        self.done, self._value, self.error = True, known.value, known.error
        if known.record is not None:
            self.at, self.message = known.record.at, known.record.message or ""
        return None if known.cached is None else self._ends_at_once(CACHED, result_id=known.cached)

    def _asked(self) -> Asked:
        in_thread = self.worker is not None and self.elsewhere is None
        given = self._inputs, self._unhashable, self.context, twin(self), in_thread
        return Asked(self.definition, self.parent, self.key, *given)

    def _resolve(self) -> None:
        """What it waited for has ended: its arguments are values now, or it is not ready (rule 5)."""
        if self.needs is None:
            return
        failed = not_ready(self.needs)
        if failed:
            self._unready = self._is_not_ready(failed)
            return
        self.args = tuple(map(resolved, self.args))
        self.kwargs = {name: resolved(value) for name, value in self.kwargs.items()}
        before, counted = self._inputs, self.definition.identity_inputs(self.args, self.kwargs)
        self._inputs, self._unhashable = counted.inputs, counted.unhashable
        if not self.definition.options.record_inputs:
            self._inputs = canonical_digest_abridged(self._inputs)
        if any(isinstance(need.source, Upstream) for need in self.needs) and self._inputs != before:
            rejoin(self, self._inputs)

    def _is_not_ready(self, failed: list[Need]) -> Entry | None:
        reason, cause = why_not_ready(failed), failed[0].state().data
        self.error = UnfinishedRun(f"{self.noun.lower()} {self.name!r}", reason)
        self.error.__cause__ = cause if isinstance(cause, BaseException) else None
        self.done, self.message = True, reason
        record = self.parent.recorded(self.key)
        if record is None:
            return self._ends_at_once(NOT_READY, message=reason)
        self._take_record(record)
        self._is_replayed()
        self.at = record.at
        return None

    def cancelled(self) -> Entry | None:
        """It is called off before its body began, or between two attempts."""
        self.done, self.message = True, f"Cancelled before {'its next attempt' if self.attempt else 'it began'}."
        if self.attempt:
            return self._ends(CANCELLED, self.message)
        if self.parent.recorded(self.key) is None:
            return self._ends_at_once(CANCELLED, message=self.message, synced=False)
        self.kind = CANCELLED
        return None

    def started(self) -> Entry | None:
        """An attempt begins."""
        cancelling.check(self, self.flow_run)
        self.attempt += 1
        self.open()
        if self._failure is not None:
            return self._begins_again()
        if self._record is None:
            self.kind = RUNNING
            place = self._place()
            if task_log.isEnabledFor(10):
                tell_start(self, self.parent, created=True, submitted=self.worker is not None)
            self._begun = self.journal.task_run_begins(place, RUNNING)
            self.at = self._begun.at
            return self._begun
        if self.definition.options.run_name is not None:
            self._name = self.journal.task_run_name(self._record.id)
        if task_log.isEnabledFor(10):
            tell_start(self, self.parent, created=False, submitted=self.worker is not None)
        row = self.definition.row(self.journal)
        source = row if row != recorded_source(self.journal, self._record) else None
        if self.kind in _IN_FLIGHT:
            return self._enters((CRASHED, _DIED), (RUNNING, self._reason), source=source)
        return self._enters((RUNNING, self._reason), source=source)

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
            seconds = definition.options.cache_expiration
            expires = None if seconds is None else clock().now() + round(seconds * 1_000_000)
            outcome = Outcome(format_, payload, self._cache_key, expires)
        self._value = value
        return self._ends(COMPLETED, None if self._verdict is None else self._verdict.message, outcome)

    def close(self) -> None:
        """The call has ended; drop what only the body needed."""
        self.args, self.kwargs, self.needs = (), {}, None
        if self.flow_run is not None:
            self.flow_run.root.counts.count(self.attempt > 0, self.error is not None)
        if self._guard is not None:
            self._guard.release()

    # How it goes on.

    def as_run(self) -> Run | None:
        """Where it is recorded; None of one whose body never begins."""
        flow_run = self.flow_run
        return None if self.row is None else Run(False, self.row, flow_run.id if flow_run is not None else None)

    @property
    def run_key(self) -> bytes:
        """The task run's id (16 bytes)."""
        return self.key

    def context(self) -> Any:
        """The task run, to its own body and to a cache_key_fn."""
        from durable.context import TaskRunContext  # of most runs nobody is told

        view = self.view()
        return TaskRunContext(self.definition.owner, view, view.parameters, self._inputs, self._unhashable)

    def view(self) -> Any:
        """The task run, as users are told of it."""
        from durable.views import TaskRun  # see above

        earlier = self.journal.executions(self._record.id) if self._record is not None else 0
        return TaskRun(
            id=self.key.hex(),
            name=self.name,
            task_name=self.definition.name,
            flow_run_id=self.flow_run.key.hex() if self.flow_run is not None else None,
            run_count=earlier or self.attempt,
            parameters=self.definition.parameters_of(self.args, self.kwargs),
            tags=self.definition.tags | self._tags,
            task_version=self.definition.version,
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

    @property
    def callee(self) -> str | None:
        """The task's name."""
        return self.definition.name

    def _place(self) -> Place:
        flow_run, label = self.flow_run, self._label(self, self.definition.tags)
        self._name = label.name
        return Place(
            self.key,
            self.definition.row(self.journal),
            flow_run.id if flow_run is not None else None,
            self.parent.row,
            self._occurrence,
            self._inputs,
            label,
            self._reason,
            self.worker,
            self._fed_by if self.needs is None else (*waited_for(self.needs), *self._fed_by),
        )

    def _ends_at_once(
        self, kind: StateKind, *, result_id: int | None = None, message: str | None = None, synced: bool = True
    ) -> Entry:
        self.kind, self._seq, place = kind, 1, self._place()
        entry = self.journal.task_run_ends_at_once(place, kind, result_id=result_id, message=message, synced=synced)
        self.at = entry.at
        if task_log.isEnabledFor(10):
            tell_start(self, self.parent, created=True, submitted=None)
            self._log(10, "Finished in state %s", self.state())
        return entry

    def _retrying(self) -> None:
        """What the body's calls failed at before has a new chance (rule 3 of `durable.runs`)."""
        assert self._failure is not None  # noqa: S101 - there was one
        self.mark = self._failure.rowid
        self.has_history = True

    def _ends(self, kind: StateKind, message: str | None, outcome: Outcome | None = None) -> Entry:
        self.message = message or ""
        entry = self._enters((kind, message), outcome=outcome, synced=kind is not CRASHED)
        if self.unit is not None:
            self._undoes(self.unit, entry)
        if task_log.isEnabledFor(10):
            self._log(10, "Finished in state %s", self.state())
        return entry

    def _enters(
        self,
        *states: tuple[StateKind, str | None],
        outcome: Outcome | None = None,
        synced: bool = False,
        source: int | None = None,
    ) -> Entry:
        if (run := self.flow_run) is not None and run.root.abandoned:
            raise RunAbandoned(f"{self.name!r} is not recorded: flow run {run.name!r} was given up")
        for kind, _ in states:
            check_transition(self.kind, kind, self.definition.name)
            self.kind = kind
        if self.row is None:
            assert self._begun is not None  # noqa: S101 - a call has a row, or has just begun
            self.row = self._begun.rowid
        entry = self.journal.task_run_enters(self.row, self._seq + 1, states, outcome, synced=synced, source=source)
        self._seq, self.at = self._seq + len(states), entry.at
        return entry

    def _log(self, level: int, message: str, *args: Any) -> None:
        task_log.log(level, message, *args, extra=at(self))
