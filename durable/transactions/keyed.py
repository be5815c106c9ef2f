"""The key of a transaction: a value that outlives the run, recorded once and found by any later block with the key.

In the journal it is a completed task run called ``transaction``, named after the key, whose result has a cache key, as
a memo's has. It is recorded when the block commits; until then there is nothing of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

from durable.clock import clock
from durable.codec import canonical_items
from durable.errors import ConfigurationError
from durable.journal import CachedResult, Journal, Label, Outcome, Place, open_journal
from durable.keys import digest
from durable.outcomes import of_value, restore
from durable.ownership import SidecarLock
from durable.runs import current
from durable.settings import durability, journal_path
from durable.states import COMPLETED, RUNNING

_NAME: Final = "transaction"
_FUNCTION: Final = "durable.transactions:transaction"
_POLL: Final = 0.05  # seconds between two looks at a lock that another has


class Keyed:
    """One block's key, and the value that it stages."""

    def __init__(self, key: Any, *, write: bool) -> None:
        if not isinstance(key, str) or not key:
            raise ConfigurationError(f"transaction(key={key!r}): expected a non-empty str")
        self.key = key
        self._digest = digest(_NAME, key)
        self._inputs = canonical_items(("key",), (key,))
        self._write = write
        self._staged: tuple[int, bytes] | None = None
        self._found: CachedResult | None = None
        self._lock: SidecarLock | None = None

    def stage(self, value: Any) -> None:
        """The value to record; as it is now, whatever becomes of it.

        Raises:
            NotSerializable: it could not be given back exactly.
        """
        self._staged = of_value(value, "durable", f"transaction {self.key!r}")

    def find(self) -> bool:
        """Whether a value is recorded under the key."""
        found = _journal().find_cached(self._digest)
        self._found = found if found is not None and found.inputs == self._inputs else None
        return self._found is not None

    def read(self) -> Any:
        """The recorded value; None if there is none."""
        return restore(_journal().outcome(self._found.result_id), self.key) if self.find() and self._found else None

    def record(self) -> None:
        """Record the staged value, or None."""
        if not self._write:
            return
        if self._staged is None:
            self.stage(None)
        assert self._staged is not None  # noqa: S101 - just staged
        journal, scope = _journal(), current.get()
        flow_run = scope.flow_run.id if scope is not None and scope.flow_run is not None else None
        task = journal.task_row(digest("task", _NAME), digest("source", _NAME), _NAME, _FUNCTION, "[]", "{}")
        parent = scope.row if scope is not None else None
        place = Place(os.urandom(16), task, flow_run, parent, 1, self._inputs, Label(self.key))
        outcome = Outcome(*self._staged, self._digest)
        row = journal.commit(journal.task_run_begins(place, RUNNING))
        journal.commit(journal.task_run_enters(row, 1, ((COMPLETED, None),), outcome, synced=True))

    def lock(self) -> Iterator[Any]:
        """Have the key to oneself, waiting as long as another has it."""
        lock = SidecarLock(_journal().path, f"transaction-{self._digest.hex()}")
        while not lock.acquire(0):
            yield clock().sleep_async(_POLL)
        self._lock = lock

    def is_locked_by(self, other: Keyed | None) -> bool:
        """Whether `other` has this key to itself."""
        return other is not None and other.key == self.key and other._lock is not None  # noqa: SLF001 - of this class

    def unlock(self) -> None:
        """Let others have it."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _journal() -> Journal:
    scope = current.get()
    return scope.journal if scope is not None else open_journal(journal_path(), durability())
