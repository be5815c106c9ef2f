"""The tree of a run: what its body called, what that called in turn, in the order it began.

Two ways to walk it, both in memory that does not grow with the number of calls made by the flow's body:

`collapsed` makes one pass over the recorded transitions and counts equal siblings (the same task in the same state)
together once there are four of them, with what they called counted together as well. What is alike in a page of them
is counted by SQLite (`durable.reader.alike`), the rest is looked at one by one. `every` yields each run in its place,
reading a page at a time. Both remember which task runs have called others: some bytes for each of those.
"""

from __future__ import annotations

import json
from array import array
from collections import deque
from collections.abc import Iterator
from heapq import merge
from itertools import chain
from math import log
from typing import Any, Final

from durable.reader import sql
from durable.reader.alike import ALIKE, Alike, Counting, Kind, Page, pages
from durable.reader.journal import JournalReader
from durable.reader.model import FlowRun, Node, TaskRun
from durable.reader.spread import STEPS, Spread
from durable.reader.standing import STARTS, UNDONE, Standing

_PAGE: Final = 500
_NEVER: Final = 1 << 63
_END: Final = (None, None, 0, 0, 0, 0, None, 0, 0)


class _Item:
    """A task run or subflow, or all that were counted with it. Its `groups` are what it called."""

    __slots__ = ("began", "count", "first", "groups", "is_flow", "joined", "last", "retried", "spread", "status")

    def __init__(self, status: str, began: int, row: int, *, is_flow: bool) -> None:
        self.status = status
        self.began = began
        self.first = self.last = row
        self.is_flow = is_flow
        self.count = 1
        self.retried = 0
        self.spread = Spread()
        self.groups: dict[Any, _Group] = {}
        self.joined: _Item | None = None

    def join(self, other: _Item) -> None:
        """Count `other`, a later sibling, with this one."""
        other.joined = self
        self.count += other.count
        self.last = other.last
        self.retried += other.retried
        self.spread.merge(other.spread)
        other.spread = self.spread
        for kind, group in other.groups.items():
            mine = self.groups.setdefault(kind, _Group())
            for item in group.items:
                mine.add(item)
        other.groups = {}

    def resolved(self) -> _Item:
        """The item itself, or the one it is counted with by now."""
        item = self
        while item.joined is not None:
            item = item.joined
        return item


class _Group:
    """Equal siblings: up to three by themselves, more as one item."""

    __slots__ = ("items",)

    def __init__(self) -> None:
        self.items: list[_Item] = []

    @property
    def many(self) -> bool:
        """Whether there are so many that they are one item."""
        return bool(self.items) and self.items[0].count >= ALIKE

    def add(self, item: _Item) -> None:
        items = self.items
        if self.many:
            items[0].join(item)
            return
        items.append(item)
        if sum(each.count for each in items) >= ALIKE:
            first, *rest = items
            for each in rest:
                first.join(each)
            self.items = [first]


def collapsed(reader: JournalReader, run: FlowRun | None) -> Iterator[Node]:
    """The tree of a flow run (None: of the task runs outside any flow), equal siblings counted together."""
    with reader.snapshot():
        root = _collect(reader, run)
    yield from _shown(reader, root, 0)


def every(reader: JournalReader, run: FlowRun | None) -> Iterator[Node]:
    """The tree of a flow run (None: of the task runs outside any flow), each run by itself."""
    yield from _Expanded(reader, run).calls_of_flow(run, 0)


def calls_of(reader: JournalReader, task: TaskRun) -> Iterator[Node]:
    """What one task run called, each by itself."""
    run = reader.flow_run(task.flow_run_row) if task.flow_run_row is not None else None
    yield from _Expanded(reader, run, task.row).calls_of_task(task, 0)


def _collect(reader: JournalReader, run: FlowRun | None) -> _Item:
    root = _Item("", 0, 0, is_flow=True)
    flows: dict[int | None, _Item] = {run.row if run is not None else None: root}
    callers: dict[int, _Item | None] = {}  # task runs that called something; None until they are met
    family: list[int | None] = [*reader.family(run.row)] if run is not None else [None]
    subflows = {}
    read: dict[int | None, tuple[list[Page], array[int]]] = {}
    for member in family:
        found = pages(reader, member)
        inside = array("q")
        called: Iterator[int | None] = (
            parent
            for page in found
            for (parent,) in reader.stream(
                sql.CALLERS_SPARSE if page.sparse else sql.CALLERS, member, page.low, page.high
            )
        )
        if member is not None:
            subflows[member] = reader.subflows(member)
            called = chain(called, (flow.parent_task_row for flow in subflows[member]))
        for caller in called:
            if caller is not None and caller not in callers:
                callers[caller] = None
                inside.append(caller)
        read[member] = found, array("q", sorted(inside))
    counting = Counting(reader)
    for member in family:
        scope = flows.get(member, root)
        adder = _Adder(reader, reader.standing(member) if member is not None else None, scope, callers)
        found, inside = read.pop(member)
        for page in found:
            _collect_tasks(adder, adder.transitions(member, page, inside, counting))
        for flow in subflows.get(member or 0, []):
            parent = callers.get(flow.parent_task_row or 0) or scope
            item = _Item(flow.status, flow.started, flow.row, is_flow=True)
            if flow.ended is not None and not flow.died:
                item.spread.add(flow.took)
            flows[flow.row] = item
            parent.resolved().groups.setdefault(("flow", flow.function, flow.status), _Group()).add(item)
    return root


def _collect_tasks(adder: _Adder, transitions: Iterator[Any]) -> None:
    """One pass over the transitions of a page: several rows for each task run, together and in order.

    Of a million of them nearly all are counted with those before, so that is done here, without a call or an object.
    """
    callers = adder.callers
    together = adder.together
    row = task = started = state = process = began = ended = attempts = 0
    parent: int | None = None
    met = False
    for id_, parent_, task_, first_state, first_at, first_process, later, at, by in chain(transitions, [_END]):
        if id_ != row or not met:
            if met:
                if row > adder.due:
                    adder.catch_up(row)
                spread = None
                if parent is None and row not in callers:
                    item = together.get((task, state, process))
                    if item is not None:
                        item.count += 1
                        item.last = row
                        if attempts > 1:
                            item.retried += 1
                        spread = item.spread
                        duration = ended - began
                        if duration < spread.low or duration > spread.high:
                            spread.add(duration)
                        else:
                            spread.total += duration
                            bucket = int(log(duration + 1) * STEPS)
                            spread.buckets[bucket] = spread.buckets.get(bucket, 0) + 1
                if spread is None:
                    adder.add(row, parent, task, started, state, process, began, ended, attempts)
            met, row = True, id_
            parent, task, started = parent_, task_, first_at
            state, process, began, ended = first_state, first_process, first_at, first_at
            attempts = 1 if state in STARTS else 0
        if later is not None:
            state, process = later, by
            if later != UNDONE:  # which is no part of how long it took
                ended = at
            if later in STARTS:
                began = at
                attempts += 1
    adder.catch_up(_NEVER)


class _Adder:
    """Puts task runs in their places.

    Attributes:
        together: by task, state and process: what those called in the flow's own body, and ended, are counted with.
        due: the row after which what SQLite has counted is to be added: `catch_up`.
    """

    def __init__(
        self, reader: JournalReader, standing: Standing | None, scope: _Item, callers: dict[int, _Item | None]
    ) -> None:
        self.reader = reader
        self.standing = standing
        self.scope = scope
        self.callers = callers
        self.kinds: dict[tuple[int, int, int], tuple[tuple[bytes, str], bool]] = {}
        self.together: dict[tuple[int, int, int], _Item] = {}
        self.due = _NEVER
        self._counted: deque[tuple[int, Alike, bool]] = deque()

    def transitions(self, member: int | None, page: Page, callers: array[int], counting: Counting) -> Iterator[Any]:
        """The transitions of those task runs of a page that are to be looked at; what SQLite has counted is noted."""
        counted = counting.page(member, page, callers, self._many)
        if counted is None:
            query = sql.TRANSITIONS_SPARSE if page.sparse else sql.TRANSITIONS
            return self.reader.stream(query, member, page.low, page.high)
        # A kind is counted where its first one began, and the last of it is the last where that began.
        noted = [(one.last, one, one.first is None) for one in counted.alike]
        noted += [(one.first, one, True) for one in counted.alike if one.first is not None]
        self._counted.extend(sorted(noted, key=lambda note: note[0]))
        self.due = self._counted[0][0] if self._counted else _NEVER
        if not counted.others:
            return iter(())
        return self.reader.stream(sql.TRANSITIONS_OF, json.dumps(counted.others), member)

    def catch_up(self, row: int) -> None:
        """Add what SQLite has counted before a row."""
        while self._counted and self._counted[0][0] < row:
            at, one, adds = self._counted.popleft()
            kind, has_ended = self._kind(*one.kind)
            group = self._place(one.caller).groups.setdefault(kind, _Group())
            if adds:
                if group.many:
                    group.items[0].count += len(one.took)
                else:
                    item = _Item(kind[1], self.reader.rows(sql.BEGAN, at)[0][0], at, is_flow=False)
                    item.count = len(one.took)
                    group.add(item)
                if has_ended:
                    group.items[0].spread.add_all(one.took)
            if at == one.last:
                group.items[0].last = at
        self.due = self._counted[0][0] if self._counted else _NEVER

    def _many(self, kind: Kind) -> bool:
        group = self.scope.resolved().groups.get(self._kind(*kind)[0])
        return group is not None and group.many

    def _place(self, parent: int | None) -> _Item:
        place = self.scope if parent is None else (self.callers.get(parent) or self.scope)
        return place.resolved()

    def _kind(self, task: int, state: int, process: int) -> tuple[tuple[bytes, str], bool]:
        """What a task run is counted with, and whether it has ended."""
        found = self.kinds.get((task, state, process))
        if found is None:
            name = self.reader.state(state)
            status = (self.standing or Standing(None, process)).status(name, process)
            found = self.kinds[task, state, process] = (self.reader.task(task)[0], status), name.ended
        return found

    def add(
        self,
        row: int,
        parent: int | None,
        task: int,
        started: int,
        state: int,
        process: int,
        began: int,
        ended: int,
        attempts: int,
    ) -> None:
        """One task run, by its newest state and its last attempt."""
        kind, has_ended = self.kinds.get((task, state, process)) or self._kind(task, state, process)
        groups = self._place(parent).groups
        group = groups.get(kind)
        if group is None:
            group = groups[kind] = _Group()
        is_caller = row in self.callers
        items = group.items
        if items and items[0].count >= ALIKE and not is_caller:  # the common case by far, without an object of its own
            item = items[0]
            item.count += 1
            item.last = row
            item.retried += attempts > 1
            if parent is None and has_ended:
                self.together[task, state, process] = item
        else:
            item = _Item(kind[1], started, row, is_flow=False)
            item.retried = int(attempts > 1)
            group.add(item)
            item = item.resolved()
            if is_caller:
                self.callers[row] = item
        if has_ended:
            item.spread.add(ended - began)


def _shown(reader: JournalReader, item: _Item, depth: int) -> Iterator[Node]:
    items = sorted(
        (each for group in item.groups.values() for each in group.items), key=lambda each: (each.began, each.first)
    )
    for each in items:
        read = reader.flow_run if each.is_flow else reader.task_run
        first = read(each.first)
        last = first if each.last == each.first else read(each.last)
        times = each.spread.times() if each.count > 1 else None
        yield Node(depth, each.status, each.count, first, last, each.retried, times)
        yield from _shown(reader, each, depth + 1)


class _Expanded:
    """The tree, each run by itself. Holds who called whom, for calls made in a task's body only; with `below`, for
    those that this task run led to.
    """

    def __init__(self, reader: JournalReader, run: FlowRun | None, below: int | None = None) -> None:
        self.reader = reader
        self.called: dict[int, array[int]] = {}
        self.subflows: dict[int, list[FlowRun]] = {}  # by the calling task run
        self.own: dict[int, list[FlowRun]] = {}  # by flow run: called in its own body
        inside: set[int] = set()
        family: list[int | None] = [*reader.family(run.row)] if run is not None else [None]
        for member in family:
            here = below is not None and run is not None and member == run.row
            for row, parent in reader.stream(sql.NESTED, member, (below or 0) if here else 0):
                if not here or parent == below or parent in inside:
                    self.called.setdefault(parent, array("q")).append(row)
                    if here:
                        inside.add(row)
            for flow in reader.subflows(member) if member is not None else []:
                where = self.own.setdefault(member or 0, [])
                if flow.parent_task_row is not None:
                    where = self.subflows.setdefault(flow.parent_task_row, [])
                where.append(flow)

    def calls_of_flow(self, run: FlowRun | None, depth: int) -> Iterator[Node]:
        row = run.row if run is not None else None
        yield from self._nodes(merge(self._pages(row), self.own.get(row or 0, []), key=_started), depth)

    def calls_of_task(self, task: TaskRun, depth: int) -> Iterator[Node]:
        tasks = map(self.reader.task_run, self.called.get(task.row, ()))
        yield from self._nodes(merge(tasks, self.subflows.get(task.row, []), key=_started), depth)

    def _nodes(self, runs: Iterator[TaskRun | FlowRun], depth: int) -> Iterator[Node]:
        for run in runs:
            retried = int(isinstance(run, TaskRun) and run.attempts > 1)
            yield Node(depth, run.status, 1, run, run, retried, None)
            yield from (
                self.calls_of_task(run, depth + 1) if isinstance(run, TaskRun) else self.calls_of_flow(run, depth + 1)
            )

    def _pages(self, flow_run: int | None) -> Iterator[TaskRun]:
        page = self.reader.task_runs(flow_run, _PAGE)
        while page:
            yield from page
            page = self.reader.task_runs(flow_run, _PAGE, page[-1].row) if len(page) == _PAGE else []


def _started(run: TaskRun | FlowRun) -> int:
    return run.started
