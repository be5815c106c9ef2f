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
from typing import Any, ClassVar, Final

from durable.callbacks import ask, fire
from durable.clock import as_datetime, clock
from durable.errors import JournalError
from durable.journal import Entry, Journal, Label, Outcome
from durable.outcomes import failed_kind, interruption, is_ours, message_of, of_exception, without_engine
from durable.output import printing
from durable.runnames import rendered
from durable.runs import Scope, current
from durable.settings import interrupted_may_run
from durable.states import AWAITING_RETRY, CANCELLED, CRASHED, RETRYING, RUNNING, State, StateKind
from durable.tagging import current_tags
from durable.timeouts import Limit
from durable.upstream import Upstream

SLOTS: Final = (
    "_failure",
    "_limit",
    "_printing",
    "_retries",
    "_return_state",
    "_seq",
    "_tags",
    "_token",
    "_told",
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


NO_LABEL: Final = Label()


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
    _failure: Entry | None
    _limit: Limit | None
    _printing: bool
    _tags: frozenset[str]
    _retries: int
    _return_state: bool
    _seq: int
    _token: Token[Scope | None] | None
    _told: tuple[StateKind, int] | None
    _value: Any

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

    # What the two kinds say for themselves.

    @property
    def run_key(self) -> bytes | None:
        """The run's id (16 bytes), once it is settled."""
        raise NotImplementedError

    def view(self) -> Any:
        """The run, as users are told of it."""
        raise NotImplementedError

    def _enters(self, *states: tuple[StateKind, str | None], outcome: Outcome | None = None) -> Entry:
        raise NotImplementedError

    def _ends(self, kind: StateKind, message: str | None, outcome: Outcome | None = None) -> Entry:
        raise NotImplementedError

    def _retrying(self) -> None:
        """The next attempt follows the failure that was just recorded."""
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
        return state.result() if isinstance(state, State) else state

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
        if scope.log_prints and self.elsewhere is None:
            self._printing = True
            printing.begin()
        seconds = self._budget()
        if seconds is not None:
            self._limit = Limit(seconds)
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

    def caught(self, error: BaseException) -> bool | Awaitable[bool]:
        """The body raised `error`. Whether another attempt is to follow; a coroutine if the user's condition is one."""
        without_engine(error)
        meant = self._meaning(error)
        self.error, self.propagates = meant, meant is error
        policy = self.definition.options.retries
        if not isinstance(meant, Exception) or is_ours(meant) or self._retries >= self._chances(meant):
            return False
        if policy.condition is None:
            return True
        kind, at = failed_kind(meant), as_datetime(clock().now())
        return ask(
            policy.condition, self.definition.owner, self.view(), State(kind, message_of(meant), at, None, meant)
        )

    def _chances(self, error: Exception) -> int:
        """How many retries there are for such a failure. What must not run twice unseen has none after a crash."""
        count: int = self.definition.options.retries.count
        if not self._is_crash(error):
            return count
        return 0 if self._must_be_seen() else count + int(self.elsewhere.spares)

    def _is_crash(self, error: Exception) -> bool:
        """Whether it says that what executed the body died."""
        return self.elsewhere is not None and self.elsewhere.death is error

    def _must_be_seen(self) -> bool:
        return self.definition.options.on_interrupt == "fail" and not interrupted_may_run()

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
            return self._ends(CANCELLED if self.called_off else CRASHED, self._interruption(error))
        if retry:
            return self._fails_for_now(error)
        self.done = True
        self.propagates = self.propagates and not self._return_state
        kind = CRASHED if self._is_crash(error) and self._must_be_seen() else failed_kind(error)
        return self._ends(kind, self._message_of(error), of_exception(error))

    def _message_of(self, error: Exception) -> str:
        return message_of(error)

    def _interruption(self, error: BaseException) -> str:
        return interruption(error)

    def _fails_for_now(self, error: Exception) -> Entry:
        self.delay = self.definition.options.retries.delay(self._retries)
        self._retries += 1
        self.error, self.propagates = None, False
        self.message = message_of(error)
        kind = CRASHED if self._is_crash(error) else AWAITING_RETRY if self.delay else RETRYING
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
        """Tell the hooks of the state just recorded; gives the awaitables of async ones, to be awaited in turn."""
        assert self.kind is not None  # noqa: S101 - a driver asks after a transition
        if self._told != (self.kind, self._seq):
            self._told = self.kind, self._seq
            yield from self._tell(self.kind, self.state())

    def _tell(self, kind: StateKind, state: State[Any]) -> Iterator[Any]:
        for hook in self.definition.options.hooks.for_state(kind):
            told = fire(hook, self.definition.owner, self.view(), state)
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
        run_id = self.run_key.hex() if self.run_key is not None else None
        return State(self.kind, self.message, as_datetime(self.at), run_id, data)
