"""Where calls are made: the flow run or task run whose body is executing, and what it remembers.

A `Scope` gives each call made in it an identity and, where there is a history, the record of the same call. Rules:

1. Identity is taken when the call is made, on the caller's thread, so neither scheduling nor waiting changes it.
2. Equal calls in one scope are numbered in call order. Numbers start anew with each execution of the scope, so the k-th
   equal call of a resumed run meets the k-th record.
3. A scope's `mark` is the result id of the newest failure that gave it a new chance: failures recorded before it are
   run again, later ones are history and raise again.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ClassVar, Final

from msgspec import Struct
from xxhash import xxh3_128_digest

from durable.ahead import ReadAhead
from durable.counts import Counts
from durable.journal import Journal, TaskRecord
from durable.locks import ProcessLock
from durable.logs import at, engine_log, flow_log, place_records_by, task_log
from durable.ownership import Cancellation
from durable.settings import Found, setting
from durable.spoken import spoken

_half_of: Final = struct.Struct("<Q").unpack_from
_making: Final = ProcessLock()


class Fork(Struct, frozen=True):
    """Where a forked run parts from its original.

    Attributes:
        before: the first task run that is not reused, by row.
        began: when that one began.
        around: the task runs it was called in, at any depth: not reused either.
    """

    before: int
    began: int
    around: frozenset[int]


def identity(scope: bytes, callee: bytes, inputs: bytes, occurrence: int) -> bytes:
    """The identity (16 bytes) of a call: where it was made, of what, with which arguments, the how many-th."""
    base = xxh3_128_digest(scope + callee + inputs)
    return base if occurrence == 1 else xxh3_128_digest(base + occurrence.to_bytes(8, "little"))


class Scope:
    """A place where calls are made. Its identity is `key`; what is called in it is recorded in `journal`.

    In a forked run it has an `original`, too: the identity of the same scope in the run it is a fork of, and in the
    first of a line of forks (`durable.forks`).
    """

    is_task_run: ClassVar[bool] = False

    __slots__ = (
        "_counts",
        "_lock",
        "_seen",
        "flow_run",
        "has_history",
        "journal",
        "key",
        "log_prints",
        "mark",
        "original",
        "row",
    )

    ahead: ReadAhead | None = None  # of a flow run that is executed once more
    is_away: ClassVar[bool] = False  # the body executes in a worker process, where there is no journal

    def __init__(self, key: bytes, flow_run: FlowRun | None, journal: Journal) -> None:
        self.key = key
        self.journal = journal
        self.flow_run = flow_run
        self.row: int | None = None  # of the task run; None in a flow run's own scope
        self.mark = 0
        self.has_history = False
        self.log_prints = False  # whether what its body prints is logged
        self.original: tuple[bytes, bytes]  # set in forked runs only
        self._seen: set[int]
        self._counts: dict[int, int]
        self._lock: threading.Lock | None = None  # made with the two, at the first call made here: most make none

    @property
    def name(self) -> str:
        """How people call it."""
        return self.key.hex()[:7]

    @property
    def callee(self) -> str | None:
        """The name of the task whose body it is."""
        return None

    def view(self) -> Any:
        """The run, as users are told of it."""
        raise NotImplementedError

    def plainly(self, definition: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a task's function where nothing can be recorded (`is_away`)."""
        raise NotImplementedError

    def context(self) -> Any:
        """The task run, to its own body."""
        raise NotImplementedError

    def open(self) -> None:
        """Begin an execution: no call has been made in it yet."""
        self._lock = None

    def identify(self, callee: bytes, inputs: bytes) -> tuple[bytes, int]:
        """The identity (16 bytes) of a call made here now, and how many equal ones there are with it."""
        base = xxh3_128_digest(self.key + callee + inputs)
        (short,) = _half_of(base)  # 64 bits: a set of a million costs 60 MB, not 150
        if self._lock is None:
            self._make_counters()
        seen, lock = self._seen, self._lock
        assert lock is not None  # noqa: S101 - for mypy; just made
        with lock:
            if short not in seen:
                seen.add(short)
                return base, 1
            occurrence = self._counts[short] = self._counts.get(short, 1) + 1
        return xxh3_128_digest(base + occurrence.to_bytes(8, "little")), occurrence

    def _make_counters(self) -> None:
        # Threads that call at once must not each make their own. The lock comes last: it says that the rest is there.
        with _making:
            if self._lock is None:
                self._seen, self._counts = set(), {}
                self._lock = threading.Lock()

    def recorded(self, key: bytes) -> TaskRecord | None:
        """The record of the call with this identity, if this scope has a history."""
        return self.journal.find_task_run(key) if self.has_history else None


class FlowRun(Scope):
    """One flow run being executed by this process.

    Attributes:
        id: its row.
        begun: when it first began, in microseconds since the epoch.
        flow_name: its flow's name.
        parameters: digest of its parameters (16 bytes).
        outside: what the environment and files of settings said, of what each task call asks.
        own_name: its own name, if it was given one.
        describe: gives it as users are told of it.
        fork: of a forked run, where it parts from its original.
        cancel: whether somebody asked for it to be cancelled; a subflow shares its caller's.
        called_in: the scope it was called in.
        flow: the flow, as the user has it.
        runner: executes the task runs submitted in it; None until there are any.
        make_runner: makes it.
        loop: the event loop that its coroutine runs on; None for a plain function.
        root: the outermost flow run it is part of; itself where it is that.
        abandoned: of a root: it was given up while parts of it run, and nothing they do is recorded any more.
        counts: of a root: how many task runs in it have ended.
    """

    __slots__ = (
        "_earlier",
        "_runner_lock",
        "_undone",
        "abandoned",
        "ahead",
        "begun",
        "called_in",
        "cancel",
        "counts",
        "describe",
        "flow",
        "flow_name",
        "fork",
        "id",
        "loop",
        "make_runner",
        "outside",
        "own_name",
        "parameters",
        "root",
        "runner",
    )

    def __init__(
        self,
        journal: Journal,
        key: bytes,
        row: int,
        flow_name: str,
        parameters: bytes,
        cancel: Cancellation | None = None,
    ) -> None:
        super().__init__(key, None, journal)
        self.flow_run = self
        self.id = row
        self.begun = 0
        self.flow_name = flow_name
        self.parameters = parameters
        self.ahead: ReadAhead | None = None
        self.outside: dict[str, Found] = {}
        self._runner_lock = threading.Lock()
        self.own_name: str | None = None
        self.describe: Callable[[], Any] = lambda: None
        self.fork: Fork | None = None
        self.cancel = cancel or Cancellation(journal.path, key)
        self.called_in: Scope | None = None
        self._undone: bool | None = None
        self._earlier: dict[bytes, list[bytes]] = {}
        self.flow: Any = None
        self.runner: Any = None
        self.loop: Any = None
        self.root = self
        self.abandoned = False
        self.counts = Counts()
        self.make_runner: Callable[[], Any] = lambda: None

    @property
    def name(self) -> str:
        """How people call it: its own name, or the two words its id stands for."""
        return self.own_name or spoken(self.key)

    def view(self) -> Any:
        """The flow run, as users are told of it."""
        return self.describe()

    def running(self) -> Any:
        """What executes the task runs submitted in it."""
        if self.runner is None:
            with self._runner_lock:
                self.runner = self.runner or self.make_runner()
        return self.runner

    def has_a_past(self) -> None:
        """The run is executed once more: look its calls up."""
        self.has_history, self.ahead = True, ReadAhead(self.journal, self.id)

    def has_rollbacks(self) -> bool:
        """Whether any task run was rolled back in it before; asked of the journal once."""
        if self._undone is None:
            self._undone = self.journal.has_rollbacks(self.id)
        return self._undone

    def recorded(self, key: bytes) -> TaskRecord | None:
        """As in `Scope`; mostly read ahead."""
        return super().recorded(key) if self.ahead is None else self.ahead.find(key)

    def earlier_inputs(self, task_key: bytes) -> list[bytes]:
        """The arguments of the newest calls of a task in other runs; asked of the journal once a task."""
        found = self._earlier.get(task_key)
        if found is None:
            found = self._earlier[task_key] = self.journal.recent_inputs(task_key, self.id)
        return found


class Aside(Scope):
    """Where a run's hook is called: it sees `run`, and what it calls is not among the calls of its body.

    Args:
        run: the run.
        flow_run: what is called is recorded as part of it; None: of no flow run.
    """

    __slots__ = ("run",)

    def __init__(self, run: Scope, flow_run: FlowRun | None = None) -> None:
        super().__init__(os.urandom(16), flow_run, run.journal)
        self.run = run
        self.log_prints = run.log_prints


def standalone(journal: Journal) -> Scope:
    """The scope of a task called outside any flow: an identity nothing else will ever have."""
    scope = Scope(os.urandom(16), None, journal)
    scope.log_prints = setting("log_prints")
    return scope


def tell_flow_start(run: FlowRun, made_in: Scope | None) -> None:
    """Log, where a flow was called, that a run of it begins: in another flow run, it is a subflow's."""
    if made_in is None or made_in.flow_run is None:
        engine_log.info("Created flow run %r for flow %r", run.name, run.flow_name, extra=at(run))
    else:
        log = flow_log if made_in is made_in.flow_run else task_log
        log.info("Created subflow run %r for flow %r", run.name, run.flow_name, extra=at(made_in))


def tell_start(run: Scope, made_in: Scope, *, created: bool, submitted: bool | None) -> None:
    """Log, where a task was called, that a run of it begins.

    Args:
        run: the task run.
        made_in: the scope of the call.
        created: it begins for the first time.
        submitted: a worker executes it; None if nothing does, for it ends at once.
    """
    told_by, log = made_in, flow_log if made_in is made_in.flow_run else task_log
    if made_in.callee is None and made_in is not made_in.flow_run:
        told_by, log = run, engine_log
    if created:
        log.debug("Created task run %r for task %r", run.name, run.callee, extra=at(told_by))
    if submitted is not None:
        line = "Submitted task run %r for execution." if submitted else "Executing %r immediately..."
        log.debug(line, run.name, extra=at(told_by))


current: ContextVar[Scope | None] = ContextVar("durable_current_scope", default=None)


def around() -> Scope | None:
    """The flow run or task run whose body executes here, or whose hook; None outside of any."""
    scope = current.get()
    return scope.run if isinstance(scope, Aside) else scope


def _place(scope: Scope | None) -> dict[str, str | None]:
    scope = scope or around()
    run = scope.flow_run if scope is not None else None
    task_run = scope if scope is not None and scope.is_task_run else None
    return {
        "flow_run": run.name if run is not None else None,
        "flow_run_id": run.key.hex() if run is not None else None,
        "flow_name": run.flow_name if run is not None else None,
        "task_run": task_run.name if task_run is not None else None,
        "task_run_id": task_run.key.hex() if task_run is not None else None,
        "task_name": task_run.callee if task_run is not None else None,
    }


place_records_by(_place)


if hasattr(os, "register_at_fork"):
    # A forked child owns nothing: its calls are its own, outside the parent's flow run.
    os.register_at_fork(after_in_child=lambda: current.set(None))
