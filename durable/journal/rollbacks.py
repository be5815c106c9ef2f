"""What a rollback asks the journal: which runs belong to a run, and where each of them stands."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from durable.journal import statements as sql
from durable.journal.journal import Journal
from durable.states import BY_CODE, ROLLED_BACK, StateKind


class Run(Struct, frozen=True):
    """A task run or flow run: its row, and the row of the flow run it was called in (None: outside any)."""

    is_flow: bool
    row: int
    flow_run: int | None


class Standing(Struct, frozen=True):
    """Where a run stands.

    Attributes:
        seq, state: its newest transition.
        task_key: of a task run: its task's.
        result_id: of a task run: the result of its newest completion.
        owed: of a task run: it was decided to roll it back, and not recorded that its hooks have run.
    """

    seq: int
    state: StateKind
    task_key: bytes | None = None
    result_id: int | None = None
    owed: bool = False


def standing(journal: Journal, run: Run) -> Standing:
    """Where a run stands now."""
    if run.is_flow:
        seq, state = journal.rows(sql.STANDING_FLOW_RUN, (run.row,))[0]
        return Standing(seq, BY_CODE[state])
    seq, state, before, key, result = journal.rows(sql.STANDING_TASK_RUN, (run.row,))[0]
    owed = state == ROLLED_BACK.code and before != ROLLED_BACK.code
    return Standing(seq, BY_CODE[state], key, result, owed)


def called_by(journal: Journal, runs: Iterable[Run]) -> dict[Run, Run]:
    """What `runs` called, directly or not: each with the one of `runs` it belongs to, in the order it began.

    A call made in a task's body is recorded after the task and in the same flow run, so that one pass over what came
    after the first of `runs` finds them all.
    """
    found: dict[Run, Run] = {}
    tasks: dict[int | None, dict[int, Run]] = {}
    flows: list[tuple[int, Run]] = []
    for run in runs:
        if run.is_flow:
            flows.append((run.row, run))
        else:
            tasks.setdefault(run.flow_run, {})[run.row] = run
    for flow_run, owners in tasks.items():
        for row, parent in journal.rows(sql.CALLS_IN, (flow_run, min(owners))):
            if parent in owners and row not in owners:
                owners[row] = found[Run(False, row, flow_run)] = owners[parent]
        flows += [
            (row, owners[parent]) for row, parent in journal.rows(sql.SUBFLOWS_IN, (flow_run,)) if parent in owners
        ]
    while flows:
        flow_run, owner = flows.pop()
        if not (owner.is_flow and owner.row == flow_run):
            found[Run(True, flow_run, None)] = owner
        found.update((Run(False, row, flow_run), owner) for row, _ in journal.rows(sql.CALLS_IN, (flow_run, 0)))
        flows += [(row, owner) for row, _ in journal.rows(sql.SUBFLOWS_IN, (flow_run,))]
    return found
