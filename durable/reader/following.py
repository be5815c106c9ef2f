"""Transitions as they are recorded, found by looking again and again, without ever scanning a long journal to no end.

Rules:

1. Nothing is kept open between two looks, so no writer's checkpoint ever waits for us; and nothing is looked at while
   neither the file nor its log has changed.
2. What is new is found by its row: runs begun since, and the later transitions of those that have not ended. Both
   cost what there is to be told.
3. A run that began before may be executed again. Its transitions are found by their time, in one pass over all of
   them, which costs a second for some millions: it is made as often as keeps it to a twentieth of the time.
4. What has been told is remembered for as long as such a pass could find it again. Times are the writers', which may
   be behind by as long as they wait for the write lock; ten seconds are allowed for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from heapq import nlargest
from pathlib import Path
from typing import Any, Final, NamedTuple

from durable.reader.journal import JournalReader
from durable.reader.standing import KNOWN

PAGE: Final = 2000
_LAG: Final = 10_000_000  # microseconds
_SHARE: Final = 20
_FRESH: Final = 50_000_000  # nanoseconds: a file changed so recently may have changed again within one tick of its time

FLOW: Final = "flow_run"
TASK: Final = "task_run"
_NEW: Final = """
SELECT id, 0, state, at, process_id, NULL FROM {table} WHERE id > ? ORDER BY id LIMIT {page}"""
_LATER: Final = """
SELECT {table}_id, seq, state, at, process_id, substr(message, 1, 1000)
FROM {table}_state WHERE {table}_id = ? AND seq > ? ORDER BY seq"""
_SINCE: Final = """
SELECT {table}_id, seq, state, at, process_id, substr(message, 1, 1000) FROM {table}_state WHERE at >= ?"""
_NEWEST: Final = """
SELECT {table}_id, seq, state, at, process_id, substr(message, 1, 1000)
FROM {table}_state ORDER BY at DESC, seq DESC LIMIT ?"""
_NEWEST_RUNS: Final = """
SELECT id, 0, state, at, process_id, NULL FROM {table} ORDER BY id DESC LIMIT ?"""
_LAST: Final = "SELECT coalesce(max(id), 0) FROM {table}"


class Transition(NamedTuple):
    """One transition: of which run's row, the how many-th, into which state (its number), when, by which process."""

    kind: str
    row: int
    seq: int
    state: int
    at: int
    process: int
    message: str | None

    @property
    def ends(self) -> bool:
        """Whether the run executes no more, for now."""
        known = KNOWN.get(self.state)
        return known is not None and known.ended


class Pace:
    """How often something costly is done: as often as keeps it to a share of the time."""

    def __init__(self) -> None:
        self._next = 0.0

    def due(self) -> bool:
        """Whether it is time again."""
        return time.monotonic() >= self._next

    def took(self, since: float) -> None:
        """It has been done, from `since` (of `time.monotonic`) until now."""
        now = time.monotonic()
        self._next = now + (now - since) * (_SHARE - 1)


class Follower:
    """The transitions of a journal from now on."""

    def __init__(self) -> None:
        self._last = {FLOW: 0, TASK: 0}
        self._told: dict[tuple[str, int], tuple[int, int]] = {}  # run: newest transition told, and its time
        self._open: set[tuple[str, int]] = set()
        self._newest = 0
        self._pace = Pace()
        self._passed = True  # a pass over all transitions was made since the file changed
        self._more = False  # of the new rows, a page was read

    @property
    def behind(self) -> bool:
        """Whether there is something to look for though the file has not changed."""
        return self._more or not self._passed

    def begin(self, reader: JournalReader, count: int) -> list[Transition]:
        """The newest `count` transitions there are now, oldest first; `poll` gives what comes after."""
        found: list[Transition] = []
        with reader.snapshot():
            for kind in (FLOW, TASK):
                self._last[kind] = reader.rows(_LAST.format(table=kind))[0][0]
                for text in (_NEWEST, _NEWEST_RUNS):
                    rows = reader.rows(text.format(table=kind), max(count, 1))
                    found += (Transition(kind, *row) for row in rows)
            self._newest = max((each.at for each in found), default=0)
            for kind in (FLOW, TASK):
                for row in reader.stream(_SINCE.format(table=kind), self._newest - _LAG):
                    self._remember(Transition(kind, *row))
        return sorted(nlargest(count, found, key=_order), key=_order)

    def poll(self, reader: JournalReader, *, changed: bool, whole: bool = False) -> list[Transition] | None:
        """What was recorded since the last look, in order; None if that cannot be told now: look again.

        Args:
            reader: the journal, opened for this look.
            changed: the file has changed since.
            whole: make a pass over all transitions, however long it takes.
        """
        self._passed = self._passed and not changed
        self._more = False
        began, passes = time.monotonic(), whole or (not self._passed and self._pace.due())
        with reader.snapshot():
            found = list(self._new(reader))
            if passes:
                found += self._again(reader, found)
                self._pace.took(began)
        if reader.changed():
            return None
        self._passed = self._passed or passes
        told = [each for each in sorted(set(found), key=_order) if self._is_new(each.kind, each.row, each.seq)]
        for each in told:
            self._remember(each)
        self._forget()
        return told

    def _new(self, reader: JournalReader) -> Iterator[Transition]:
        for kind in (FLOW, TASK):
            ((last,),) = reader.rows(_LAST.format(table=kind))
            if last < self._last[kind]:  # pruned, and rows are given again
                self._last[kind] = last
                self._told.clear()
                self._open.clear()
            begun = [
                Transition(kind, *row) for row in reader.rows(_NEW.format(table=kind, page=PAGE), self._last[kind])
            ]
            self._more = self._more or len(begun) == PAGE
            yield from begun
            going_on = [(row, self._told[known, row][0]) for known, row in self._open if known == kind]
            for row, seq in [*going_on, *((each.row, 0) for each in begun)]:
                yield from (Transition(kind, *found) for found in reader.rows(_LATER.format(table=kind), row, seq))

    def _again(self, reader: JournalReader, found: list[Transition]) -> list[Transition]:
        """The pass over all transitions: those of runs that began before, or are among `found`."""
        last = dict(self._last)
        for each in found:
            last[each.kind] = max(last[each.kind], each.row)
        return [
            Transition(kind, *row)
            for kind in (FLOW, TASK)
            for row in reader.stream(_SINCE.format(table=kind), self._newest - _LAG)
            if row[0] <= last[kind] and self._is_new(kind, *row[:2])
        ]

    def _is_new(self, kind: str, row: int, seq: int) -> bool:
        return seq > self._told.get((kind, row), (-1, 0))[0]

    def _remember(self, each: Transition) -> None:
        key = each.kind, each.row
        self._told[key] = max(self._told.get(key, (-1, 0)), (each.seq, each.at))
        self._newest = max(self._newest, each.at)
        self._last[each.kind] = max(self._last[each.kind], each.row)
        if each.ends:
            self._open.discard(key)
        else:
            self._open.add(key)

    def _forget(self) -> None:
        """What no pass can find again, unless it goes on: a run that does not will be found by a pass."""
        limit = self._newest - 2 * _LAG
        if len(self._open) > PAGE:
            self._open = {key for key in self._open if self._told[key][1] >= limit}
        if len(self._told) > PAGE:
            self._told = {key: told for key, told in self._told.items() if told[1] >= limit or key in self._open}


def _order(each: Transition) -> tuple[int, bool, int, int]:
    return each.at, each.kind == TASK, each.row, each.seq


class Signature:
    """Whether a journal has changed since it was last asked, told from its files alone."""

    def __init__(self, path: Path) -> None:
        self._files = path, Path(f"{path}-wal")
        self._before: Any = None

    def changed(self) -> bool:
        """Whether anything may have been written since."""
        now = [_stat(file) for file in self._files]
        newest = max((found[0] for found in now if found is not None), default=0)
        fresh = time.time_ns() - newest < _FRESH
        changed, self._before = fresh or now != self._before, now
        return changed


def _stat(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
