"""What a person does to runs from outside of them: cancel one that is dead, fork one."""

from __future__ import annotations

import os

from durable.clock import clock
from durable.journal import statements as sql
from durable.journal.entries import Entry
from durable.journal.facts import FlowRecord
from durable.journal.journal import Journal
from durable.states import CANCELLED, CRASHED, PENDING, StateType, check_transition

_ENDED = frozenset({StateType.CRASHED, StateType.PENDING})  # from these Cancelled follows at once


def cancel_flow_run(journal: Journal, record: FlowRecord, message: str) -> None:
    """Record that a run nobody executes is cancelled. The caller holds its lock.

    Raises:
        InvalidTransition: the run has ended in a way that nothing but another execution may follow.
    """
    died = f"Process {record.pid} on {record.host} died; found when the run was cancelled."
    states = ((CANCELLED, message),) if record.state.type in _ENDED else ((CRASHED, died), (CANCELLED, message))
    before = record.state
    for kind, _ in states:
        check_transition(before, kind, f"flow run {record.key.hex()[:7]}")
        before = kind
    journal.commit(journal.flow_run_enters(record.id, record.seq + 1, states))


def fork_flow_run(journal: Journal, original: int, before: int) -> bytes:
    """Make a run that reuses what the run in row `original` completed before the task run in row `before`; its id."""
    key = os.urandom(16)
    written = key, journal.process_id, PENDING.code, clock().now(), before, original
    journal.commit(Entry(True, (sql.FORK_FLOW_RUN, written)))
    return key
