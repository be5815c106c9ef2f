"""Which run a flow call is: beginning a new one, giving what is recorded of it, or taking over one that did not end.

A root call first settles which flow run it is (`durable.resume`) and takes its lock; a subflow is identified like a
task, lives under its root's lock, and follows the same rules for what is history and what gets a new chance.
"""

from __future__ import annotations

import os
from typing import Any, Final

from durable.clock import clock
from durable.definitions import FlowDefinition
from durable.execution import Execution
from durable.forks import begin, descend, reusable_flow
from durable.journal import NO_LABEL, Entry, FlowRecord, Label
from durable.logs import root_log
from durable.outcomes import restore
from durable.ownership import RunLock
from durable.phrases import counted, duration, moment
from durable.resume import Choice, Request, choose
from durable.runs import FlowRun, Scope, tell_flow_start
from durable.settings import setting
from durable.states import AWAITING_RETRY, CACHED, CRASHED, PENDING, RETRYING, RUNNING, StateKind, StateType

_COUNTED: Final = 100_000  # task runs of which it is told how much they save: more would keep the body waiting
_IN_FLIGHT: Final = frozenset({RUNNING, RETRYING, AWAITING_RETRY})


class Settling(Execution):
    """The part of a flow call that settles its run. Attributes as in `Execution`."""

    definition: FlowDefinition
    run: FlowRun | None
    _found_dead: bool
    _identity: bytes | None
    _key: bytes | None
    _lock: RunLock | None
    _original: tuple[bytes, bytes] | None
    _parameters: bytes
    _parameters_digest: bytes
    parent: Scope | None
    _row: int

    def replay(self) -> Entry | None:
        """Settle which run this is. Continues it, begins it, or sets `done` with what is recorded of it."""
        if self.done:  # refused, or not ready: there is no run
            return None
        row = self.journal.flow_row(self.definition.key, self.definition.name, self.definition.function)
        while True:
            choice = self._choose(row)
            if choice.record is None:
                if self._original is not None and (entry := self._reuse(self._original[0], row)) is not None:
                    return entry
                if self._begin(row):
                    return None
                continue  # another process has just taken the idempotency key
            self._lock = choice.lock
            if self._give_recorded(choice.record):
                return None
            return self._take_over(choice.record)

    def _choose(self, row: int) -> Choice:
        if self._identity is None:
            return choose(Request(self.journal, self.definition, row, self._parameters_digest, self.definition.options))
        assert self.parent is not None  # noqa: S101 - only a subflow has an identity
        return Choice(self.journal.find_flow_run(self._identity) if self.parent.has_history else None)

    def _begin(self, row: int) -> bool:
        """Begin a new run. False if its idempotency key was taken in the meantime."""
        parent, key = self.parent, self._identity or os.urandom(16)
        if self._identity is None:
            self._lock = RunLock(self.journal.path, key)
            self._lock.acquire()
        self.kind, self._key = RUNNING, key
        run = self._becomes(key, 0)
        label = self._label(run, frozenset())
        self.journal.commit(self._begins(row, RUNNING, label))
        record = self.journal.find_flow_run(key)
        if record is None:
            self.close()
            return False
        run.id, run.own_name, run.begun = record.id, label.name, record.begun
        self._row = record.id
        run.mark = parent.mark if parent is not None else 0
        tell_flow_start(run, parent)
        return True

    def _begins(self, flow: int, state: StateKind, label: Label) -> Entry:
        """The run's own row, which is its first transition."""
        parent = self.parent
        flow_run = parent.flow_run if parent is not None else None
        return self.journal.flow_run_begins(
            self._key or b"",
            flow,
            (flow_run.id if flow_run is not None else None, parent.row if parent is not None else None),
            state,
            self._parameters,
            self._parameters_digest,
            self.definition.options.idempotency_key,
            label,
        )

    def _becomes(self, key: bytes, row: int) -> FlowRun:
        """The call executes that run."""
        own, parent = self.definition.options.log_prints, self.parent
        cancel = parent.flow_run.cancel if parent is not None and parent.flow_run is not None else None
        run = self.run = FlowRun(self.journal, key, row, self.definition.name, self._parameters_digest, cancel)
        inherited = parent.log_prints if parent is not None else setting("log_prints")
        run.log_prints = inherited if own is None else own
        run.describe, run.flow = self.view, self.definition.owner
        run.called_in = parent
        if parent is not None and parent.flow_run is not None:
            run.root = parent.flow_run.root
        run.make_runner = self._make_runner
        descend(run, parent, self._original)
        return run

    def _reuse(self, original: bytes, row: int) -> Entry | None:
        """In a forked run: give the result of the subflow this one stands for, if all of it came before the fork."""
        parent = self.parent
        assert parent is not None  # noqa: S101 - only a subflow has an original
        record = reusable_flow(parent, original)
        if record is None or record.result_id is None:
            return None
        self._value = restore(self.journal.outcome(record.result_id), f"flow run {record.key.hex()[:7]}")
        self._becomes(self._identity or b"", 0)
        self.kind, self.done, self._key = CACHED, True, self._identity
        entry = self.journal.flow_run_cached(self._begins(row, PENDING, NO_LABEL), CACHED, record.result_id)
        self.at = entry.at
        return entry

    def _make_runner(self) -> Any:
        runner = self.definition.options.task_runner.duplicate()
        runner.run = self.run
        if self.run is not None:
            self.run.root.counts.runners.add(runner)
        return runner

    def _give_recorded(self, record: FlowRecord) -> bool:
        """Give the run's recorded end, if it has one that counts."""
        if record.state.type is StateType.COMPLETED and record.result_id is not None:
            self._value = restore(self.journal.outcome(record.result_id), f"flow run {record.key.hex()[:7]}")
        elif self._identity is not None and record.state.type is StateType.FAILED and self._is_history(record):
            self.error = restore(self.journal.outcome(record.result_id or 0), f"flow run {record.key.hex()[:7]}")
        else:
            return False
        self._row = record.id if self._identity is not None else 0
        self.kind, self.done, self._key = record.state, True, record.key
        self._is_replayed()
        self.at, self.message = record.at, record.message or ""
        return True

    def _is_history(self, record: FlowRecord) -> bool:
        assert self.parent is not None  # noqa: S101 - asked of subflows only
        return (record.result_id or 0) > self.parent.mark

    def _take_over(self, record: FlowRecord) -> Entry:
        """Continue a run that did not complete."""
        run = self._becomes(record.key, record.id)
        run.own_name, run.begun = record.name, record.begun
        parent_mark = self.parent.mark if self.parent is not None else 0
        run.mark = max(parent_mark, self.journal.last_failure(record.id))
        run.has_a_past()
        begin(run, record)
        self._row = record.id
        self._retries = self.journal.failed_flow_attempts(record.id)
        self._seq, self.kind, self._key = record.seq, record.state, record.key
        count, took = self.journal.restored(record.id, _COUNTED)
        over = "over " if count == _COUNTED else ""
        if record.forked_from is not None and record.state is PENDING:
            root_log.info("beginning %s, a fork of run %s", run.name, record.forked_from.hex()[:7])
        elif self._identity is None:
            root_log.info(
                "resuming %s %s, begun %s: %s%s restored, %s%s saved",
                run.flow_name,
                run.key.hex()[:7],
                moment(record.begun, clock().now()),
                over,
                counted(count, "task"),
                over,
                duration(took),
            )
        if record.state in _IN_FLIGHT:
            self._found_dead = True
            died = f"Process {record.pid} on {record.host} died; found when the run was resumed."
            return self._enters((CRASHED, died), (RUNNING, None))
        return self._enters((RUNNING, None))
