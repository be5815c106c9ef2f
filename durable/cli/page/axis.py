"""The time axis of a run's page, and what is counted along it.

A run that died at night and went on in the morning is shown without the hours in between: the axis is made of the
stretches in which somebody executed it, one after the other, with a gap for each time nobody did.
"""

from __future__ import annotations

from bisect import bisect_right
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from durable.reader.spans import Span, Stretches

UNITS: Final = 100_000  # positions are whole numbers from 0 to this
BINS: Final = 240
_GAP: Final = 0.012  # of the axis, for each interruption
_GAPS: Final = 0.2  # for all of them together


class Part(NamedTuple):
    """A stretch and its place on the axis."""

    begin: int
    end: int
    left: float
    right: float


class Axis:
    """Maps moments to positions."""

    def __init__(self, stretches: Stretches) -> None:
        spans = stretches.spans
        gap = min(_GAP, _GAPS / max(1, len(spans) - 1))
        active = sum(end - begin for begin, end in spans)
        room = 1 - gap * (len(spans) - 1)
        self.parts: list[Part] = []
        left = 0.0
        for begin, end in spans:
            share = (end - begin) / active if active else 1 / len(spans)
            right = left + share * room
            self.parts.append(Part(begin, end, left * UNITS, min(right, 1.0) * UNITS))
            left = right + gap
        self._begins = [part.begin for part in self.parts]

    def at(self, moment: int) -> float:
        """The position of a moment; one in a gap is where the stretch before it ended."""
        part = self.parts[max(0, bisect_right(self._begins, moment) - 1)]
        inside = min(max(moment, part.begin), part.end) - part.begin
        length = part.end - part.begin
        return part.left + (part.right - part.left) * (inside / length if length else 0.0)


class Density:
    """How much went on in each of `BINS` parts of the axis, from any number of spans, at the same cost for each."""

    __slots__ = ("_full", "_partial", "marks")

    def __init__(self) -> None:
        self._partial = [0.0] * BINS
        self._full = [0] * (BINS + 1)  # differences: how many spans cover a bin from end to end
        self.marks: dict[str, dict[int, int]] = {}

    def add(self, left: float, right: float) -> None:
        """Count a span, by its positions."""
        left, right = left * BINS / UNITS, right * BINS / UNITS
        first, last = min(int(left), BINS - 1), min(int(right), BINS - 1)
        if first == last:
            self._partial[first] += right - left
            return
        self._partial[first] += first + 1 - left
        self._partial[last] += right - last
        self._full[first + 1] += 1
        self._full[last] -= 1

    def mark(self, kind: str, position: float) -> None:
        """Count something that happened at a moment."""
        where = self.marks.setdefault(kind, {})
        bin_ = min(int(position * BINS / UNITS), BINS - 1)
        where[bin_] = where.get(bin_, 0) + 1

    def levels(self) -> list[float]:
        """How many spans were open in each bin, on average."""
        found, covering = [], 0
        for partial, change in zip(self._partial, self._full, strict=False):
            covering += change
            found.append(partial + covering)
        return found


class Coverage:
    """How long at least one of many spans was open. Task runs come in the order they were called."""

    def __init__(self, known: list[tuple[int, int]]) -> None:
        self._waiting = list(known)  # what may begin after task runs that are still to come
        heapify(self._waiting)
        self._until = -(1 << 63)
        self._total = 0

    def add(self, span: Span) -> None:
        """Count the attempts of a task run."""
        for attempt in span.attempts:
            heappush(self._waiting, attempt)
        self._extend(span.started)

    def _extend(self, moment: int) -> None:
        while self._waiting and self._waiting[0][0] <= moment:
            begin, end = heappop(self._waiting)
            if end > self._until:
                self._total += end - max(begin, self._until)
                self._until = end

    def total(self) -> int:
        """The time covered by all of them."""
        self._extend(1 << 63)
        return self._total
