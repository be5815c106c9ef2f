"""Forked runs: which call of the original a call of the fork stands for, and whether its result may be used.

`durable fork` makes a run that reuses what its original completed before one task run. Rules:

1. A scope of a fork carries the identity of the same scope in the original, so a call made in it has the identity it
   would have had there, by the same derivation. Nothing is written in the original.
2. A call that has no record of its own uses the original's if that one completed, kept its result and began before the
   task run the fork was made at, without calling it. It is recorded as Cached, with a pointer to the original's result.
3. A subflow is reused as a whole if all of it began before that task run; otherwise its body runs, and rule 2 goes for
   the calls made in it.
4. A future counts, among the arguments of a call, by the identity it has in the first of a line of forks: so the
   arguments of the same call are the same bytes in all of them.
5. A run that is no fork pays for none of this: only a scope with a history is asked.
"""

from __future__ import annotations

from xxhash import xxh3_128_digest

from durable.journal import FlowRecord, Journal, TaskRecord
from durable.runs import FlowRun, Fork, Scope, identity
from durable.states import CACHED, COMPLETED

_REUSED = frozenset({COMPLETED, CACHED})


def original_of(scope: Scope, callee: bytes, inputs: bytes, occurrence: int) -> tuple[bytes, bytes] | None:
    """The identity in the original, and in the first of the line, of a call made in `scope`; None in no fork."""
    run = scope.flow_run
    if run is None or run.fork is None:
        return None
    original, first = scope.original
    return identity(original, callee, inputs, occurrence), identity(first, callee, inputs, occurrence)


def follow(call: Scope, parent: Scope, callee: bytes, inputs: bytes, occurrence: int) -> None:
    """`call`, made in `parent`, stands for the original's, if this is a fork."""
    original = original_of(parent, callee, inputs, occurrence)
    if original is not None:
        call.original, call.has_history = original, True


def rejoin(call: Scope, inputs: bytes) -> None:
    """What a call waited for has joined its identity."""
    call.key = xxh3_128_digest(call.key + inputs)
    if call.flow_run is not None and call.flow_run.fork is not None:
        original, first = call.original
        call.original = xxh3_128_digest(original + inputs), xxh3_128_digest(first + inputs)


def twin(call: Scope) -> bytes | None:
    """The identity in the original of a call; None in no fork."""
    return call.original[0] if call.flow_run is not None and call.flow_run.fork is not None else None


def begin(run: FlowRun, record: FlowRecord) -> None:
    """The run that `record` tells of is executed: if it is a fork, its calls stand for the original's."""
    if record.forked_from is not None and record.forked_before is not None:
        run.original = record.forked_from, run.journal.first_of_line(record.id)
        before = record.forked_before
        run.fork = Fork(before, run.journal.begun(before), _around(run.journal, before))


def descend(run: FlowRun, parent: Scope | None, original: tuple[bytes, bytes] | None) -> None:
    """`run`, a subflow called in `parent`, stands for the original's subflow `original`."""
    if parent is not None and parent.flow_run is not None and original is not None:
        run.original, run.fork, run.has_history = original, parent.flow_run.fork, True


def reusable_task(scope: Scope, original: bytes) -> TaskRecord | None:
    """The original's record of a call, if its result may be used."""
    run = scope.flow_run
    record = scope.journal.find_task_run(original)
    if run is None or run.fork is None or record is None:
        return None
    if record.id >= run.fork.before or record.id in run.fork.around:
        return None
    return record if record.state in _REUSED and record.result_id is not None else None


def reusable_flow(scope: Scope, original: bytes) -> FlowRecord | None:
    """The original's record of a subflow, if its result may be used."""
    run = scope.flow_run
    record = scope.journal.find_flow_run(original)
    if run is None or run.fork is None or record is None or record.result_id is None or record.state not in _REUSED:
        return None
    ended_before = record.begun < run.fork.began and scope.journal.newest_in_family(record.id) < run.fork.before
    return record if ended_before else None


def _around(journal: Journal, row: int) -> frozenset[int]:
    """The task runs a task run was called in, at any depth, through subflows too."""
    found: set[int] = set()
    flow, task = journal.caller_of_task(row)
    while flow is not None or task is not None:
        if task is not None:
            found.add(task)
            flow, task = journal.caller_of_task(task)
        elif flow is not None:
            flow, task = journal.caller_of_flow(flow)
    return frozenset(found)
