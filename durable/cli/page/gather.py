"""One pass over a run's task runs: where the time went, what went on when, and which of them to show one by one."""

from __future__ import annotations

from collections import Counter
from heapq import heappush, heappushpop
from typing import Final

from durable.cli.page.axis import Axis, Coverage, Density
from durable.clock import clock
from durable.reader import FlowRun, JournalReader, sql
from durable.reader.spans import Span, spans_of, stretches_of
from durable.reader.spread import Spread

INDIVIDUALS: Final = 2000  # task runs up to which each is on the page by itself
_LANES: Final = 40
_KEPT: Final = 300  # notable ones of each kind
_SLOWEST_OF_A_TASK: Final = 5
PLACE: Final = "flow process"  # the lane of tasks that no runner executes
_OTHERS: Final = "other workers"
BAD: Final = frozenset({"failed", "timed out", "crashed", "lost"})
LIVE: Final = frozenset({"running", "running?", "retrying", "waiting", "cancelling", "pending"})


class Kind:
    """All calls of one task or subflow.

    Attributes:
        total: how long their attempts took together; `own` is that without what they called.
        failed_time: what the attempts took that did not end well.
    """

    def __init__(self, name: str, function: str, *, is_flow: bool) -> None:
        self.name = name
        self.function = function
        self.is_flow = is_flow
        self.statuses: Counter[str] = Counter()
        self.retried = 0
        self.total = self.own = self.failed_time = self.waited = 0
        self.spread = Spread()
        self.upstream: Counter[tuple[str, str]] = Counter()

    @property
    def calls(self) -> int:
        """How many there are."""
        return sum(self.statuses.values())


class Top:
    """The spans with the largest weights, in flat memory."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[int, int, Span]] = []

    def add(self, weight: int, span: Span) -> None:
        """Offer one. Of equal ones the earlier stays."""
        entry = weight, -span.row, span
        if len(self._heap) < self._size:
            heappush(self._heap, entry)
        elif entry > self._heap[0]:
            heappushpop(self._heap, entry)

    def spans(self) -> list[Span]:
        """Those kept."""
        return [span for _, _, span in self._heap]


class Profile:
    """What a run's page is made of. Of task runs, the ones worth a look; of all others, sums.

    Attributes:
        total: how many task runs there are.
        kinds: tasks and subflows by what identifies them.
        lanes: what went on when, for each worker; `overall` for all of them.
        chosen: the spans shown one by one, by row.
        whole: whether those are all.
        covered: how long at least one call of the flow's body was going on.
        busy: how long those calls took together.
        took: how long the run was executed.
        elapsed: the time from its begin to its end.
    """

    def __init__(self, reader: JournalReader, run: FlowRun, total: int) -> None:
        self.reader = reader
        self.run = run
        self.now = clock().now()
        self.stretches = stretches_of(reader, run, self.now)
        self.axis = Axis(self.stretches)
        self.kinds: dict[object, Kind] = {}
        self.lanes: dict[str, Density] = {}
        self.overall = Density()
        self.total = self.retried = self.attempts = self.waited = 0
        self.statuses: Counter[str] = Counter()
        self.took = sum(end - begin for begin, end in self.stretches.spans)
        self.elapsed = self.stretches.spans[-1][1] - self.stretches.spans[0][0]
        self.whole = total <= INDIVIDUALS
        self.subflows = 0
        self._tops = {name: Top(_KEPT) for name in ("failed", "cut off", "under way", "retried", "slowest")}
        self._slowest: dict[object, Top] = {}
        self._tasks: dict[int, Kind] = {}
        self._all: list[Span] = []
        self._callers: dict[int, Kind | None] = {}
        self._members: dict[int, Kind] = {}
        self._read()

    def _read(self) -> None:
        family = self.reader.family(self.run.row)
        called: list[tuple[int, int]] = []
        flows: list[tuple[Kind, FlowRun]] = []
        for member in family:
            self._callers.update((parent, None) for _, parent in self.reader.stream(sql.NESTED, member, 0))
            for flow in self.reader.subflows(member):
                kind = self._kind(("flow", flow.function, flow.flow), flow.flow, flow.function, is_flow=True)
                self._members[flow.row] = kind
                if flow.parent_task_row is not None:
                    self._callers[flow.parent_task_row] = None
                if member == self.run.row and flow.parent_task_row is None:
                    called.append((flow.started, self.now if flow.ended is None else flow.ended))
                flows.append((kind, flow))
        covered = Coverage(called)
        self.busy = sum(max(0, end - begin) for begin, end in called)
        for span in spans_of(self.reader, self.run, self.stretches):
            self._add(span)
            if span.flow_run == self.run.row and span.parent is None:
                covered.add(span)
                self.busy += span.busy
        for kind, flow in flows:
            self._add_flow(kind, flow)
        self.covered = min(covered.total(), self.took)
        for member in family if self.reader.version > 1 else ():
            for task, other, argument in self.reader.stream(sql.DEPENDENCIES, member):
                self._task(task).upstream[self._task(other).name, argument] += 1

    def _kind(self, key: object, name: str, function: str, *, is_flow: bool) -> Kind:
        found = self.kinds.get(key)
        if found is None:
            found = self.kinds[key] = Kind(name, function, is_flow=is_flow)
        return found

    def _task(self, row: int) -> Kind:
        found = self._tasks.get(row)
        if found is None:
            key, name, function = self.reader.task(row)
            found = self._tasks[row] = self._kind(key, name, function, is_flow=False)
        return found

    def _add(self, span: Span) -> None:
        kind = self._task(span.task)
        status = span.status
        self.total += 1
        self.statuses[status] += 1
        self.attempts += span.tries
        self.waited += span.waited
        kind.statuses[status] += 1
        kind.total += span.busy
        kind.own += span.busy
        kind.waited += span.waited
        if span.last is not None:
            took = span.last[1] - span.last[0]
            kind.failed_time += span.busy if status in BAD else span.busy - took
            if span.ended:
                kind.spread.add(took)
        if span.row in self._callers:
            self._callers[span.row] = kind
        caller = self._callers.get(span.parent) if span.parent is not None else self._members.get(span.flow_run)
        if caller is not None:
            caller.own -= span.busy
        self._draw(span)
        self._choose(span, kind)

    def _add_flow(self, kind: Kind, flow: FlowRun) -> None:
        self.subflows += 1
        kind.statuses[flow.status] += 1
        kind.total += flow.took
        kind.own += flow.took
        if flow.ended is not None and not flow.died:
            kind.spread.add(flow.took)
        if flow.parent_task_row is not None:
            caller = self._callers.get(flow.parent_task_row)
        else:
            caller = self._members.get(flow.parent_row or 0)
        if caller is not None:
            caller.own -= flow.took

    def _draw(self, span: Span) -> None:
        name = span.worker or PLACE
        lane = self.lanes.get(name)
        if lane is None:
            name = name if len(self.lanes) < _LANES else _OTHERS
            lane = self.lanes.setdefault(name, Density())
        for begin, end in span.attempts:
            left, right = self.axis.at(begin), self.axis.at(end)
            lane.add(left, right)
            if span.parent is None:
                self.overall.add(left, right)
        if span.last is not None and span.status in BAD:
            for each in (lane, self.overall):
                each.mark("bad", self.axis.at(span.last[1]))
        elif span.tries > 1:
            for each in (lane, self.overall):
                each.mark("retried", self.axis.at(span.attempts[0][1]))

    def lane_of(self, span: Span) -> str:
        """The lane a task run is drawn in."""
        name = span.worker or PLACE
        return name if name in self.lanes else _OTHERS

    def _choose(self, span: Span, kind: Kind) -> None:
        if span.tries > 1:
            self.retried += 1
            kind.retried += 1
        if self.whole:
            if len(self._all) < INDIVIDUALS:  # a live run may have grown since it was counted
                self._all.append(span)
            return
        status = span.status
        if status in BAD:
            self._tops["failed" if status in ("failed", "timed out") else "cut off"].add(-span.row, span)
        elif status in LIVE:
            self._tops["under way"].add(-span.row, span)
        if span.tries > 1:
            self._tops["retried"].add(span.tries, span)
        if span.last is not None:
            took = span.last[1] - span.last[0]
            self._tops["slowest"].add(took, span)
            if len(self._slowest) < _LANES or kind in self._slowest:
                self._slowest.setdefault(kind, Top(_SLOWEST_OF_A_TASK)).add(took, span)

    @property
    def chosen(self) -> dict[int, Span]:
        """The task runs shown one by one, in the order they were called."""
        spans = self._all
        if not self.whole:
            spans = [span for top in (*self._tops.values(), *self._slowest.values()) for span in top.spans()]
        return {span.row: span for span in sorted(set(spans), key=lambda span: (span.started, span.row))}
