"""The journal as the engine sees it: facts to append, facts to look up. Bytes in, bytes out; it decides nothing."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Any, Final, NamedTuple

from xxhash import xxh3_64_intdigest

from durable.clock import clock
from durable.errors import CorruptPayload
from durable.journal import statements as sql
from durable.journal.writer import Entry, Statement, Writer
from durable.states import BY_CODE, CACHED, PENDING, StateKind
from durable.version import __version__

FORMAT_DURABLE: Final = 1
FORMAT_PICKLE: Final = 2
FORMAT_EXCEPTION: Final = 3


class TaskRecord(NamedTuple):
    """Where a task run stands: its newest transition."""

    id: int
    key: bytes
    task_id: int
    seq: int
    state: StateKind
    at: int
    result_id: int | None
    message: str | None


class FlowRecord(NamedTuple):
    """Where a flow run stands: its newest transition, and the process that recorded it."""

    id: int
    key: bytes
    begun: int
    seq: int
    state: StateKind
    at: int
    result_id: int | None
    pid: int
    host: str
    process_started: int
    message: str | None
    parameters: bytes
    name: str | None


class Outcome(NamedTuple):
    """What a run returned or raised, as bytes, with how to find and trust it.

    Attributes:
        format: FORMAT_DURABLE, FORMAT_PICKLE or FORMAT_EXCEPTION.
        payload: the encoded value.
        cache_key: 16 bytes under which a memo policy may find it, or None.
        expires_at: microseconds since the epoch from which it is no memo hit any more, or None.
    """

    format: int
    payload: bytes
    cache_key: bytes | None = None
    expires_at: int | None = None


class Label(NamedTuple):
    """What a run goes by beyond its identity: a name of its own, and tags beyond its function's (a JSON array)."""

    name: str | None = None
    tags: str | None = None


class CachedResult(NamedTuple):
    """A result found under a cache key, with the canonical arguments of the call that computed it."""

    result_id: int
    expires_at: int | None
    inputs: bytes | None


class Journal(Writer):
    """One open journal file."""

    def __init__(self, path: Path, durability: str) -> None:
        super().__init__(path, durability)
        self._process_id = 0
        self._introduction = threading.Lock()

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
        return Entry(True, (sql.ADD_FLOW_RUN, (*begun, parameters, digest, idempotency_key, *label)))

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

    def task_run_begins(
        self,
        key: bytes,
        task_id: int,
        flow_run_id: int | None,
        parent_id: int | None,
        state: StateKind,
        occurrence: int,
        inputs: bytes | None,
        label: Label,
    ) -> Entry:
        """A new task run: its row, which is its first transition."""
        process, now = self._process_id or self.process_id, clock().now()
        row = (key, task_id, flow_run_id, parent_id, process, state.code, now, occurrence, inputs, *label)
        return Entry(False, (sql.ADD_TASK_RUN, row), at=now)

    def task_run_cached(
        self,
        key: bytes,
        task_id: int,
        flow_run_id: int | None,
        parent_id: int | None,
        occurrence: int,
        inputs: bytes | None,
        label: Label,
        result_id: int,
    ) -> Entry:
        """A new task run that is Cached at once, with the result of another."""
        now, process = clock().now(), self.process_id
        row = (key, task_id, flow_run_id, parent_id, process, PENDING.code, now, occurrence, inputs, *label)
        cached = (CACHED.code, now, process, result_id)
        return Entry(True, (sql.ADD_TASK_RUN, row), (sql.ADD_CACHED_STATE, cached), at=now)

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

    # Facts to look up.

    def find_task_run(self, key: bytes) -> TaskRecord | None:
        """The task run with this identity."""
        found = self.rows(sql.FIND_TASK_RUN, (key,))
        return _task_record(found[0]) if found else None

    def next_task_runs(self, flow_run_id: int, after: int, limit: int) -> list[TaskRecord]:
        """The next `limit` task runs of a flow run after row `after`, in the order they began."""
        return [_task_record(row) for row in self.rows(sql.NEXT_TASK_RUNS, (flow_run_id, after, limit))]

    def newest_task_run(self, flow_run_id: int) -> int:
        """The newest task run row of a flow run; 0 if it has none."""
        return int(self.rows(sql.NEWEST_TASK_RUN, (flow_run_id,))[0][0])

    def executed_source(self, run: int) -> int | None:
        """The task row a task run was last executed with, if it is another than the run's own."""
        found = self.rows(sql.FIND_EXECUTED_SOURCE, (run,))
        return found[0][0] if found else None

    def executions(self, run: int) -> int:
        """How often the body of a task run has begun."""
        return int(self.rows(sql.COUNT_EXECUTIONS, (run,))[0][0])

    def failed_attempts(self, run: int, since: int) -> tuple[int, int]:
        """How many failed attempts a task run has on record after result `since`, and the newest one's result, or 0."""
        count, newest = self.rows(sql.FIND_RETRIES, (run, since))[0]
        return count, newest

    def source_of(self, task_id: int) -> tuple[bytes, dict[str, str]]:
        """The recorded source digest of a task row, and the digests of its components."""
        source, parts = self.rows(sql.FIND_SOURCE, (task_id,))[0]
        return source, json.loads(parts)

    def find_cached(self, cache_key: bytes) -> CachedResult | None:
        """The newest completed result under a cache key."""
        found = self.rows(sql.FIND_CACHED, (cache_key,))
        return CachedResult(*found[0]) if found else None

    def outcome(self, result_id: int) -> Outcome:
        """The bytes of a result.

        Raises:
            CorruptPayload: they do not match their checksum.
        """
        format_, checksum, cache_key, payload = self.rows(sql.FIND_RESULT, (result_id,))[0]
        if checksum_of(payload) != checksum:
            raise CorruptPayload(f"{self.path}: result {result_id} does not match its checksum: the file is damaged")
        return Outcome(format_, payload, cache_key)

    def find_flow_run(self, key: bytes) -> FlowRecord | None:
        """The flow run with this id."""
        return _flow_record(self.rows(sql.FIND_FLOW_RUN, (key,)))

    def choose_flow_run(self, prefix: str) -> list[tuple[int, bytes, bytes]]:
        """``(flow row, parameters digest, id)`` of at most two flow runs whose id (hex) begins with `prefix`."""
        return self.rows(sql.CHOOSE_FLOW_RUN, (prefix.upper(),))

    def flow_run_by_idempotency_key(self, flow_id: int, key: str) -> FlowRecord | None:
        """The flow run that has this idempotency key."""
        return _flow_record(self.rows(sql.FIND_FLOW_RUN_BY_IDEMPOTENCY_KEY, (flow_id, key)))

    def unfinished_flow_runs(self, flow_id: int, digest: bytes) -> list[FlowRecord]:
        """The runs of a flow with these parameters that did not complete, newest first."""
        return [_as_flow_record(row) for row in self.rows(sql.UNFINISHED_FLOW_RUNS, (flow_id, digest))]

    def last_record(self, flow_run_id: int) -> int:
        """When anything was last recorded under a flow run, in microseconds since the epoch."""
        return int(self.rows(sql.LAST_RECORD, (flow_run_id,))[0][0])

    def last_failure(self, flow_run_id: int) -> int:
        """The result of the newest recorded failure of a flow run; 0 if it never failed."""
        return int(self.rows(sql.LAST_FAILURE, (flow_run_id,))[0][0])

    def failed_flow_attempts(self, flow_run_id: int) -> int:
        """How many failed attempts a flow run has on record since it last ended Failed."""
        return int(self.rows(sql.COUNT_FLOW_RETRIES, (flow_run_id,))[0][0])

    def restored(self, flow_run_id: int) -> tuple[int, int]:
        """How many completed task runs a flow run has, and how many microseconds they took."""
        count, took = self.rows(sql.COUNT_RESTORED, (flow_run_id,))[0]
        return count, took


def checksum_of(payload: bytes) -> int:
    """xxh3_64 as SQLite stores it: a signed 64-bit integer."""
    digest = xxh3_64_intdigest(payload)
    return digest - (1 << 64) if digest >> 63 else digest


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
        format_, payload, cache_key, expires_at = outcome
        rows.append((sql.ADD_RESULT, (format_, checksum_of(payload), cache_key, expires_at, payload)))
    for number, (kind, message) in enumerate(states):
        text = with_result if outcome is not None and number == 0 else plain
        rows.append((text, (run, seq + number, kind.code, now, process_id, message)))
    if source is not None:
        kind, number = states[-1][0], len(states) - 1
        rows[-1] = sql.ADD_EXECUTION, (run, seq + number, kind.code, now, process_id, source)
    return Entry(synced, *rows, at=now)


def _task_record(row: Any) -> TaskRecord:
    return TaskRecord._make((*row[:4], BY_CODE[row[4]], *row[5:]))


def _as_flow_record(row: Any) -> FlowRecord:
    return FlowRecord._make((*row[:4], BY_CODE[row[4]], *row[5:]))


def _flow_record(rows: list[Any]) -> FlowRecord | None:
    return _as_flow_record(rows[0]) if rows else None


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # the folder was deleted under the process
        return "?"
