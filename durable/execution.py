"""What a task call and a flow call have in common: attempts, their failures, their time and who is told.

`durable.call.Call` and `durable.flowcall.FlowCall` are the two kinds; this is the part of their contract with a driver
(stated in `durable.call`) that is the same policy for both, so that it exists once. Its attributes are slots of the
kinds, which declare `SLOTS` and call `_prepare` first: a `Call` is also a `Scope`, and only one base may have slots.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Iterator
from contextvars import Token
from inspect import isawaitable
from logging import ERROR, WARNING
from typing import TYPE_CHECKING, Any, ClassVar, Final

from durable.blocks import active, any_hooks
from durable.clock import as_datetime, clock
from durable.crashes import chances, is_crash, must_be_seen
from durable.errors import JournalError
from durable.journal import NO_LABEL, Entry, Journal, Label, Outcome
from durable.journal.rollbacks import Run
from durable.locks import ProcessLock
from durable.outcomes import failed_kind, interruption, is_ours, message_of, of_exception, repr_of, without_engine
from durable.output import printing
from durable.runnames import rendered
from durable.runs import Scope, current
from durable.states import AWAITING_RETRY, CANCELLED, COMPLETED, CRASHED, RETRYING, RUNNING, State, StateKind, StateType
from durable.tagging import current_tags
from durable.telling import ask, part_of, seeing, tell
from durable.upstream import Upstream
from durable.verdicts import Verdict, adopted, is_made

if TYPE_CHECKING:
    from durable.timeouts import Limit
    from durable.transactions.block import Transaction

SLOTS: Final = (
    "_failure",
    "_inside",
    "_limit",
    "_printing",
    "_retries",
    "_return_state",
    "_seq",
    "_tags",
    "_token",
    "_told",
    "_value",
    "_verdict",
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
    "unit",
)


_making: Final = ProcessLock()
_NOT_RETRIED: Final = frozenset({CANCELLED, CRASHED})


class Execution:
    """One call being executed.

    Attributes:
        definition: the task or flow.
        args, kwargs: the arguments, as given.
        done: the call has its outcome.
        propagates: the exception just raised is to be re-raised by the driver.
        delay: seconds to wait before the next attempt.
        kind, message, at: the newest state.
        error: what the body raised last, or the recorded exception.
        attempt: executions of the body by this process.
        unit: its part in the transaction it is called in, if there is one.
    """

    late: ClassVar[type[Exception]]
    noun: ClassVar[str]
    is_flow: ClassVar[bool] = False
    gated: bool = False  # it waits for others, or for its turn, before it begins
    called_off: bool = False  # somebody cancelled it
    elsewhere: Any = None  # what executes the body, if it is not the driver (durable.runners.shipping.Shipment)

    args: tuple[Any, ...]
    at: int
    attempt: int
    definition: Any
    delay: float
    done: bool
    error: BaseException | None
    journal: Journal
    kind: StateKind | None
    kwargs: dict[str, Any]
    message: str
    propagates: bool
    unit: Transaction | None
    _failure: Entry | None
    _inside: Token[Any] | None
    parent: Any  # the scope it was called in, or None
    _limit: Limit | None
    _printing: bool
    _tags: frozenset[str]
    _retries: int
    _return_state: bool
    _seq: int
    _token: Token[Scope | None] | None
    _told: tuple[StateKind, int] | None
    _value: Any
    _verdict: Verdict | None

    def _prepare(self, definition: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, return_state: bool) -> None:
        self.definition = definition
        self.args = args
        self.kwargs = kwargs
        self.done = False
        self.propagates = False
        self.delay = 0.0
        self.kind = None
        self.message = ""
        self.at = 0
        self.error = None
        self.attempt = 0
        self.unit = None
        if (around := active.get()) is not None or definition.has_transaction_hooks:
            self.unit = part_of(around, current.get())
        self._inside = None
        self._return_state = return_state
        self._failure = None
        self._limit = None
        self._printing = False
        self._tags = current_tags.get()
        self._retries = 0
        self._seq = 0
        self._token = None
        self._told = None
        self._value = None
        self._verdict = None

    # What the two kinds say for themselves.

    @property
    def run_key(self) -> bytes | None:
        """The run's id (16 bytes), once it is settled."""
        raise NotImplementedError

    def view(self) -> Any:
        """The run, as users are told of it."""
        raise NotImplementedError

    def scope(self) -> Any:
        """The scope of its body's calls, once it is settled."""
        return self

    def as_run(self) -> Run | None:
        """Where it is recorded; None of a run that is not its caller's."""
        raise NotImplementedError

    def _enters(self, *states: tuple[StateKind, str | None], outcome: Outcome | None = None) -> Entry:
        raise NotImplementedError

    def _ends(self, kind: StateKind, message: str | None, outcome: Outcome | None = None) -> Entry:
        raise NotImplementedError

    def _retrying(self) -> None:
        """The next attempt follows the failure that was just recorded."""
        raise NotImplementedError

    def _log(self, level: int, message: str, *args: Any) -> None:
        """Log what occurs in the run."""
        raise NotImplementedError

    def close(self) -> None:
        """The call has ended."""
        raise NotImplementedError

    # What a driver calls.

    def awaited(self) -> list[Upstream]:
        """The futures among its arguments that have not ended."""
        return []

    def locked(self) -> bool:
        """Whether another call has its turn. Takes its place if not; to be asked until it says no."""
        return False

    def runner(self) -> Any:
        """What executes the task runs that its body submits, if it has submitted any."""
        return None

    def settled(self, value: Any) -> Any:
        """What a returned value stands for: a state or future for its value; a failed one raises its failure."""
        state = value.ended() if isinstance(value, Upstream) else value
        if not isinstance(state, State):
            return value
        if is_made(value):
            self._verdict = adopted(value)
        return state.result()

    def _label(self, scope: Scope, own_tags: frozenset[str]) -> Label:
        """The run's own name, made where its body will run, and its tags beyond `own_tags`."""
        maker, extra, version = self.definition.options.run_name, self._tags - own_tags, self.definition.version
        if maker is None and not extra and version is None:
            return NO_LABEL
        name: str | None = None
        if maker is not None:
            token = current.set(scope)
            try:
                parameters = self.definition.parameters_of(self.args, self.kwargs)
                name = rendered(self.definition.where, maker, parameters)
            finally:
                current.reset(token)
        return Label(name, json.dumps(sorted(extra)) if extra else None, version)

    def _enter(self, scope: Scope) -> None:
        """The body begins: calls made from here on are made in `scope`, and its time is counted."""
        self._token = current.set(scope)
        if self.unit is not None:
            self._inside = active.set(self.unit)
        if scope.log_prints and self.elsewhere is None:
            self._printing = True
            printing.begin()
        if self.definition.options.timeout is not None and (seconds := self._budget()) is not None:
            from durable.timeouts import Limit  # few have one

            self._limit = Limit(seconds, self.definition.where)
            self._limit.start(in_coroutine=self.definition.is_async or self.elsewhere is not None)

    def _budget(self) -> float | None:
        """How long the body may run from now on, in seconds; None also where another process keeps the time."""
        timeout: float | None = self.definition.options.timeout
        return None if self.elsewhere is not None and self.elsewhere.keeps_time else timeout

    def leave(self) -> None:
        """The body has ended. May be called again, should a signal handler have raised in here."""
        if self._limit is not None:
            self._limit.stop()
        if self._printing:
            self._printing = False
            printing.end()
        if self._token is not None:
            token, self._token = self._token, None
            current.reset(token)
        if self._inside is not None:
            inside, self._inside = self._inside, None
            active.reset(inside)

    def caught(self, error: BaseException) -> bool | Awaitable[bool]:
        """The body raised `error`. Whether another attempt is to follow; a coroutine if the user's condition is one."""
        without_engine(error)
        meant = self._meaning(error)
        self.error, self.propagates = meant, meant is error
        policy = self.definition.options.retries
        if not isinstance(meant, Exception) or is_ours(meant) or self._retries >= chances(self, meant):
            return False
        if self._failed_kind(meant) in _NOT_RETRIED:
            return False
        if policy.condition is None:
            return True
        kind, at = self._failed_kind(meant), as_datetime(clock().now())
        state: State[Any] = State(kind, self._message_of(meant), at, None, meant)
        return ask(self.scope(), policy.condition, self.definition.owner, self.view(), state)

    def _meaning(self, error: BaseException) -> BaseException:
        """What an exception stands for: the one that ended a body whose time was up is a timeout."""
        if self._limit is None or not self._limit.ended(error):
            return error
        late = self.late(f"{self.noun} exceeded timeout of {self.definition.options.timeout} second(s)")
        return late.with_traceback(error.__traceback__)

    def raised(self, retry: bool) -> Entry | None:  # noqa: FBT001 - the answer of `caught`
        """What the body raised has been caught."""
        error = self.error
        assert error is not None  # noqa: S101 - `caught` has noted it
        if isinstance(error, JournalError) or self.journal.is_inherited:
            self.done = self.propagates = True  # there is nothing to record it in
            return None
        if not isinstance(error, Exception):
            self.done = True
            return self._ends(*self._interruption(error))
        if retry:
            return self._fails_for_now(error)
        if 0 < self.definition.options.retries.count <= self._retries:
            self._log(ERROR, "%s failed with exception: %s - Retries are exhausted", self.noun, repr_of(error))
        self.done = True
        self.propagates = self.propagates and not self._return_state
        kind = CRASHED if is_crash(self, error) and must_be_seen(self) else self._failed_kind(error)
        return self._ends(kind, self._message_of(error), of_exception(error))

    def _failed_kind(self, error: Exception) -> StateKind:
        verdict = self._verdict
        # Time may run out just after a completed state was returned.
        return failed_kind(error) if verdict is None or verdict.kind is COMPLETED else verdict.kind

    def _message_of(self, error: Exception) -> str:
        said = None if self._verdict is None or self._verdict.kind is COMPLETED else self._verdict.message
        return said or message_of(error)

    def _interruption(self, error: BaseException) -> tuple[StateKind, str]:
        return interruption(error, called_off=self.called_off)

    def _fails_for_now(self, error: Exception) -> Entry:
        retries = self.definition.options.retries
        self.delay = retries.delay(self._retries)
        self._retries += 1
        start = f"{self.delay:g} second(s) from now" if self.delay else "immediately"
        said = "%s failed with exception: %s - Retry %d/%d will start %s"
        self._log(WARNING, said, self.noun, repr_of(error), self._retries, max(self._retries, retries.count), start)
        self.message = self._message_of(error)
        self.error, self.propagates, self._verdict = None, False, None
        kind = CRASHED if is_crash(self, error) else AWAITING_RETRY if self.delay else RETRYING
        self._failure = self._enters((kind, self.message), outcome=of_exception(error))
        self._told = kind, self._seq  # told when the attempt begins
        return self._failure

    def _begins_again(self) -> Entry | None:
        """The attempt after a failed one begins: the failure is committed, and no message promises what never comes."""
        self._told = None
        self._retrying()
        if self.kind is CRASHED:
            return self._enters((RUNNING, None))
        return self._enters((RETRYING, None)) if self.kind is AWAITING_RETRY else None

    def due(self) -> Iterator[Any]:
        """Tell the hooks of the state just recorded; gives the awaitables of async ones, to be awaited in turn.

        Before that, what the state means for a transaction.
        """
        if self.unit is not None:
            yield from seeing(self.scope(), self._settle(self.unit))
        if self.kind is not None and self._told != (self.kind, self._seq) and (self.done or self.attempt):
            self._told = self.kind, self._seq
            yield from self._tell(self.kind, self.state())

    # What it means for transactions.

    def transaction(self) -> Transaction:
        """Its part in the transaction around it, made now if nothing needed one before."""
        with _making:
            if self.unit is None:
                self.unit = part_of(None, self.parent)
            return self.unit

    def _is_replayed(self, *, owed: bool = False, failed: bool = False) -> None:
        """It has a record: what is only replayed is not told again, but hooks may be owed, its own or its calls'."""
        self._told = self.kind, self._seq  # type: ignore[assignment]  # a record has a state
        if owed and self.unit is not None:
            self.unit.is_of(self.journal, self.as_run(), replayed=True)
            self.unit.owes(self.definition.options.hooks.on_rollback, self._seq)
        run = self.parent.flow_run if self.parent is not None else None
        if failed and any_hooks() and run is not None and run.has_rollbacks():
            self.transaction()

    def _undoes(self, unit: Transaction, entry: Entry) -> None:
        """A task's end is about to be recorded."""
        if self.kind is not None and self.kind.type is StateType.FAILED:
            unit.is_of(self.journal, self.as_run(), replayed=False)
            unit.failing(entry)

    def _settle(self, unit: Transaction) -> Iterator[Any]:
        if self.journal.is_inherited or self.journal.is_closed:
            return  # a forked child has come back from its parent's body; or a generator is closed with the program
        if self.done and self.kind is not None:
            hooks = self.definition.options.hooks
            unit.is_of(self.journal, self.as_run(), replayed=self.attempt == 0)
            yield from unit.ended(self.kind, hooks.on_rollback, hooks.on_commit)
        elif unit.owed is not None:
            yield from unit.pays()
            self._seq += 1
            self._told = self.kind, self._seq  # type: ignore[assignment]  # what owes has a state

    def _tell(self, kind: StateKind, state: State[Any]) -> Iterator[Any]:
        for hook in self.definition.options.hooks.for_state(kind):
            told = tell(self.scope(), hook, self.definition.owner, self.view(), state)
            if isawaitable(told):
                yield told

    def outcome(self) -> Any:
        """The value, the exception (raised), or either as a `State`. Committed before this is called."""
        if self.error is not None and (not self._return_state or not isinstance(self.error, Exception)):
            raise self.error
        return self.state() if self._return_state else self._value

    def state(self) -> State[Any]:
        """Where the call stands, with its value or exception."""
        return self.state_of(self.error if self.error is not None else self._value)

    def state_of(self, data: Any) -> State[Any]:
        """Where the call stands, with `data`."""
        assert self.kind is not None  # noqa: S101 - a driver asks after the first transition
        key = self.run_key
        return State(self.kind, self.message, as_datetime(self.at), None if key is None else key.hex(), data)
