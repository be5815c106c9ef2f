"""Task runs that are alike, counted by SQLite: what makes the tree of a million calls a matter of a second.

Rules:

1. A task run can be counted with others if it called nothing itself, and has made one transition. Its kind is its task,
   that transition's state, and the process that recorded it.
2. Pages are made by the task runs' numbers, and read from `task_run_state`, where the transitions of what began
   together lie together. The kinds looked for are those of the page before. Only where they do not account for most of
   a page, SQLite is asked for the kinds it has; for that it sorts the page, and never more.
3. What was called in the bodies of tasks is only counted where that is most of a page: by caller and kind, sorted.
4. What is not counted is told by its number, for the caller to look at. Where that would be much of a page, the caller
   is to look at all of it, and at all of the next pages, more and more of them.
5. How long task runs took comes as one text for each kind and page: rows would take longer to fetch than to count.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple

from durable.reader.journal import JournalReader

ALIKE: Final = 4  # siblings from which on equal ones are shown together
PAGE: Final = 10_000
_SHORT: Final = 32  # task runs up to which looking at each is quicker
_KINDS: Final = 8
_SPARSE: Final = 16  # numbers for each task run from which on they are looked up one by one
_MOST_SKIPPED: Final = 64  # pages
_SHARE: Final = 4  # of a page, one in so many may be left to be looked at: a look that is asked for costs more
_APART: Final = (5, 6, 9)  # an attempt begins, or was undone: how long it took is told otherwise

_PAGE: Final = f"""
SELECT min(id), max(id), count(*)
FROM (SELECT t.id FROM task_run AS t WHERE t.flow_run_id IS ? AND t.id > ? ORDER BY t.id LIMIT {PAGE})"""
_AFTER: Final = "SELECT t.id FROM task_run AS t WHERE t.flow_run_id IS :a AND t.id > :b ORDER BY t.id LIMIT 1"
_NEXT: Final = f"SELECT ({_AFTER}), ({_AFTER} OFFSET {PAGE - 1})"
_SEVERAL: Final = """
SELECT group_concat(s.task_run_id) FROM task_run_state AS s WHERE s.task_run_id BETWEEN ? AND ? AND s.seq > 1
    AND EXISTS (SELECT 1 FROM task_run AS t WHERE t.id = s.task_run_id AND t.flow_run_id IS ?)"""
_FROM: Final = """
FROM task_run_state AS s CROSS JOIN task_run AS t ON t.id = s.task_run_id AND t.flow_run_id IS ?
WHERE s.task_run_id BETWEEN ? AND ?"""
_EXCEPT: Final = """
    AND s.task_run_id NOT IN (SELECT value FROM json_each(?))"""
_GROUPS: Final = (
    f"SELECT t.task_id, s.state, s.process_id, count(*){_FROM}{{excepted}}"
    f"\n    AND s.seq = 1 AND s.state NOT IN {_APART} AND t.parent_id IS NULL\nGROUP BY 1, 2, 3"
)
_OF_KIND: Final = "t.task_id = {} AND s.state = {} AND s.process_id = {} AND t.parent_id IS NULL"
_FIRST: Final = "min(t.id) FILTER (WHERE {})"
_LAST: Final = "max(t.id) FILTER (WHERE {})"
_TOOK: Final = "group_concat(s.at - t.at) FILTER (WHERE {})"
_OTHERS: Final = "group_concat(t.id) FILTER (WHERE ({}) IS NOT TRUE)"
_BY_CALLER: Final = (
    "SELECT t.task_id, s.state, s.process_id, t.parent_id, count(*), min(t.id), max(t.id),"
    f"\n    iif(count(*) < {ALIKE} OR s.state IN {_APART}, group_concat(t.id), group_concat(s.at - t.at))"
    f"{_FROM}{{excepted}}\nGROUP BY 1, 2, 3, 4"
)
# What has made no transition yet.
_BARE: Final = """
SELECT t.id FROM task_run AS t NOT INDEXED WHERE t.flow_run_id IS ? AND t.id BETWEEN ? AND ?
    AND NOT EXISTS (SELECT 1 FROM task_run_state AS n WHERE n.task_run_id = t.id)"""

Kind = tuple[int, int, int]


class Page(NamedTuple):
    """Some task runs of a flow run: the first and the last number, and how many there are."""

    low: int
    high: int
    number: int

    @property
    def sparse(self) -> bool:
        """Whether they lie so far apart that looking between them does not pay."""
        return self.high - self.low >= _SPARSE * self.number


class Alike(NamedTuple):
    """Task runs of one kind.

    Attributes:
        kind: rows of their task, number of their state, and row of the process that recorded it.
        first, last: rows of the first and the last of them; of a kind that had many before, only the last is known.
        took: how long each of them took.
        caller: row of the task run in whose body they were called, or None.
    """

    kind: Kind
    first: int | None
    last: int
    took: list[str]
    caller: int | None = None


class Counted(NamedTuple):
    """The task runs of a page: those of some kinds, and the rows of the others in order."""

    alike: list[Alike]
    others: list[int]


def pages(reader: JournalReader, flow_run: int | None) -> list[Page]:
    """The task runs of a flow run without its subflows (None: those outside any flow), in order."""
    found: list[Page] = []
    while True:
        after = found[-1].high if found else 0
        if found:  # where the next page ends, if it is a whole one, is known sooner than its length
            ((low, high),) = reader.rows(_NEXT, flow_run, after)
            if high is not None:
                found.append(Page(low, high, PAGE))
                continue
        ((low, high, number),) = reader.rows(_PAGE, flow_run, after)
        if number:
            found.append(Page(low, high, number))
        if number < PAGE:
            return found


class Counting:
    """Counts one page after the other, of one flow run after the other."""

    def __init__(self, reader: JournalReader) -> None:
        self._reader = reader
        self._kinds: list[Kind] = []
        self._several = False  # there were task runs with several transitions,
        self._others = False  # and others of no common kind
        self._nested = False  # most were called in the bodies of tasks
        self._skip = self._skipped = 0

    def page(
        self, flow_run: int | None, page: Page, callers: Sequence[int], many: Callable[[Kind], bool]
    ) -> Counted | None:
        """Count a page's task runs; None: each is to be looked at.

        Args:
            callers: rows of the flow run's task runs that called something, in order.
            many: whether there are `ALIKE` of a kind so far; of others, as many have to be in the page.
        """
        apart = set(callers[bisect_left(callers, page.low) : bisect_right(callers, page.high)])
        if page.number < _SHORT or page.sparse or _SHARE * len(apart) > page.number:
            return None
        if self._skip:
            self._skip -= 1
            return None
        if self._several:
            apart |= self._with_several(flow_run, page)
        found = None
        if not self._nested and _SHARE * len(apart) <= page.number:
            found = self._counted(flow_run, page, self._kinds, apart, many)
            if found is None or 8 * (len(found.others) - len(apart)) > page.number:
                self._kinds = self._common(flow_run, page, apart, many)
                found = self._counted(flow_run, page, self._kinds, apart, many)
        if found is None or _SHARE * len(found.others) > page.number:
            found = self._by_caller(flow_run, page, apart)
            self._nested = found is not None and any(one.caller for one in found.alike)
        if found is None:
            if page.number == PAGE:
                self._skip = self._skipped = min(2 * self._skipped + 1, _MOST_SKIPPED)
            return None
        self._skipped = 0
        return found

    def _with_several(self, flow_run: int | None, page: Page) -> set[int]:
        ((rows,),) = self._reader.rows(_SEVERAL, page.low, page.high, flow_run)
        found = _numbers(rows)
        self._several = bool(found)
        return found

    def _common(
        self, flow_run: int | None, page: Page, apart: Collection[int], many: Callable[[Kind], bool]
    ) -> list[Kind]:
        """The kinds that most of a page is of."""
        rows = self._asked(_GROUPS, flow_run, page, apart)
        found = [((task, state, process), number) for task, state, process, number in rows]
        found = [(kind, number) for kind, number in found if number >= ALIKE or many(kind)]
        return [kind for kind, _ in sorted(found, key=lambda one: -one[1])[:_KINDS]]

    def _counted(
        self, flow_run: int | None, page: Page, kinds: list[Kind], apart: set[int], many: Callable[[Kind], bool]
    ) -> Counted | None:
        """Count those of some kinds. What has several transitions is added to `apart`."""
        if not kinds or _SHARE * len(apart) > page.number:
            return None
        columns = ["max(s.seq)", "NULL"]
        if self._others:
            columns[1] = _OTHERS.format(" OR ".join(_OF_KIND.format(*kind) for kind in kinds))
        uniform = not self._others and len(kinds) == 1 and many(kinds[0])
        for kind in kinds:
            test = _OF_KIND.format(*kind)
            first = "NULL" if many(kind) else _FIRST.format(test)
            columns += first, "NULL" if uniform else _LAST.format(test), _TOOK.format(test)
        text = f"SELECT {', '.join(columns)}{_FROM}{{excepted}}"
        ((most, others, *told),) = self._asked(text, flow_run, page, apart)
        if most is not None and most > 1:
            apart |= self._with_several(flow_run, page)
            return self._counted(flow_run, page, kinds, apart, many)
        found = [
            Alike(kind, first, page.high if uniform else last, took.split(","))
            for kind, first, last, took in zip(kinds, told[::3], told[1::3], told[2::3], strict=True)
            if took
        ]
        few = {one.kind for one in found if one.first is not None and len(one.took) < ALIKE}
        if few:
            return self._counted(flow_run, page, [kind for kind in kinds if kind not in few], apart, many)
        rows = apart | _numbers(others)
        left = page.number - len(rows) - sum(len(one.took) for one in found)
        if left and not self._others:
            self._others = True
            return self._counted(flow_run, page, kinds, apart, many)
        self._others = len(rows) > len(apart) or left > 0
        return self._with_bare(flow_run, page, found, rows)

    def _by_caller(self, flow_run: int | None, page: Page, apart: set[int]) -> Counted | None:
        if _SHARE * len(apart) <= page.number:
            apart |= self._with_several(flow_run, page)
        if _SHARE * len(apart) > page.number:
            return None
        rows = set(apart)
        found: list[Alike] = []
        for task, state, process, caller, number, first, last, text in self._asked(_BY_CALLER, flow_run, page, apart):
            if number < ALIKE or state in _APART:
                rows |= _numbers(text)
            else:
                found.append(Alike((task, state, process), first, last, text.split(","), caller))
        if _SHARE * len(rows) > page.number:
            return None
        return self._with_bare(flow_run, page, found, rows)

    def _with_bare(self, flow_run: int | None, page: Page, found: list[Alike], rows: set[int]) -> Counted:
        """Add what has made no transition yet, if there is any."""
        if len(rows) + sum(len(one.took) for one in found) < page.number:
            rows.update(row for (row,) in self._reader.rows(_BARE, flow_run, page.low, page.high))
        return Counted(found, sorted(rows))

    def _asked(self, text: str, flow_run: int | None, page: Page, apart: Collection[int]) -> list[Any]:
        excepted = _EXCEPT if apart else ""
        return self._reader.rows(
            text.format(excepted=excepted), flow_run, page.low, page.high, *([json.dumps(list(apart))] if apart else ())
        )


def _numbers(text: str | None) -> set[int]:
    return set(map(int, text.split(","))) if text else set()
