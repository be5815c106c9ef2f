"""In what two matched calls of two runs differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from durable.codec import canonical, decode_inert
from durable.errors import CorruptPayload, Unhashable
from durable.reader import queries
from durable.reader.calls import EXCEPTION, PICKLED, Call, Difference, changed_parts, differences, source_of
from durable.reader.comparing import Comparison, Pair
from durable.reader.journal import JournalReader

INPUTS: Final = "inputs"
RESULT: Final = "result"
SOURCE: Final = "source"
STATE: Final = "state"
TIME: Final = "time"
ONLY_OLD: Final = "only old"
ONLY_NEW: Final = "only new"
KINDS: Final = (INPUTS, RESULT, SOURCE, STATE, TIME, ONLY_OLD, ONLY_NEW)

FACTOR: Final = 2  # a call takes another time if one of the two lasted so many times the other,
LEAST: Final = 100_000  # and the difference is worth telling: microseconds
_COMPARED: Final = 64 << 10  # bytes of a result up to which it is looked into when its bytes differ


class Change(NamedTuple):
    """Two calls, and in what they differ (of `KINDS`); nothing if they are alike."""

    pair: Pair
    kinds: tuple[str, ...]

    @property
    def call(self) -> Call:
        """The new one, or the old one where there is no other."""
        found = self.pair.new or self.pair.old
        assert found is not None  # noqa: S101 - a pair has one at least
        return found


class Tally:
    """What was found of one task.

    Attributes:
        old, new: how many runs of it there are in each run, and how long they took, in microseconds.
        alike: how many are alike.
        kinds: how many differ in what; one may differ in several.
    """

    __slots__ = ("alike", "kinds", "name", "new", "new_took", "old", "old_took")

    def __init__(self, name: str) -> None:
        self.name = name
        self.old = self.new = self.alike = self.old_took = self.new_took = 0
        self.kinds = dict.fromkeys(KINDS, 0)

    def add(self, change: Change) -> None:
        """Count one more."""
        old, new = change.pair.old, change.pair.new
        if old is not None:
            self.old += 1
            self.old_took += old.took if old.executed else 0
        if new is not None:
            self.new += 1
            self.new_took += new.took if new.executed else 0
        self.alike += not change.kinds
        for kind in change.kinds:
            self.kinds[kind] += 1


class Differ:
    """Compares two flow runs (their rows).

    Args:
        most: end after so many calls of each; None: compare all.

    Attributes:
        left: after `every`: how many calls of each were not compared.
    """

    def __init__(self, reader: JournalReader, old: int, new: int, most: int | None = None) -> None:
        self.reader = reader
        self.left = 0, 0
        self._most = most
        self.old, self.new = old, new
        self._parts: dict[tuple[int, int], list[str]] = {}

    def every(self) -> Iterator[Change]:
        """Each call of the two runs, alike or not."""
        comparison = Comparison(self.reader, self.old, self.new, self._most)
        for pair in comparison.pairs():
            yield Change(pair, self._kinds(pair))
        self.left = (
            sum(self._count(rest.old, rest.old_after) + len(rest.old_waiting) for rest in comparison.rest),
            sum(self._count(rest.new, rest.new_after) + len(rest.new_waiting) for rest in comparison.rest),
        )

    def _count(self, flow_run: int | None, after: int) -> int:
        return 0 if flow_run is None else int(self.reader.rows(queries.COUNT_AFTER, flow_run, after)[0][0])

    def inputs(self, pair: Pair) -> list[Difference] | None:
        """The arguments in which a pair differs; None where they are not recorded by name."""
        if pair.old is None or pair.new is None or pair.same:
            return []
        return differences(pair.old.inputs, pair.new.inputs)

    def source(self, pair: Pair) -> list[str]:
        """The functions and constants that differ between the sources a pair was executed from."""
        old, new = pair.old, pair.new
        if old is None or new is None or old.source == new.source:
            return []
        key = old.source, new.source
        if key not in self._parts:
            left, right = source_of(self.reader, old.source), source_of(self.reader, new.source)
            self._parts[key] = changed_parts(left, right) if left.digest != right.digest else []
        return self._parts[key]

    def _kinds(self, pair: Pair) -> tuple[str, ...]:
        old, new = pair.old, pair.new
        if old is None or new is None:
            return (ONLY_NEW,) if old is None else (ONLY_OLD,)
        before, after = self.reader.state(old.state), self.reader.state(new.state)
        checks = (
            (INPUTS, not pair.same and old.inputs != new.inputs),
            (RESULT, self._other_result(old, new)),
            (SOURCE, bool(self.source(pair))),
            (STATE, before.type != after.type or (before.name == "RolledBack") != (after.name == "RolledBack")),
            (TIME, old.executed and new.executed and before.ended and after.ended and _other_time(old.took, new.took)),
        )
        return tuple(kind for kind, differs in checks if differs)

    def _other_result(self, old: Call, new: Call) -> bool:
        if (old.format, old.checksum, old.size) == (new.format, new.checksum, new.size) or old.result == new.result:
            return False
        if old.format == new.format == EXCEPTION:  # their tracebacks may differ and mean nothing
            return old.message != new.message
        if old.size != new.size or old.format != new.format or old.format == PICKLED or (old.size or 0) > _COMPARED:
            return True
        left, right = self._canonical(old.result), self._canonical(new.result)
        return left is None or left != right

    def _canonical(self, row: int | None) -> bytes | None:
        """Bytes that are equal for equal values: a set is recorded in whatever order it had."""
        if row is None:
            return None
        ((payload,),) = self.reader.rows(queries.RESULT_PART, 1, _COMPARED, row)
        try:
            return canonical(decode_inert(payload), "result")
        except (CorruptPayload, Unhashable):
            return None


def _other_time(old: int, new: int) -> bool:
    return abs(old - new) >= LEAST and max(old, new) >= FACTOR * min(old, new)
