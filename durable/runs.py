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
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from itertools import islice
from typing import Any, ClassVar, Final

from xxhash import xxh3_128_digest

from durable.journal import Journal, TaskRecord
from durable.logs import name_records_by

_WINDOW: Final = 500  # records read ahead at a time
_making: Final = threading.Lock()
_WINDOW_LIMIT: Final = 5000  # held at most, when a run does not ask in the recorded order


class Scope:
    """A place where calls are made. Its identity is `key`; what is called in it is recorded in `journal`."""

    __slots__ = ("_counts", "_lock", "_seen", "flow_run", "has_history", "journal", "key", "log_prints", "mark", "row")

    is_away: ClassVar[bool] = False  # the body executes in a worker process, where there is no journal

    def __init__(self, key: bytes, flow_run: FlowRun | None, journal: Journal) -> None:
        self.key = key
        self.journal = journal
        self.flow_run = flow_run
        self.row: int | None = None  # of the task run; None in a flow run's own scope
        self.mark = 0
        self.has_history = False
        self.log_prints = False  # whether what its body prints is logged
        self._seen: set[int]
        self._counts: dict[int, int]
        self._lock: threading.Lock | None = None  # made with the two, at the first call made here: most make none

    @property
    def name(self) -> str:
        """How people call it."""
        return self.key.hex()[:7]

    def view(self) -> Any:
        """The run, as users are told of it."""
        raise NotImplementedError

    def plainly(self, definition: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a task's function where nothing can be recorded (`is_away`)."""
        raise NotImplementedError

    def open(self) -> None:
        """Begin an execution: no call has been made in it yet."""
        self._lock = None

    def identify(self, callee: bytes, inputs: bytes) -> tuple[bytes, int]:
        """The identity (16 bytes) of a call made here now, and how many equal ones there are with it."""
        base = xxh3_128_digest(self.key + callee + inputs)
        short = int.from_bytes(base[:8], "little")  # 64 bits: a set of a million costs 60 MB, not 150
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
        flow_name: its flow's name.
        parameters: digest of its parameters (16 bytes).
        own_name: its own name, if it was given one.
        describe: gives it as users are told of it.
        runner: executes the task runs submitted in it; None until there are any.
        make_runner: makes it.
    """

    __slots__ = (
        "_last",
        "_limit",
        "_window",
        "_window_lock",
        "describe",
        "flow_name",
        "id",
        "make_runner",
        "own_name",
        "parameters",
        "runner",
    )

    def __init__(self, journal: Journal, key: bytes, row: int, flow_name: str, parameters: bytes) -> None:
        super().__init__(key, None, journal)
        self.flow_run = self
        self.id = row
        self.flow_name = flow_name
        self.parameters = parameters
        self._window: dict[bytes, TaskRecord] = {}
        self._window_lock = threading.Lock()
        self._last = 0
        self._limit = 0
        self.own_name: str | None = None
        self.describe: Callable[[], Any] = lambda: None
        self.runner: Any = None
        self.make_runner: Callable[[], Any] = lambda: None

    @property
    def name(self) -> str:
        """How people call it: its own name, or the flow's name and the short id."""
        return self.own_name or f"{self.flow_name} {self.key.hex()[:7]}"

    def view(self) -> Any:
        """The flow run, as users are told of it."""
        return self.describe()

    def running(self) -> Any:
        """What executes the task runs submitted in it."""
        if self.runner is None:
            with self._window_lock:
                self.runner = self.runner or self.make_runner()
        return self.runner

    def has_a_past(self) -> None:
        """The run is executed once more: look its calls up, reading records ahead in the order they were made."""
        self.has_history = True
        self._window.clear()
        self._last = 0
        # What this execution adds is not read ahead: it would be stale when asked for.
        self._limit = self.journal.newest_task_run(self.id)

    def recorded(self, key: bytes) -> TaskRecord | None:
        """The record of the call with this identity. A resume mostly asks in the recorded order, so it is mostly
        here.
        """
        if not self.has_history:
            return None
        with self._window_lock:
            found = self._window.pop(key, None)
            if found is None and self._last < self._limit and len(self._window) < _WINDOW_LIMIT:
                self._read_ahead()
                found = self._window.pop(key, None)
        return found or self.journal.find_task_run(key)

    def unasked(self) -> list[TaskRecord]:
        """Records read ahead that no call has met yet, in the order they were made; the first hundred."""
        with self._window_lock:
            return list(islice(self._window.values(), 100))

    def _read_ahead(self) -> None:
        records = self.journal.next_task_runs(self.id, self._last, _WINDOW)
        self._last = records[-1].id if records else self._limit
        self._window.update((record.key, record) for record in records if record.id <= self._limit)


def standalone(journal: Journal) -> Scope:
    """The scope of a task called outside any flow: an identity nothing else will ever have."""
    return Scope(os.urandom(16), None, journal)


def is_being_started() -> bool:
    """Whether this is a process that multiprocessing starts, which imports the script before anything else."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and bool(getattr(process.current_process(), "_inheriting", False))


current: ContextVar[Scope | None] = ContextVar("durable_current_scope", default=None)

# Generators whose consumer holds their last value: task run id -> that value. A call that is handed it depends on them.
yielding: ContextVar[dict[bytes, Any] | None] = ContextVar("durable_yielding", default=None)


def _current_names() -> tuple[str | None, str | None]:
    scope = current.get()
    if scope is None:
        return None, None
    run = scope.flow_run
    return run.name if run is not None else None, scope.name if scope is not run else None


name_records_by(_current_names)


def _leave_run_in_child() -> None:
    # A forked child owns nothing: its calls are its own, outside the parent's flow run.
    current.set(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_run_in_child)
