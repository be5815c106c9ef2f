"""What the reader hands out: facts of a journal as plain tuples, with the verdicts that need a second look at them.

Times are microseconds since 1970-01-01 UTC, durations microseconds, ids 32 hex digits. `row` is the row in the
journal's own tables, good for keyset pages within one file only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from durable.spoken import spoken

# Whether the process that executes a run (its id in bytes, the process's host and pid) is alive; None: cannot be told.
Alive = Callable[[bytes, str, int], "bool | None"]

# What a task run or subflow is shown as. Words, so that a screen never depends on colour.
OK: Final = "ok"
CACHED: Final = "cached"
ROLLED_BACK: Final = "rolled back"
FAILED: Final = "failed"
TIMED_OUT: Final = "timed out"
CRASHED: Final = "crashed"
CANCELLED: Final = "cancelled"
PENDING: Final = "pending"
RUNNING: Final = "running"
UNCERTAIN: Final = "running?"
RETRYING: Final = "retrying"
WAITING: Final = "waiting"
CANCELLING: Final = "cancelling"
LOST: Final = "lost"


class Process(NamedTuple):
    """One lifetime of one process that wrote to the journal."""

    row: int
    pid: int
    host: str
    started: int
    python: str
    durable: str
    sqlite: str
    durability: str
    command: str  # sys.argv as a JSON array
    folder: str


class FlowRun(NamedTuple):
    """Where a flow run stands.

    Attributes:
        status: the word a subflow is shown as in the tree of the run that called it.
        state: its newest state's name, or the verdict on it: ``Crashed`` when the process is gone, ``Running?`` when
            nobody can tell.
        recorded: the newest state's name as the journal has it.
        died: the journal says it runs, and no process does.
        live: a process executes it; None when that cannot be told. Only asked of a run that has no recorded end.
        ended: when its last execution ended; of one that died, the last thing recorded; None while it runs.
        took: time spent executing, over all executions.
        executions: how many times a process took it up.
        process: the last one that did.
        result_row: the recorded value or exception of its newest state, or None.
        parent_row: of a subflow, the flow run it was called in.
        parent_task_row: of a subflow called in a task, that task run.
    """

    row: int
    id: str
    flow: str
    function: str
    name: str | None
    status: str
    state: str
    type: str
    recorded: str
    died: bool
    live: bool | None
    started: int
    ended: int | None
    took: int
    executions: int
    process: Process
    message: str | None
    result_row: int | None
    idempotency_key: str | None
    parent_row: int | None
    parent_task_row: int | None

    @property
    def called(self) -> str:
        """How people call it: its own name, or the two words its id stands for."""
        return self.name or spoken(bytes.fromhex(self.id))

    @property
    def completed(self) -> bool:
        """Whether it came to its end."""
        return self.type == "COMPLETED"

    @property
    def running(self) -> bool:
        """Whether it executes now, as far as anybody can tell."""
        return self.ended is None


class Execution(NamedTuple):
    """One stretch of a flow run in one process.

    Attributes:
        state: what it ended in; of one cut off, ``Crashed``; of one under way, ``Running`` or ``Running?``.
        ended: when, or the last thing recorded of one cut off; None while it runs.
    """

    process: Process
    state: str
    started: int
    ended: int | None
    message: str | None


class TaskRun(NamedTuple):
    """Where a task run stands.

    Attributes:
        status: the word it is shown as: one of the constants of this module.
        state: its newest recorded state's name.
        began: when its last attempt began.
        ended: when that ended; None if no end is recorded.
        inputs: canonical bytes of its arguments, or None.
        result_row: its recorded value or exception, or None.
        result_bytes: the size of that, encoded.
    """

    row: int
    id: str
    task: str
    function: str
    name: str | None
    status: str
    state: str
    started: int
    began: int
    ended: int | None
    attempts: int
    occurrence: int
    inputs: bytes | None
    message: str | None
    result_row: int | None
    result_bytes: int | None
    flow_run_row: int | None
    parent_row: int | None
    process_row: int

    @property
    def took(self) -> int | None:
        """How long the last attempt lasted; None if no end is recorded."""
        return max(0, self.ended - self.began) if self.ended is not None else None


class Counts(NamedTuple):
    """The task runs of a flow run and its subflows, by what they are shown as; each is in one of these.

    Attributes:
        more: there are older ones, which were not counted.
        newest_cut_off: row of the newest one crashed or lost.
    """

    total: int = 0
    completed: int = 0
    cached: int = 0
    failed: int = 0
    crashed: int = 0
    lost: int = 0
    running: int = 0
    rolled_back: int = 0
    other: int = 0
    more: bool = False
    newest_cut_off: int | None = None

    @property
    def cut_off(self) -> int:
        """How many had started and did not end, because their process did."""
        return self.crashed + self.lost


class Times(NamedTuple):
    """How long the members of a group took. The percentiles are right to 3 %."""

    total: int
    p50: int
    p95: int


class Node(NamedTuple):
    """One line of a run's tree: a task run or subflow, or several equal ones.

    Attributes:
        depth: how many calls it is nested in, from 0.
        calls: how many it stands for; `first` and `last` are the first and last begun of them.
        retried: how many of them needed more than one attempt.
        times: of several, how long they took; None if no end is recorded of any.
    """

    depth: int
    status: str
    calls: int
    first: TaskRun | FlowRun
    last: TaskRun | FlowRun
    retried: int
    times: Times | None


class Failure(NamedTuple):
    """A recorded exception, as text."""

    type_name: str
    message: str
    traceback: str


class Health(NamedTuple):
    """What is known of the file without reading all of it.

    Attributes:
        bytes: size of the file and its write-ahead log.
        problem: what a structural check found, or None; `checked` says whether the whole structure was checked.
        runs: flow runs that are nobody's subflow.
        unfinished: of the newest 100,000 of those, the ones that did not complete.
        outside: task runs outside any flow.
    """

    bytes: int
    version: int
    checked: bool
    problem: str | None
    runs: int
    unfinished: int
    outside: int
