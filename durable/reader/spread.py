"""How long many things took, in a few bytes."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from functools import cache
from math import exp, log
from operator import mul
from typing import Final

from durable.reader.model import Times

STEPS: Final = 20  # buckets for each factor of e: 5 % wide, so that their middle is at most 2.5 % off
_SAMPLE: Final = 2000  # durations that tell whether most occur several times


class Spread:
    """Durations in microseconds, counted in buckets of logarithmic width."""

    __slots__ = ("buckets", "high", "low", "total")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.total = 0
        self.low = 1 << 62
        self.high = 0

    def add(self, duration: int) -> None:
        """Count one."""
        duration = max(duration, 0)
        self.total += duration
        if duration < self.low:  # noqa: PLR1730 - a million times: comparing costs a third of min()
            self.low = duration
        if duration > self.high:  # noqa: PLR1730 - as above
            self.high = duration
        bucket = int(log(duration + 1) * STEPS)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def add_all(self, durations: list[str]) -> None:
        """Count many, written as decimal numbers."""
        sample = durations[:_SAMPLE]
        if 2 * len(set(sample)) < len(sample):
            number: dict[int, int] = {}
            for text, count in Counter(durations).items():
                duration = max(int(text), 0)
                number[duration] = number.get(duration, 0) + count
            self.total += sum(map(mul, number, number.values()))
            self.low, self.high = min(self.low, *number), max(self.high, *number)
            for duration, count in number.items():
                bucket = int(log(duration + 1) * STEPS)
                self.buckets[bucket] = self.buckets.get(bucket, 0) + count
            return
        ordered = sorted(map(int, durations))
        if ordered[0] < 0:
            ordered = [max(duration, 0) for duration in ordered]
        self.total += sum(ordered)
        self.low, self.high = min(self.low, ordered[0]), max(self.high, ordered[-1])
        at = 0
        while at < len(ordered):
            bucket = int(log(ordered[at] + 1) * STEPS)
            end = bisect_left(ordered, _first_of(bucket + 1), at)
            self.buckets[bucket] = self.buckets.get(bucket, 0) + end - at
            at = end

    def merge(self, other: Spread) -> None:
        """Count all that another has counted."""
        self.total += other.total
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    def quantile(self, share: float) -> int:
        """The duration that `share` of them stay within."""
        wanted = share * sum(self.buckets.values())
        seen = 0
        for bucket, count in sorted(self.buckets.items()):
            seen += count
            if seen >= wanted:
                return min(max(round(exp((bucket + 0.5) / STEPS)) - 1, self.low), self.high)
        return self.high

    def times(self) -> Times | None:
        """The sum and the percentiles people ask for; None if nothing was counted."""
        return Times(self.total, self.quantile(0.5), self.quantile(0.95)) if self.buckets else None


@cache
def _first_of(bucket: int) -> int:
    """The shortest duration that is counted in a bucket, or in one above."""
    return bisect_left(range((1 << 63) - 1), bucket, key=lambda duration: int(log(duration + 1) * STEPS))
