"""Task runs that could begin, and wait for their turn."""

from __future__ import annotations

from collections import deque
from typing import Any

from durable.futures import Future


class WorkQueue:
    """The most deeply nested first, otherwise in the order they were put in. Who uses it holds the runner's lock.

    A task that waits for those it submitted gives its place up. Were they at the end, all who wait in front of them
    would begin first, and wait in turn: as many threads as tasks.
    """

    def __init__(self) -> None:
        self._levels: list[deque[Future[Any]]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, future: Future[Any]) -> None:
        """Add one."""
        levels = self._levels
        while len(levels) <= future.depth:
            levels.append(deque())
        levels[future.depth].append(future)
        self._size += 1

    def pop(self) -> Future[Any]:
        """Take the next one; there is one."""
        self._size -= 1
        deepest: deque[Future[Any]] = next(level for level in reversed(self._levels) if level)
        return deepest.popleft()
