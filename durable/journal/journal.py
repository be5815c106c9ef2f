"""The journal as the engine sees it: facts to append (and, in `Lookups`, to look up). It decides nothing."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import sys
import threading
from pathlib import Path

from durable.clock import clock
from durable.journal import statements as sql
from durable.journal.entries import Entry, Statement
from durable.journal.facts import NO_LABEL, Label, Outcome, Place, checksum_of
from durable.journal.lookups import Lookups
from durable.states import PENDING, StateKind
from durable.version import __version__


class Journal(Lookups):
    """One open journal file."""

    def __init__(self, path: Path, durability: str) -> None:
        super().__init__(path, durability)
        self._process_id = 0
        self._introduction = threading.Lock()
        self._safe = 0  # results up to this one are known to have been synced
        self._syncing: tuple[Entry, int] | None = None  # when this entry is committed, those up to that one are

    @property
    def process_id(self) -> int:
        """The row of this process lifetime, written when it is first asked for."""
        if self._process_id:
            return self._process_id
        with self._introduction:
            self._process_id = self._process_id or self.commit(
                Entry(
                    False,
                    (
                        sql.ADD_PROCESS,
                        (
                            os.getpid(),
                            platform.node(),
                            clock().now(),
                            platform.python_version(),
                            __version__,
                            sqlite3.sqlite_version,
                            self.durability,
                            json.dumps(sys.argv),
                            _working_folder(),
                        ),
                    ),
                )
            )
        return self._process_id

    def flow_row(self, key: bytes, name: str, function: str) -> int:
        """The row that describes a flow's function."""
        found = self.rows(sql.FIND_FLOW, (key,))
        if not found:
            self.commit(Entry(False, (sql.ADD_FLOW, (key, name, function))))
            found = self.rows(sql.FIND_FLOW, (key,))
        return int(found[0][0])

    def task_row(self, key: bytes, source: bytes, name: str, function: str, tags: str, parts: str) -> int:
        """The row that describes a task's function with this source."""
        found = self.rows(sql.FIND_TASK, (key, source))
        if not found:
            self.commit(Entry(False, (sql.ADD_TASK, (key, source, name, function, tags, parts))))
            found = self.rows(sql.FIND_TASK, (key, source))
        return int(found[0][0])

    # Facts to append. Each returns an Entry; nothing is written until it is committed.

    def flow_run_begins(
        self,
        key: bytes,
        flow_id: int,
        parents: tuple[int | None, int | None],
        state: StateKind,
        parameters: bytes | None,
        digest: bytes,
        idempotency_key: str | None,
        label: Label,
    ) -> Entry:
        """A new flow run; `parents` are the rows of the flow run and task run it was called in."""
        begun = (key, flow_id, *parents, self.process_id, state.code, clock().now())
        return Entry(
            True,
            (sql.ADD_FLOW_RUN, (*begun, parameters, digest, idempotency_key, label.name, label.tags, label.version)),
        )

    def flow_run_cached(self, begun: Entry, state: StateKind, result_id: int) -> Entry:
        """A new flow run, as `flow_run_begins` gives it, whose body never begins: another one's result is its own."""
        now = clock().now()
        first = sql.ADD_FIRST_FLOW_STATE, (state.code, now, self.process_id, result_id)
        return Entry(True, *begun.statements, first, at=now)

    def flow_run_enters(
        self, run: int, seq: int, states: tuple[tuple[StateKind, str | None], ...], outcome: Outcome | None = None
    ) -> Entry:
        """One or more transitions of a flow run, numbered from `seq`; `outcome` belongs to the first of them."""
        return _transitions(
            (sql.ADD_FLOW_STATE, sql.ADD_FLOW_STATE_WITH_RESULT),
            run,
            seq,
            states,
            self.process_id,
            outcome,
            synced=True,
        )

    def task_run_begins(self, place: Place, state: StateKind) -> Entry:
        """A new task run: its row, which is its first transition."""
        now = clock().now()
        return Entry(False, *self._task_run(place, state, now), at=now)

    def task_run_ends_at_once(
        self,
        place: Place,
        state: StateKind,
        *,
        result_id: int | None = None,
        message: str | None = None,
        synced: bool = True,
    ) -> Entry:
        """A new task run whose body never begins: Pending, and then Cached, NotReady or Cancelled.

        With another run's result nothing is lost if the record is: it would be found again. So it needs no sync of its
        own, once that result is known to have been synced.
        """
        now, newest = clock().now(), 0
        if result_id is not None:
            synced = not self._is_safe(result_id)
            newest = int(self.rows(sql.NEWEST_RESULT)[0][0]) if synced else 0
        row, *upstream = self._task_run(place, PENDING, now)
        first = sql.ADD_FIRST_STATE, (state.code, now, self._process_id, result_id, message)
        entry = Entry(synced, row, first, *upstream, at=now)
        if newest:
            self._syncing = entry, newest
        return entry

    def _is_safe(self, result_id: int) -> bool:
        """Whether a result is known to be as durable as this journal promises: another process may promise less. In a
        write-ahead log a synced commit covers all that were made before.
        """
        if result_id > self._safe and self._syncing is not None:
            entry, newest = self._syncing
            if entry.done and entry.error is None:
                self._safe = max(self._safe, newest)
        return result_id <= self._safe

    def _task_run(self, place: Place, state: StateKind, now: int) -> list[Statement]:
        process = self._process_id or self.process_id
        key, label = place.key, place.label
        begun = key, place.task_id, place.flow_run_id, place.parent_id, process, state.code, now
        if label is NO_LABEL and place.reason is None:
            plain = *begun, place.occurrence, place.inputs, place.worker
            statements: list[Statement] = [(sql.ADD_PLAIN_TASK_RUN, plain)]
        else:
            said = label.name, label.tags, label.version, place.reason
            statements = [(sql.ADD_TASK_RUN, (*begun, place.occurrence, place.inputs, *said, place.worker))]
        if place.upstream:
            statements += ((sql.ADD_DEPENDENCY, (argument, key, other)) for other, argument in place.upstream)
        return statements

    def yields_next(self, run: int, number: int, value: tuple[int, bytes] | None, *, synced: bool) -> Entry:
        """What a generator's task run yields next: a format and payload, or None for what cannot be recorded."""
        now = clock().now()
        row = (run, number, now, self._process_id)
        if value is None:
            return Entry(synced, (sql.ADD_UNKEPT_YIELD, row), at=now)
        format_, payload = value
        result = sql.ADD_PLAIN_RESULT, (format_, checksum_of(payload), payload)
        return Entry(synced, result, (sql.ADD_YIELD, row), at=now)

    def task_run_enters(
        self,
        run: int,
        seq: int,
        states: tuple[tuple[StateKind, str | None], ...],
        outcome: Outcome | None = None,
        *,
        synced: bool,
        source: int | None = None,
    ) -> Entry:
        """One or more transitions of a task run, numbered from `seq`; `outcome` belongs to the first of them.

        `source` is the task row that an execution beginning with the last of them has, if it is not the run's own.
        """
        return _transitions(
            (sql.ADD_TASK_STATE, sql.ADD_TASK_STATE_WITH_RESULT),
            run,
            seq,
            states,
            self._process_id,
            outcome,
            synced=synced,
            source=source,
        )


def _transitions(
    texts: tuple[str, str],
    run: int,
    seq: int,
    states: tuple[tuple[StateKind, str | None], ...],
    process_id: int,
    outcome: Outcome | None,
    *,
    synced: bool,
    source: int | None = None,
) -> Entry:
    now = clock().now()
    plain, with_result = texts
    rows: list[Statement] = []
    if outcome is not None:
        format_, payload, cache_key, expires_at = outcome.format, outcome.payload, outcome.cache_key, outcome.expires_at
        checksum, owner = checksum_of(payload), run if cache_key is not None else None
        if cache_key is None and expires_at is None:
            rows.append((sql.ADD_PLAIN_RESULT, (format_, checksum, payload)))
        else:
            rows.append((sql.ADD_RESULT, (format_, checksum, cache_key, expires_at, owner, payload)))
    for number, (kind, message) in enumerate(states):
        text = with_result if outcome is not None and number == 0 else plain
        rows.append((text, (run, seq + number, kind.code, now, process_id, message)))
    if source is not None:
        (kind, message), number = states[-1], len(states) - 1
        rows[-1] = sql.ADD_EXECUTION, (run, seq + number, kind.code, now, process_id, message, source)
    return Entry(synced, *rows, at=now)


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # the folder was deleted under the process
        return "?"
