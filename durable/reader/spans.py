"""When each task run of a flow run executed: one pass over the recorded transitions, in flat memory."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, NamedTuple

from durable.reader import sql
from durable.reader.journal import JournalReader
from durable.reader.model import FlowRun
from durable.reader.standing import STARTS

_KEPT: Final = 12  # attempts of one task run that are kept one by one
_NEWEST: Final = (1 << 63) - 1
_WAITING: Final = 3  # AwaitingRetry
_FORMAT_WITH_WORKERS: Final = 2


class Span(NamedTuple):
    """When one task run executed.

    Attributes:
        parent: the task run whose body called it, or None.
        task: its task's row; see `JournalReader.task`.
        worker: what executed it, or None: its caller did.
        flow_run: the flow run in whose body it was called.
        started: when it was called.
        ended: whether its end is recorded.
        attempts: the first executions of its body, as (begin, end); an open one ends with its process.
        last: the newest of them; None if its body never began.
        tries: how many there were.
        busy: how long they took together.
        waited: the time between a failed attempt and the next.
    """

    row: int
    parent: int | None
    task: int
    worker: str | None
    flow_run: int
    status: str
    started: int
    ended: bool
    attempts: tuple[tuple[int, int], ...]
    last: tuple[int, int] | None
    tries: int
    busy: int
    waited: int


class Stretches:
    """The times in which somebody executed a flow run, in order; the last one may go on until `now`."""

    def __init__(self, spans: list[tuple[int, int]]) -> None:
        self.spans: list[tuple[int, int]] = []
        for begin, end in spans:
            # A clock that was set back must not make time run backwards here.
            begin = max(begin, self.spans[-1][1]) if self.spans else begin  # noqa: PLW2901
            self.spans.append((begin, max(begin, end)))
        self._ends = [end for _, end in self.spans]

    def end_after(self, moment: int) -> int:
        """When the stretch ended in which something began at `moment`."""
        at = bisect_left(self._ends, moment)
        return self._ends[at] if at < len(self._ends) else moment


def stretches_of(reader: JournalReader, run: FlowRun, now: int) -> Stretches:
    """When a flow run was executed; one that executes still, until `now`, or if nobody knows, until its last record."""
    executions = reader.executions(run)
    if run.live is None and executions[-1].ended is None:
        now = int(reader.rows(sql.LAST_RECORD, run.row, _NEWEST)[0][0])
    return Stretches([(each.started, now if each.ended is None else each.ended) for each in executions])


def spans_of(reader: JournalReader, run: FlowRun, stretches: Stretches) -> Iterator[Span]:
    """The task runs of a flow run and its subflows: each flow run's own in the order they began."""
    query = sql.SPANS if reader.version >= _FORMAT_WITH_WORKERS else sql.SPANS_OF_FORMAT_1
    for member in reader.family(run.row):
        rows = reader.stream(query, member)
        first = next(rows, None)
        if first is None:
            continue
        building = _Building(reader, stretches, member)
        building.begin(first)
        for row in rows:
            if row[0] != building.row:
                yield building.span()
                building.begin(row)
            else:
                building.enter(row[7], row[8], row[9])
        yield building.span()


class _Building:
    """One task run while its transitions come in."""

    def __init__(self, reader: JournalReader, stretches: Stretches, member: int) -> None:
        self.reader = reader
        self.stretches = stretches
        self.standing = reader.standing(member)
        self.member = member
        self.statuses: dict[tuple[int, int], tuple[str, bool]] = {}
        self.row = 0

    def begin(self, row: tuple[int, int | None, int, str | None, int, int, int, int | None, int, int]) -> None:
        self.row, self.parent, self.task, self.worker, self.state, self.at, self.process, later, at, by = row
        self.started = self.at
        self.attempts: list[tuple[int, int]] = []
        self.last: tuple[int, int] | None = None
        self.count = self.busy = self.waited = 0
        if later is not None:
            self.enter(later, at, by)

    def enter(self, state: int, at: int, process: int) -> None:
        """A transition: what was before it has ended."""
        if self.state in STARTS:
            # Found out by a later process: the attempt had ended with the process that made it.
            self._attempt(at if process == self.process else min(at, self.stretches.end_after(self.at)))
        elif self.state == _WAITING:
            self.waited += max(0, at - self.at)
        self.state, self.at, self.process = state, at, process

    def _attempt(self, end: int) -> None:
        attempt = self.at, max(self.at, end)
        self.count += 1
        self.busy += attempt[1] - attempt[0]
        self.last = attempt
        if len(self.attempts) < _KEPT:
            self.attempts.append(attempt)

    def span(self) -> Span:
        if self.state in STARTS:
            self._attempt(self.stretches.end_after(self.at))
        key = self.state, self.process
        found = self.statuses.get(key)
        if found is None:
            name = self.reader.state(self.state)
            found = self.statuses[key] = self.standing.status(name, self.process), name.ended
        status, ended = found
        return Span(
            self.row,
            self.parent,
            self.task,
            self.worker,
            self.member,
            status,
            self.started,
            ended,
            tuple(self.attempts),
            self.last,
            self.count,
            self.busy,
            self.waited,
        )
