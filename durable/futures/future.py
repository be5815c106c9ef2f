"""One future: a submitted task run and what may be asked of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from durable.clock import as_datetime
from durable.errors import JournalError, UnfinishedRun
from durable.interrupts import wait_for
from durable.outcomes import restore
from durable.states import NOT_READY, PENDING, RUNNING, State, StateKind, StateType
from durable.upstream import Upstream

if TYPE_CHECKING:
    from durable.call import Call
    from durable.journal import TaskRecord

R = TypeVar("R", covariant=True)  # noqa: PLC0105 - it is Future[R] to those who read it

_NONE_READ: Final[Mapping[bytes, TaskRecord]] = {}
_WORTHWHILE: Final = 32  # records from which on reading them together costs less than one by one

# The submitted task run whose body executes here: while it waits for another one, its place is free.
executing: Final[ContextVar[Future[Any] | None]] = ContextVar("durable_executing", default=None)


class Future(Upstream, Generic[R]):
    """A submitted task run."""

    __slots__ = (
        "_call",
        "_callbacks",
        "_event",
        "_key",
        "_own_name",
        "_state",
        "_told",
        "_waiting_for",
        "_where",
        "begun",
        "cancelling",
        "context",
        "definition",
        "depth",
        "handled",
        "home",
        "loop",
        "loop_task",
        "waits",
    )

    def __init__(self, call: Call, home: Any, context: Context) -> None:
        self.home = home
        # In a fork: what it was in the first of the line, so that calls it is an argument of keep their identity too.
        self.identity = call.key if call.flow_run is None or call.flow_run.fork is None else call.original[1]
        self.handled = False  # somebody asked how it ended
        self.cancelling = False  # it ends, or has ended, without having begun
        self.begun = False
        self.waits = 0  # waits of its body for others, under way
        self.context: Context | None = context  # what the body runs in: that of the submit
        self.loop: Any = None  # of an async task: the event loop it runs on, and its task there
        self.loop_task: Any = None
        outer = executing.get()
        self.depth: int = outer.depth + 1 if outer is not None else 0
        self._call: Call | None = call
        self.definition = call.definition
        self._where = call.journal
        self._key = call.key
        self._own_name: str | None = None
        self._state: State[Any] | StateKind | None = None  # a kind alone: the rest is in the journal
        self._event: threading.Event | None = None
        self._callbacks: list[Callable[[Future[Any]], Any]] | None = None
        self._told: list[Callable[[Future[Any]], None]] | None = None
        self._waiting_for = 0

    # What users call.

    @property
    def name(self) -> str:
        """The task run's name, such as ``"load-3f2"``; a name of its own is known once it runs."""
        call = self._call
        if call is not None:
            return call.name
        return self._own_name or f"{self.definition.name}-{self._key.hex()[:3]}"

    @property
    def task_run_id(self) -> str:
        """The task run's id (32 hex digits). Of one that waits for others it is settled when they have ended."""
        call = self._call
        return (call.key if call is not None else self._key).hex()

    @property
    def state(self) -> State[R]:
        """How the run stands: Pending, Running, or how it ended. Asking for its end takes its failure as handled."""
        if self._state is not None:
            return self.ended()
        return State(RUNNING if self.begun else PENDING, "", None, self.task_run_id)

    def done(self) -> bool:
        """Whether it has ended, one way or another."""
        return self._state is not None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it has ended, for `timeout` seconds at most; returns silently either way, as in Prefect 3.

        Raises:
            ConfigurationError: called on the event loop that the run itself needs: await the future instead.
        """
        self.finished(timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:  # noqa: FBT001, FBT002 - Prefect's signature
        """The run's value.

        Args:
            timeout: seconds to wait for it at most.
            raise_on_failure: raise the run's exception if it failed; False returns the exception instead.

        Raises:
            TimeoutError: it has not ended by then.
            UnfinishedRun: it never ran, because what it waited for did not complete.
            CancelledRun: it was called off.
            ConfigurationError: called on the event loop that the run itself needs: await the future instead.
            Exception: the run's own.
        """
        if not self.finished(timeout):
            raise TimeoutError(f"Task run {self.name!r} did not complete within {timeout} second(s)")
        return self.ended().result(raise_on_failure)  # type: ignore[no-any-return]  # the caller's R

    def __await__(self) -> Generator[Any, None, R]:
        """Await the run: gives its value, or raises its exception."""
        yield from self.settled().__await__()
        return self.ended().result()  # type: ignore[no-any-return]  # the caller's R

    def cancel(self) -> bool:
        """Call it off. What has not begun never does, what waits for another attempt gets none, and a coroutine is
        cancelled at its next ``await``.

        Returns:
            Whether it was or will be called off: not if it has ended, or if it is a plain function that executes.
        """
        return bool(self.home.cancel(self))

    def cancelled(self) -> bool:
        """Whether it has been called off."""
        kind = self._kind()
        return kind is not None and kind.type is StateType.CANCELLED

    def add_done_callback(self, callback: Callable[[Future[R]], Any]) -> None:
        """Call ``callback(future)`` once it has ended, in the thread that ends it; at once if it has.

        A callback that raises is logged, and disturbs nothing.
        """
        self.when_done(callback)

    def __repr__(self) -> str:
        kind = self._kind()
        return f"<Future {self.name} {'unfinished' if kind is None else kind.name}>"

    # What durable calls.

    @property
    def call(self) -> Call:
        """The call, until it has ended."""
        assert self._call is not None  # noqa: S101 - asked of an unfinished one
        return self._call

    def when_done(self, callback: Callable[[Future[R]], Any]) -> None:
        """As `add_done_callback`."""
        with self.home.lock:
            if self._state is None:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(callback)
                return
        self.home.notify(callback, self)

    def tells(self, waiter: Callable[[Future[Any]], None]) -> None:
        """As `when_done`, for durable's own: ``waiter(self)`` neither waits for anything nor raises."""
        with self.home.lock:
            if self._state is None:
                if self._told is None:
                    self._told = []
                self._told.append(waiter)
                return
        waiter(self)

    @property
    def is_watched(self) -> bool:
        """Whether somebody is to be called back when it ends, and may then wait for anything."""
        return self._callbacks is not None

    def waits_for(self, others: list[Upstream], ready: Callable[[Future[Any]], None]) -> None:
        """Call ``ready(self)`` once all `others` have ended."""
        self._waiting_for = len(others)

        def one_less(_: Any) -> None:
            with self.home.lock:
                self._waiting_for -= 1
                if self._waiting_for:
                    return
            ready(self)

        for other in others:
            other.when_done(one_less)  # type: ignore[attr-defined]  # futures are the only upstreams that may not be done

    def ends(self, state: State[Any]) -> None:
        """It has ended in `state`. Whatever a callback raises that is no Exception is raised when all were called."""
        with self.home.lock:
            call, self._call = self._call, None
            if call is not None:
                self._key = call.key
                if self.definition.options.run_name is not None:
                    self._own_name = call.name
            self._state = state
            event, told, callbacks = self._event, self._told, self._callbacks
            self._event = self._told = self._callbacks = self.context = self.loop_task = None
        if event is not None:
            event.set()
        if told is not None:
            for waiter in told:
                waiter(self)
        if callbacks is not None:
            with contextlib.ExitStack() as every:
                for callback in reversed(callbacks):
                    every.callback(self.home.notify, callback, self)

    def needs_loop(self, loop: Any) -> bool:
        """Whether it cannot go on while `loop` stands still: it, or what it waits for, runs there."""
        pending, seen = [self], {self}
        while pending:
            future = pending.pop()
            call = future._call  # noqa: SLF001 - of the same class
            if call is None:
                continue
            if future.runs_on() is loop:
                return True
            new = {other for other in call.awaited() if isinstance(other, Future)} - seen
            seen |= new
            pending += new
        return False

    def runs_on(self) -> Any:
        """The event loop it runs or will run on, as far as that is known; None for a plain function."""
        if self.home.ships or not self.definition.is_async:
            return None
        return self.loop or self.home.flow_loop()

    def forget(self) -> None:
        """Hold the outcome no longer: it is in the journal."""
        if isinstance(self._state, State):
            self._state = self._state.kind

    def ended(self, records: Mapping[bytes, TaskRecord] = _NONE_READ) -> State[Any]:
        """How it has ended; its failure is from now on the asker's to handle. `records` were read already."""
        self.handled = True
        state = self._state
        assert state is not None  # noqa: S101 - asked of one that has ended
        return state if isinstance(state, State) else self._from_journal(state, records.get(self._key))

    def completed(self) -> bool:
        """Whether it has ended well; its failure is from now on the asker's to handle."""
        self.handled = True
        return self.is_well

    @property
    def is_well(self) -> bool:
        """Whether it has ended well. Its failure is nobody's by that."""
        kind = self._kind()
        return kind is not None and kind.type is StateType.COMPLETED

    def recorded_as(self) -> bytes | None:
        """The id of its task run (16 bytes), once it has ended."""
        return self._key if self._state is not None else None

    async def settled(self) -> None:
        """Wait until it has ended, without blocking the event loop."""
        from asyncio import get_running_loop  # a loop is running, so this is a look-up

        if self._state is None:
            loop = get_running_loop()
            waiter = loop.create_future()

            def wake(_: Any) -> None:
                with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
                    loop.call_soon_threadsafe(lambda: None if waiter.done() else waiter.set_result(None))

            self.tells(wake)
            with giving_way():
                await waiter

    def breakage(self) -> BaseException | None:
        """What ended it that no task is to blame for, and nobody can handle: a journal that fails, SystemExit."""
        state = self._state
        if not isinstance(state, State) or not state.is_crashed():
            return None
        fatal = isinstance(state.data, JournalError) or not isinstance(state.data, Exception)
        return state.data if fatal else None

    def unhandled(self) -> bool:
        """Whether it failed and nobody asked."""
        kind = self._kind()
        good = kind is None or kind.type in (StateType.COMPLETED, StateType.CANCELLED)
        return not (good or self.handled)

    def _kind(self) -> StateKind | None:
        state = self._state
        return state.kind if isinstance(state, State) else state

    def finished(self, timeout: float | None) -> bool:
        """Wait as `wait` does; whether it has ended."""
        if self.done():
            return True
        self.home.check_may_block(self)
        with self.home.lock:
            if self.done():
                return True
            event = self._event = self._event or threading.Event()
        with giving_way():
            return wait_for(event, timeout)

    def _from_journal(self, kind: StateKind, record: TaskRecord | None) -> State[Any]:
        """The whole state, from what was recorded of it."""
        record, who = record or self._where.find_task_run(self._key), f"task run {self.name!r}"
        if record is None or (record.result_id is None and kind is not NOT_READY):
            raise UnfinishedRun(who, "its outcome is no longer in the journal")
        data: Any
        if record.result_id is not None:
            data = restore(self._where.outcome_of(record), who)
        else:
            data = UnfinishedRun(who, record.message or "")
        return State(kind, record.message or "", as_datetime(record.at), self._key.hex(), data)


def read_together(futures: list[Future[Any]]) -> Mapping[bytes, TaskRecord]:
    """What the journal has of those whose outcome is there only: for `Future.ended`. May lack any."""
    forgotten = [future for future in futures if isinstance(future._state, StateKind)]  # noqa: SLF001 - of this module
    if len(forgotten) < _WORTHWHILE:
        return _NONE_READ
    return forgotten[0]._where.find_task_runs([future._key for future in forgotten])  # noqa: SLF001 - see above


@contextlib.contextmanager
def giving_way() -> Iterator[None]:
    """The caller waits for a task run; if it is one itself, its place is free meanwhile."""
    waiting = executing.get()
    if waiting is None or not waiting.begun or waiting.done():
        yield
        return
    waiting.home.gives_way(waiting, 1)
    try:
        yield
    finally:
        waiting.home.gives_way(waiting, -1)
