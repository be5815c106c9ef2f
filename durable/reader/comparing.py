"""Two runs of a flow, call by call: which calls of one are which of the other.

Rules:

1. The same call is found by its identity: the same task, arguments and occurrence, called in the same place. Its key in
   the other run is computed, and looked up.
2. Calls without an equal in the other run are matched by position: the n-th such call of a task with the n-th.
3. Both runs are read side by side, a page at a time. What waits for its match is held as row numbers, and no more than
   `WAITING` of a task: beyond that the oldest is taken to be in one run only.
4. A subflow is matched like a call, by its parameters first and then by position.
5. A comparison may be told to end after some calls. What it has not come to is told as `Rest`, and what still waited
   then is part of it: its match may be further on.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from itertools import chain, zip_longest
from typing import Final, NamedTuple

from durable.reader import queries
from durable.reader.calls import Call, call, call_by_key, calls_in, identity
from durable.reader.journal import JournalReader

WAITING: Final = 50_000
_IMAGES: Final = 10_000
_DEEPEST: Final = 100
_OCCURRENCES: Final = 1 << 63
_ALL: Final = 1 << 62


class Pair(NamedTuple):
    """A call and its match; one of the two is None where there is none.

    Attributes:
        same: they are the same call, so their arguments are equal.
    """

    old: Call | None
    new: Call | None
    same: bool


class Rest(NamedTuple):
    """What was not compared of two matched flow runs, or of one that has no match (then the other is None).

    Attributes:
        old_after, new_after: the rows of the last calls that were.
        old_waiting, new_waiting: rows before those of calls that have no match so far.
    """

    old: int | None
    new: int | None
    old_after: int = 0
    new_after: int = 0
    old_waiting: tuple[int, ...] = ()
    new_waiting: tuple[int, ...] = ()


class Comparison:
    """All calls of two flow runs (their rows) and of their subflows, matched.

    Args:
        most: end after so many calls of each.

    Attributes:
        rest: after `pairs`: what was not compared.
    """

    def __init__(self, reader: JournalReader, old: int, new: int, most: int | None = None) -> None:
        self.rest: list[Rest] = []
        self._reader = reader
        self._runs = old, new
        self._left = _ALL if most is None else most

    def pairs(self) -> Iterator[Pair]:
        """The pairs, and calls without a match."""
        for left, right in members(self._reader, *self._runs):
            if self._left <= 0:
                self.rest.append(Rest(left, right))
            elif left is None or right is None:
                yield from self._alone(left, right)
            else:
                side = Side(self._reader, left, right)
                yield from side.pairs(self._left)
                self._left -= side.read
                self.rest += side.rest

    def _alone(self, left: int | None, right: int | None) -> Iterator[Pair]:
        after = 0
        for found in calls_in(self._reader, left or right or 0):
            if self._left <= 0:
                self.rest.append(Rest(left, right, after, after))
                return
            self._left -= 1
            after = found.row
            yield Pair(found, None, False) if right is None else Pair(None, found, False)


def pairs(reader: JournalReader, old: int, new: int) -> Iterator[Pair]:
    """All calls of two flow runs (their rows) and of their subflows, matched."""
    return Comparison(reader, old, new).pairs()


def members(reader: JournalReader, old: int, new: int) -> Iterator[tuple[int | None, int | None]]:
    """A flow run and its subflows, with their matches; parents first."""
    todo: deque[tuple[int | None, int | None]] = deque([(old, new)])
    while todo:
        left, right = todo.popleft()
        yield left, right
        before = reader.rows(queries.CHILDREN, left, left) if left is not None else []
        after = reader.rows(queries.CHILDREN, right, right) if right is not None else []
        known: dict[tuple[int, bytes | None], deque[int]] = {}
        for row, _, flow, parameters in before:
            known.setdefault((flow, parameters), deque()).append(row)
        rest: dict[int, deque[int]] = {}
        for row, _, flow, parameters in after:
            equal = known.get((flow, parameters))
            if equal:
                todo.append((equal.popleft(), row))
            else:
                rest.setdefault(flow, deque()).append(row)
        unmatched = sorted((row, flow) for (flow, _), rows in known.items() for row in rows)
        for row, flow in unmatched:
            others = rest.get(flow)
            todo.append((row, others.popleft() if others else None))
        todo.extend((None, row) for rows in rest.values() for row in rows)


class Side:
    """One pair of flow runs, side by side.

    Attributes:
        read: after `pairs`: how many calls of each were read.
        rest: after `pairs`: what was not compared, if that is anything.
    """

    def __init__(self, reader: JournalReader, old: int, new: int) -> None:
        self.reader = reader
        self.old, self.new = old, new
        self.read = 0
        self.rest: list[Rest] = []
        self.keys = {row: reader.rows(queries.FLOW_RUN_EXTRAS, row)[0][0] for row in (old, new)}
        self.images: OrderedDict[int, bytes | None] = OrderedDict()  # task run row -> key of its match
        self.waiting: dict[tuple[bytes, bool], deque[int]] = {}
        self.tasks: dict[int, bytes] = {}

    def pairs(self, most: int) -> Iterator[Pair]:
        """The pairs among the first `most` calls of each."""
        old_after = new_after = 0
        both = zip_longest(calls_in(self.reader, self.new), calls_in(self.reader, self.old))
        for new, old in both:
            if self.read >= most:
                waiting = self._waiting(is_new=False), self._waiting(is_new=True)
                self.rest.append(Rest(self.old, self.new, old_after, new_after, *waiting))
                return
            self.read += 1
            if new is not None:
                new_after = new.row
                equal = self.equal(new)
                yield from [Pair(equal, new, True)] if equal is not None else self._by_position(new, is_new=True)
            if old is not None:
                old_after = old.row
                if not self._has_equal(old):
                    yield from self._by_position(old, is_new=False)
        for (_, is_new), rows in self.waiting.items():
            for row in rows:
                yield from self._alone(row, is_new=is_new)

    def equal(self, found: Call) -> Call | None:
        """The same call in the old run, of one in the new."""
        key = self._key(found, self.old)
        equal = call_by_key(self.reader, key) if key is not None else None
        return equal if equal is not None and equal.flow_run == self.old else None

    def _has_equal(self, found: Call) -> bool:
        """Whether the new run has the same call, of one in the old."""
        key = self._key(found, self.new)
        return key is not None and self.reader.rows(queries.WHERE_CALLED, key) == [(self.new,)]

    def _key(self, found: Call, other: int) -> bytes | None:
        """The key of the same call in the other flow run, whether it was made there or not."""
        scope = self.keys[other] if found.parent is None else self._image(found.parent, other, found.row, 0)
        if scope is None or not isinstance(found.inputs, bytes) or not 0 < found.occurrence < _OCCURRENCES:
            return None
        return identity(scope, self._task(found.task), found.inputs, found.occurrence)

    def _image(self, row: int, other: int, before: int, depth: int) -> bytes | None:
        """The key of a caller's match. It began before its calls; in a damaged file it may not have: this must end."""
        if row in self.images:
            return self.images[row]
        key: bytes | None = None
        if row < before and depth < _DEEPEST:
            for task, inputs, occurrence, parent in self.reader.rows(queries.IDENTITY, row):
                scope = self.keys[other] if parent is None else self._image(parent, other, row, depth + 1)
                if scope is not None and isinstance(inputs, bytes) and 0 < occurrence < _OCCURRENCES:
                    key = identity(scope, task, inputs, occurrence)
        self._remember(row, key)
        return key

    def _remember(self, row: int, key: bytes | None) -> None:
        self.images[row] = key
        if len(self.images) > _IMAGES:
            self.images.popitem(last=False)

    def _waiting(self, *, is_new: bool) -> tuple[int, ...]:
        return tuple(chain.from_iterable(rows for (_, side), rows in self.waiting.items() if side is is_new))

    def _by_position(self, found: Call, *, is_new: bool) -> Iterator[Pair]:
        task = self._task(found.task)
        matches = self.waiting.get((task, not is_new))
        if matches:
            match = call(self.reader, matches.popleft())
            old, new = (match, found) if is_new else (found, match)
            if old is not None and new is not None:
                self._remember(old.row, new.key)
                self._remember(new.row, old.key)
            yield Pair(old, new, False)
            return
        mine = self.waiting.setdefault((task, is_new), deque())
        mine.append(found.row)
        if len(mine) > WAITING:
            yield from self._alone(mine.popleft(), is_new=is_new)

    def _alone(self, row: int, *, is_new: bool) -> Iterator[Pair]:
        found = call(self.reader, row)
        if found is not None:
            yield Pair(None, found, False) if is_new else Pair(found, None, False)

    def _task(self, row: int) -> bytes:
        """What is the same task in both runs, whatever its source is."""
        if row not in self.tasks:
            self.tasks[row] = self.reader.task(row)[0]
        return self.tasks[row]
