"""Records of a flow run, read ahead in the order its task runs began: a resume mostly asks in that order."""

from __future__ import annotations

import threading
from itertools import islice
from typing import Final

from durable.journal import Journal, TaskRecord

_AT_A_TIME: Final = 500
_AT_MOST: Final = 5000  # held, when a run does not ask in the recorded order


class ReadAhead:
    """What a flow run that is executed once more has on record.

    What this execution adds is not read ahead: it would be stale when asked for.

    Args:
        journal: the journal.
        run: the flow run's row.
    """

    __slots__ = ("_early", "_journal", "_last", "_limit", "_lock", "_records", "_run")

    def __init__(self, journal: Journal, run: int) -> None:
        self._journal = journal
        self._run = run
        self._records: dict[bytes, TaskRecord] = {}
        self._early: set[bytes] = set()  # asked for before they were read
        self._last = 0  # the row up to which they were read
        self._limit = journal.newest_task_run(run)
        self._lock = threading.Lock()

    def get(self, key: bytes) -> TaskRecord | None:
        """The record of the call with this identity, where it was read ahead; it stays there until `met`.

        Reads more if there is more, and room.
        """
        found = self._records.get(key)  # a lock would cost as much as all else here
        if found is None and self._last < self._limit:
            with self._lock:
                if key not in self._records and self._last < self._limit and len(self._records) < _AT_MOST:
                    self._read()
                found = self._records.get(key)
        return found

    def met(self, key: bytes) -> None:
        """A call with this identity was made, and its record used."""
        with self._lock:
            self._records.pop(key, None)

    def find(self, key: bytes) -> TaskRecord | None:
        """The record of the call with this identity, which is made now."""
        found = self.get(key)
        if found is None:
            found = self._journal.find_task_run(key)
            if found is None or found.id > self._limit:
                return found
            with self._lock:
                if found.id > self._last:
                    self._early.add(key)
        self.met(key)
        return found

    def unmet(self) -> list[TaskRecord]:
        """Records that no call has met yet, in the order they were made; the first hundred."""
        with self._lock:
            return list(islice(self._records.values(), 100))

    def _read(self) -> None:
        records = self._journal.next_task_runs(self._run, self._last, _AT_A_TIME)
        self._last = records[-1].id if records else self._limit
        self._records.update((record.key, record) for record in records if record.id <= self._limit)
        for key in self._early & self._records.keys() if self._early else ():
            self._early.discard(key)
            del self._records[key]
