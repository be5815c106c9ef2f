"""The life of one flow call: its parameters, its body, and how it ends. Which run it is: `durable.settling`.

The same contract with its driver as `durable.call.Call`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from logging import ERROR, INFO
from typing import Any

from durable import cancelling
from durable.clock import as_datetime, clock
from durable.codec import canonical_digest_abridged
from durable.definitions import FlowDefinition
from durable.errors import (
    FlowRunCancelled,
    FlowRunTimeoutError,
    NotSerializable,
    ParameterTypeError,
    UnfinishedRun,
)
from durable.execution import SLOTS
from durable.forks import original_of
from durable.interrupts import Interrupts, giving_up
from durable.journal import Entry, Journal, Outcome
from durable.journal.rollbacks import Run
from durable.keys import digest
from durable.logs import at, flow_log, root_log
from durable.outcomes import (
    interruption,
    message_of,
    of_exception,
    of_value,
)
from durable.ownership import RunLock
from durable.progress import progress
from durable.runs import FlowRun, Scope
from durable.settling import Settling
from durable.states import (
    CANCELLED,
    CANCELLING,
    COMPLETED,
    CRASHED,
    FAILED,
    NOT_READY,
    TIMED_OUT,
    State,
    StateKind,
    check_transition,
)
from durable.upstream import Need, Upstream, awaited, not_ready, resolved, returned, why_not_ready
from durable.verdicts import Verdict, adopted, is_made

_DONE = frozenset({COMPLETED, FAILED, TIMED_OUT, CANCELLED})
_DIED = "Its process died; found when the run was resumed."


class FlowCall(Settling):
    """One call of a flow. Attributes as in `Execution`."""

    __slots__ = (
        *SLOTS,
        "_found_dead",
        "_identity",
        "_interrupted_by",
        "_interrupts",
        "_is_root",
        "_key",
        "_lock",
        "_original",
        "_parameters",
        "_parameters_digest",
        "parent",
        "_row",
        "gated",
        "journal",
        "needs",
        "run",
    )

    late = FlowRunTimeoutError
    noun = "Flow run"
    is_flow = True

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
        wait_for: Sequence[Need] = (),
    ) -> None:
        self._prepare(definition, args, kwargs, return_state=return_state)
        self.parent = parent
        # A flow called in a task outside any flow is a root: there is no run it could be part of.
        self._is_root = parent is None or parent.flow_run is None
        self._identity: bytes | None = None
        self._original: tuple[bytes, bytes] | None = None  # in a forked run: the subflow it stands for
        self._parameters = self._parameters_digest = b""
        needs = definition.needs(args, kwargs)
        self.needs = needs if not wait_for else (*(needs or ()), *wait_for)
        self.gated = self.needs is not None
        if not self.gated:
            self._identify()
        self.journal = journal
        self.run: FlowRun | None = None
        self._key: bytes | None = None
        self._lock: RunLock | None = None
        self._interrupts = Interrupts()
        self._interrupted_by: BaseException | None = None
        self._found_dead = False
        self._row = 0

    def _identify(self) -> None:
        """A subflow is identified when it is called, like a task; with an idempotency key it is that key's run."""
        parent, options = self.parent, self.definition.options
        try:
            self.args, self.kwargs = self.definition.accepted(self.args, self.kwargs)
        except ParameterTypeError as error:
            if not self._return_state:
                raise
            # Bad input, of which only a state is wanted: it has one, and nothing else.
            self.done, self.error = True, error
            self.kind, self.message, self.at = FAILED, message_of(error), clock().now()
            self._told = FAILED, 0  # there is no run to tell of
            return
        self._parameters = self.definition.parameters(self.args, self.kwargs)
        self._parameters_digest = digest("parameters", self._parameters)
        if parent is not None and not self._is_root and options.idempotency_key is None:
            self._identity, occurrence = parent.identify(self.definition.key, self._parameters)
            if parent.has_history:
                self._original = original_of(parent, self.definition.key, self._parameters, occurrence)
        if not options.record_inputs:
            self._parameters = canonical_digest_abridged(self._parameters)

    # What a driver calls, in this order.

    def awaited(self) -> list[Upstream]:
        """The futures among its parameters that have not ended."""
        return awaited(self.needs or ())

    def locked(self) -> bool:
        """What it waited for has ended: it is identified by the values, or not called."""
        failed = not_ready(self.needs or ())
        if failed:
            self.message = why_not_ready(failed)
            self.error = UnfinishedRun(f"flow {self.definition.name!r}", self.message)
            self.kind, self.done, self.at = NOT_READY, True, clock().now()
            return False
        self.args = tuple(map(resolved, self.args))
        self.kwargs = {name: resolved(value) for name, value in self.kwargs.items()}
        self._identify()
        return False

    def started(self) -> Entry | None:
        """The body begins. The first time, what is recorded of it was recorded when the run was settled."""
        assert self.run is not None  # noqa: S101 - replay has settled it
        self.run.open()
        self.attempt += 1
        return self._begins_again() if self._failure is not None else None

    def enter(self) -> None:
        """The body begins: calls made from here on belong to this run, and signals are watched."""
        assert self.run is not None  # noqa: S101 - replay has settled it
        canceller = None
        if self.definition.is_async:
            from asyncio import get_running_loop  # an async flow is running, so this is a look-up

            self.run.loop = get_running_loop()
            canceller = _canceller()
        if self._is_root:
            self._interrupts.watch(canceller)
            progress.begin(self.run)
        self._enter(self.run)

    def runner(self) -> Any:
        """What executes the task runs that its body submits, if it has submitted any."""
        return self.run.runner if self.run is not None else None

    def stop(self, error: BaseException) -> tuple[Any, bool]:
        """The body raised `error`: the runner to be stopped, if any, and whether what it runs is given up at once."""
        if self._limit is not None:
            self._limit.stop()  # its time counts for the body, not for the wait for what runs
        return self.runner(), giving_up() or type(error).__name__ == "GeneratorExit"

    def stopped(self, interruption: BaseException | None) -> None:
        """What was submitted has ended, or was given up; `interruption` arrived meanwhile."""
        self._interrupted_by = interruption

    def settled(self, value: Any) -> Any:
        """What the returned value stands for: values in place of futures and states; a failed one raises its failure.

        A state, or a collection of nothing but states, decides how the run ends, as in Prefect 3. One made by hand is
        used as it is.
        """
        settled, states = returned(value)
        if not states:
            return settled
        alone = isinstance(value, (State, Upstream))
        if alone and is_made(value):
            self._verdict = adopted(value)
        missing = [state for state in states if not state.is_completed()]
        if missing:
            failure: BaseException = missing[0].result(raise_on_failure=False)
            if not alone:
                self._verdict = _counted(states, missing, failure)
            raise failure
        if isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(x, (State, Upstream)) for x in value):
            self._verdict = Verdict(COMPLETED, "All states completed.")
        return settled

    def leave(self) -> None:
        """The body has ended. May be called again, should a signal handler have raised in here."""
        if self._is_root:
            self._interrupts.release()
            if self.run is not None:
                progress.end(self.run)
        super().leave()

    def returned(self, value: Any) -> Entry | None:
        """The body returned `value`."""
        self.done = True
        self._value = value
        if self.journal.is_inherited:  # a forked child has come back from its parent's body
            return None
        outcome: Outcome | None = None
        try:
            if self.definition.options.persist_result:
                outcome = Outcome(*of_value(value, "durable", self.definition.where))
        except NotSerializable as error:
            if self._identity is not None or self.definition.options.idempotency_key is not None:
                self.error = error
                return self._ends(FAILED, message_of(error), of_exception(error))
            # Nobody will ever ask the journal for this run's value, so a finished night's work is not failed for it.
            root_log.warning("the flow's own result is not recorded: %s", error)
        return self._ends(COMPLETED, None if self._verdict is None else self._verdict.message, outcome)

    def close(self) -> None:
        """The call has ended: whoever resumes the run may have it."""
        if self._lock is None:
            return
        if self.run is not None and self.kind in _DONE and not self.journal.is_inherited:
            self.run.cancel.withdraw()
        self._lock.release()

    @property
    def run_key(self) -> bytes | None:
        """The flow run's id (16 bytes), once it is settled."""
        return self._key

    def scope(self) -> FlowRun | None:
        """The scope of its body's calls, once the run is settled."""
        return self.run

    def as_run(self) -> Run | None:
        """Where it is recorded; None of another call's run, whose result an idempotency key gave."""
        return Run(True, self._row, None) if self._row else None

    def due(self) -> Iterator[Any]:
        """Tell the hooks of the state just recorded, and of the crash that was found with it."""
        if self._found_dead:
            self._found_dead = False
            yield from self._tell(CRASHED, State(CRASHED, _DIED, as_datetime(self.at), self.state().run_id))
        yield from super().due()

    def view(self) -> Any:
        """The flow run, as users are told of it."""
        from durable import views  # of most runs nobody is told

        assert self.run is not None  # noqa: S101 - asked of a run that is settled
        parent = self.parent.flow_run if self.parent is not None else None
        return views.FlowRun(
            id=self.run.key.hex(),
            name=self.run.name,
            flow_name=self.definition.name,
            parent_flow_run_id=parent.key.hex() if parent is not None else None,
            run_count=self.attempt,
            parameters=self.definition.parameters_of(self.args, self.kwargs),
            tags=self._tags,
            flow_version=self.definition.version,
            scheduled_start_time=as_datetime(self.run.begun),
            root_flow_run_id=parent.view().root_flow_run_id if parent is not None else self.run.key.hex(),
        )

    # How it goes on.

    def _meaning(self, error: BaseException) -> BaseException:
        """As in `Execution`; a signal's cancellation is that signal, and what came later is what counts."""
        if self._interrupted_by is not None:
            return self._interrupted_by
        meant = self._interrupts.meant_by(error)
        return meant if meant is not error else super()._meaning(cancelling.meant_by(error, self.run))

    def _interruption(self, error: BaseException) -> tuple[StateKind, str]:
        return interruption(error, self._interrupts.reason)

    def _retrying(self) -> None:
        """What failed before has a new chance, what completed is looked up."""
        assert self.run is not None  # noqa: S101 - it has run once
        assert self._failure is not None  # noqa: S101 - and failed
        self.run.mark = self._failure.rowid
        self.run.has_a_past()

    def _ends(self, kind: StateKind, message: str | None, outcome: Outcome | None = None) -> Entry:
        self.message = message or ""
        told = isinstance(self.error, FlowRunCancelled)
        states = ((CANCELLING, None), (kind, message)) if told else ((kind, message),)
        entry = self._enters(*states, outcome=outcome)
        self._log(INFO if kind is COMPLETED else ERROR, "Finished in state %s", self.state())
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

    def _log(self, level: int, message: str, *args: Any) -> None:
        if self.run is not None:
            flow_log.log(level, message, *args, extra=at(self.run))


def _counted(states: list[State[Any]], missing: list[State[Any]], failure: BaseException) -> Verdict:
    """How a run ends by a collection of states, some of which did not complete: in Prefect's words, and the first."""
    cancelled = [state for state in missing if state.is_cancelled()]
    unfinished = [state for state in missing if not state.is_final()]
    if cancelled:
        kind, those, what = CANCELLED, cancelled, "cancelled"
    elif len(unfinished) == len(missing):
        kind, those, what = FAILED, unfinished, "not final"
    else:
        kind, those, what = FAILED, missing, "failed"
    verb = " are " if those is unfinished else " "
    return Verdict(kind, f"{len(those)}/{len(states)} states{verb}{what}. {message_of(failure)}")


def _canceller() -> Any:
    """What stops the running asyncio task from a signal handler."""
    from asyncio import current_task, get_running_loop  # an async flow is running, so this is a look-up

    task, loop = current_task(), get_running_loop()
    return lambda: loop.call_soon_threadsafe(task.cancel) if task is not None else None
