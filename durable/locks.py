"""Locks that the whole process shares, and that a forked child finds free.

A fork copies a lock that another thread holds as it is, and nobody is left in the child to release it. What these
guard is either whole or of no use to a child, so that it need not be waited for before a fork.
"""

from __future__ import annotations

import os
import threading
from typing import Any


class ProcessLock:
    """A lock to be made once, for a module. Its blocks may nest, and must not fork."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock: Any
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *raised: object) -> None:
        self._lock.release()
