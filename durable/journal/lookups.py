"""What the journal can be asked for. Every query has its text in `durable.journal.statements`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import starmap
from typing import Any

from msgspec.structs import replace

from durable.errors import CorruptPayload
from durable.journal import statements as sql
from durable.journal.facts import CachedResult, FlowRecord, Outcome, TaskRecord, Yielded, checksum_of
from durable.journal.writer import Writer
from durable.states import BY_CODE


class Lookups(Writer):
    """The read side of a journal that is open for writing."""

    def find_task_run(self, key: bytes) -> TaskRecord | None:
        """The task run with this identity."""
        found = self.rows(sql.FIND_TASK_RUN, (key,))
        return TaskRecord(*found[0]) if found else None

    def find_task_runs(self, keys: Sequence[bytes]) -> dict[bytes, TaskRecord]:
        """The task runs with these identities, by identity."""
        found: dict[bytes, TaskRecord] = {}
        for at in range(0, len(keys), sql.AT_ONCE):
            some = keys[at : at + sql.AT_ONCE]
            asked = (*some, *[some[-1]] * (sql.AT_ONCE - len(some)))
            found.update((record.key, record) for record in starmap(TaskRecord, self.rows(sql.FIND_TASK_RUNS, asked)))
        return found

    def next_task_runs(self, flow_run_id: int, after: int, limit: int) -> list[TaskRecord]:
        """The next `limit` task runs of a flow run after row `after`, in the order they began."""
        return [*starmap(TaskRecord, self.rows(sql.NEXT_TASK_RUNS, (flow_run_id, after, limit)))]

    def newest_task_run(self, flow_run_id: int) -> int:
        """The newest task run row of a flow run; 0 if it has none."""
        return int(self.rows(sql.NEWEST_TASK_RUN, (flow_run_id,))[0][0])

    def newest_in_family(self, flow_run_id: int) -> int:
        """The newest task run row of a flow run and its subflows; 0 if there is none."""
        return int(self.rows(sql.NEWEST_IN_FAMILY, (flow_run_id,))[0][0])

    def first_of_line(self, flow_run_id: int) -> bytes:
        """The id of the run that a fork, or a fork of a fork, was made of at first."""
        key: bytes = self.rows(sql.FIRST_OF_LINE, (flow_run_id,))[0][0]
        return key

    def begun(self, run: int) -> int:
        """When a task run began, in microseconds since the epoch."""
        return int(self.rows(sql.FIND_BEGUN, (run,))[0][0])

    def caller_of_task(self, run: int) -> tuple[int | None, int | None]:
        """The flow run and the task run that a task run was called in."""
        flow_run, task_run = self.rows(sql.CALLER_OF_TASK, (run,))[0]
        return flow_run, task_run

    def caller_of_flow(self, run: int) -> tuple[int | None, int | None]:
        """The flow run and the task run that a flow run was called in."""
        flow_run, task_run = self.rows(sql.CALLER_OF_FLOW, (run,))[0]
        return flow_run, task_run

    def task_run_name(self, run: int) -> str | None:
        """The name of a task run's own, if it was given one."""
        name: str | None = self.rows(sql.FIND_TASK_RUN_NAME, (run,))[0][0]
        return name

    def executed_source(self, run: int) -> int | None:
        """The task row a task run was last executed with, if it is another than the run's own."""
        found = self.rows(sql.FIND_EXECUTED_SOURCE, (run,))
        return found[0][0] if found else None

    def computed_source(self, run: int, result: int) -> int:
        """The task row (a version of the source) that a result of a task run was computed with."""
        return int(self.rows(sql.FIND_COMPUTED_SOURCE, (result, run))[0][0])

    def executions(self, run: int) -> int:
        """How often the body of a task run has begun."""
        return int(self.rows(sql.COUNT_EXECUTIONS, (run,))[0][0])

    def failed_attempts(self, run: int, since: int) -> tuple[int, int]:
        """Failed attempts of a task run after result `since`: how many, of those after it last ended well; and the
        newest one's result, or 0.
        """
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
        format_, checksum, cache_key, payload, owner = self.rows(sql.FIND_RESULT, (result_id,))[0]
        trusted = self._trusted(f"result {result_id}", format_, checksum, payload)
        return trusted if cache_key is None else replace(trusted, cache_key=cache_key, task_run=owner)

    def outcome_of(self, record: TaskRecord) -> Outcome:
        """The bytes of a task run's result, which it has; errors as in `outcome`."""
        if record.payload is None:
            assert record.result_id is not None  # noqa: S101 - it has a result
            return self.outcome(record.result_id)
        self.check(record)
        return Outcome(record.format, record.payload, record.cache_key, None, record.owner)

    def check(self, record: TaskRecord | CachedResult) -> None:
        """Refuse the result that was read along, if it is damaged.

        Raises:
            CorruptPayload: it does not match its checksum.
        """
        if checksum_of(record.payload) != record.checksum:
            raise self._damaged(f"result {record.result_id}")

    def yields(self, run: int, start: int, limit: int) -> list[Yielded]:
        """The values a generator's task run has on record, from number `start` on, at most `limit`.

        Raises:
            CorruptPayload: one does not match its checksum.
        """
        return [
            Yielded(number, None if format_ is None else self._trusted(f"value {number}", format_, checksum, payload))
            for number, format_, checksum, payload in self.rows(sql.NEXT_YIELDS, (run, start, limit))
        ]

    def count_yields(self, run: int) -> int:
        """How many values a generator's task run has on record."""
        return int(self.rows(sql.COUNT_YIELDS, (run,))[0][0])

    def unkept_yields(self, run: int) -> int:
        """How many of them could not be recorded."""
        return int(self.rows(sql.COUNT_UNKEPT_YIELDS, (run,))[0][0])

    def _trusted(self, what: str, format_: int, checksum: int, payload: bytes) -> Outcome:
        if checksum_of(payload) != checksum:
            raise self._damaged(what)
        return Outcome(format_, payload)

    def _damaged(self, what: str) -> CorruptPayload:
        return CorruptPayload(f"{self.path}: {what} does not match its checksum: the file is damaged")

    def other_sources(self, task_key: bytes, row: int) -> list[tuple[int, bytes]]:
        """The other recorded sources of a task, newest first: row and digest."""
        return self.rows(sql.OTHER_SOURCES, (task_key, row))

    def recent_inputs(self, task_key: bytes, flow_run_id: int | None) -> list[bytes]:
        """The arguments of the newest calls of a task made elsewhere than in this flow run."""
        return [inputs for (inputs,) in self.rows(sql.RECENT_INPUTS, (task_key, flow_run_id))]

    def inputs_of(self, runs: list[int]) -> list[bytes]:
        """The recorded arguments of task runs."""
        found = (self.rows(sql.FIND_INPUTS, (run,)) for run in runs)
        return [rows[0][0] for rows in found if rows and rows[0][0] is not None]

    def task_rows(self, task_key: bytes) -> frozenset[int]:
        """The rows of all recorded sources of a task."""
        return frozenset(row for (row,) in self.rows(sql.TASK_ROWS, (task_key,)))

    def find_flow_run(self, key: bytes) -> FlowRecord | None:
        """The flow run with this id."""
        return _flow_record(self.rows(sql.FIND_FLOW_RUN, (key,)))

    def choose_flow_run(self, prefix: str) -> list[tuple[int, bytes, bytes]]:
        """``(flow row, parameters digest, id)`` of at most two flow runs whose id (hex) begins with `prefix`."""
        return self.rows(sql.CHOOSE_FLOW_RUN, (prefix.upper(),))

    def flow_run_by_idempotency_key(self, flow_id: int, key: str) -> FlowRecord | None:
        """The flow run that has this idempotency key."""
        return _flow_record(self.rows(sql.FIND_FLOW_RUN_BY_IDEMPOTENCY_KEY, (flow_id, key)))

    def has_idempotency_key(self, flow_run_id: int) -> bool:
        """Whether a flow run is an idempotency key's."""
        return bool(self.rows(sql.HAS_IDEMPOTENCY_KEY, (flow_run_id,))[0][0])

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

    def was_rolled_back(self, run: int) -> bool:
        """Whether a task run was ever rolled back."""
        return bool(self.rows(sql.WAS_ROLLED_BACK, (run,))[0][0])

    def has_rollbacks(self, flow_run_id: int) -> bool:
        """Whether any task run of a flow run was rolled back."""
        return bool(self.rows(sql.HAS_ROLLBACKS, (flow_run_id,))[0][0])

    def restored(self, flow_run_id: int, limit: int) -> tuple[int, int]:
        """How many completed task runs a flow run has, and how many microseconds they took, among `limit` of its
        task runs.
        """
        count, took = self.rows(sql.COUNT_RESTORED, (flow_run_id, limit))[0]
        return count, took


def _as_flow_record(row: Any) -> FlowRecord:
    return FlowRecord(*(*row[:4], BY_CODE[row[4]], *row[5:]))


def _flow_record(rows: list[Any]) -> FlowRecord | None:
    return _as_flow_record(rows[0]) if rows else None
