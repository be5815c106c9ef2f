"""How long many things took, in a few bytes."""

from __future__ import annotations

from math import exp, log
from typing import Final

from durable.reader.model import Times

STEPS: Final = 20  # buckets for each factor of e: 5 % wide, so that their middle is at most 2.5 % off


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
