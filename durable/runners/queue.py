"""Task runs that could begin, and wait for their turn."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class WorkQueue(Generic[T]):
    """The most deeply nested first, otherwise in the order they were put in. Who uses it holds the runner's lock.

    A task that waits for those it submitted gives its place up. Were they at the end, all who wait in front of them
    would begin first, and wait in turn: as many threads as tasks.

    Attributes:
        size: how many there are.
    """

    def __init__(self) -> None:
        self._levels: list[deque[T]] = []
        self.size = 0

    def put(self, item: T, depth: int) -> None:
        """Add one, of a task run that is nested so deeply."""
        levels = self._levels
        while len(levels) <= depth:
            levels.append(deque())
        levels[depth].append(item)
        self.size += 1

    def pop(self) -> T:
        """Take the next one; there is one."""
        levels = self._levels
        while not levels[-1]:
            levels.pop()
        self.size -= 1
        return levels[-1].popleft()

    def put_back(self, item: T) -> None:
        """It was just taken, and is the next one again."""
        self._levels[-1].appendleft(item)
        self.size += 1
