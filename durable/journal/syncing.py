"""The fsync of the log, which covers all that was committed before it began: one for many entries.

A commit writes to the log and waits for nothing (SQLite's ``synchronous=NORMAL``). What must survive a power cut is
synced after it, with SQLite's own call, so that other processes commit meanwhile and threads of this one look up.
``synchronous=FULL`` syncs the same file in the middle of the commit, with the write lock held, and two pragmas a task
would switch between the two. What differs is that others see a record some microseconds before it is durable, as they
would if its process were killed just then. None goes by it: a run is owned until its end is synced, and whoever uses a
memo of another has it synced.

Rules:

1. An entry is added when it is committed and not yet done, and removed when it is done. Whoever is interrupted in
   between leaves it there for the next one.
2. One fsync at a time. Who comes meanwhile waits; the next one covers all who came.
"""

from __future__ import annotations

import threading

from durable.errors import JournalFailed
from durable.journal.entries import Entry, finish
from durable.journal.files import Files


class Syncing:
    """What was committed and waits for an fsync.

    Args:
        needed: what asks to be synced is, as this journal promises it.

    Attributes:
        lock: held by whoever syncs, and by whoever must not be synced meanwhile.
        count: fsyncs made.
    """

    def __init__(self, *, needed: bool) -> None:
        self.lock = threading.Lock()
        self.count = 0
        self._needed = needed
        self._waiting: list[Entry] = []

    @property
    def is_wanted(self) -> bool:
        """Whether something waits for an fsync."""
        return bool(self._waiting)

    def committed(self, batch: list[Entry]) -> None:
        """A batch is in the log. Said again where an interruption may have come before the end."""
        if not self._needed:
            finish(batch)
            return
        for entry in batch:  # in their order: whether an interrupted one was told is seen by the last
            if entry.synced:
                self._waiting.append(entry)
                entry.committed = True
            else:
                finish([entry])

    def sync(self, files: Files) -> None:
        """Make durable what was added before. The lock is held.

        Raises:
            sqlite3.OperationalError: what became of it is unknown.
        """
        waiting = self._waiting
        covered = waiting.copy()
        if not covered:
            return
        files.sync()
        self.count += 1
        finish(covered)
        del waiting[: len(covered)]

    def fail(self, error: JournalFailed) -> None:
        """Nothing more will be synced. The lock is held."""
        for entry in self._waiting:
            entry.error = error
        finish(self._waiting)
        self._waiting.clear()
