"""What is to be recorded: the entries that callers queue and the writer commits, many in one transaction."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import Any

from durable.errors import JournalBusy, JournalFailed

Statement = tuple[str, tuple[Any, ...]]


class Entry:
    """Something to be recorded in one transaction: its statements, and after the commit the first one's rowid.

    A coroutine awaits the entry itself: it gives way to the other coroutines until the entry is done, which without a
    future takes one turn of the loop and not two.

    Attributes:
        at: the time it records, in microseconds since the epoch.
        committed: it is in the log.
        done: it is as durable as it asks, or cannot be recorded.
        gate: a lock that its caller waits at; None if it does not.
    """

    __slots__ = ("at", "committed", "done", "error", "gate", "rowid", "statements", "synced")

    def __init__(self, synced: bool, *statements: Statement, at: int = 0) -> None:  # noqa: FBT001 - hot path
        self.at = at
        self.statements = statements
        self.synced = synced
        self.rowid = 0
        self.committed = False
        self.done = False
        self.error: JournalBusy | JournalFailed | None = None
        self.gate: threading.Lock | None = None

    def __await__(self) -> Generator[None, None, int]:
        while not self.done:
            yield
        if self.error is not None:
            raise self.error
        return self.rowid

    def open_gate(self) -> None:
        """Let its caller look: it is done, or somebody has to commit it."""
        if self.gate is not None:
            try:
                self.gate.release()
            except RuntimeError:  # it is open
                pass


def finish(batch: list[Entry]) -> None:
    """It is known how these entries ended."""
    for entry in batch:
        entry.done = True
        if entry.gate is not None:
            entry.open_gate()
