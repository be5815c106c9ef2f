"""Undoing: what is recorded of it, in which order, and the hooks. Rules 1, 3 and 7 of `durable.transactions`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from inspect import isawaitable
from typing import Any, Final

from durable.blocks import active, undoable
from durable.callbacks import fire
from durable.journal import Entry, Journal, Statement
from durable.journal.rollbacks import Run, called_by, standing
from durable.runs import Aside, around, current
from durable.states import COMPLETED, ROLLED_BACK, check_transition
from durable.transactions.modes import TransactionState

Hook = Callable[..., Any]

ENDED: Final = frozenset({TransactionState.COMMITTED, TransactionState.ROLLED_BACK})
_OWED: Final = "Rolled back as part of a transaction; its on_rollback hooks have not all run yet."
_DONE: Final = "Rolled back as part of a transaction."


class Undoable:
    """What a rollback needs to know of a transaction: what it holds, its hooks, and the run it is of.

    Attributes:
        state: where it stands.
        children: the transactions in it whose end has come, in that order.
        on_rollback: its hooks.
        journal, run: of a task's or flow's own transaction: where it is recorded.
        owed: the transition that decided to roll the run back, while its hooks have not run.
    """

    __slots__ = ("__weakref__", "children", "journal", "on_rollback", "owed", "run", "state")

    def __init__(self) -> None:
        self.state = TransactionState.PENDING
        self.children: list[Any] = []
        self.on_rollback: list[Hook] = []
        self.journal: Journal | None = None
        self.run: Run | None = None
        self.owed: int | None = None

    def inner(self) -> Any:
        """A new transaction in this one, of a run."""
        raise NotImplementedError

    def each(self) -> Iterator[Any]:
        """It and all that is in it."""
        yield self
        for child in self.children:
            yield from child.each()

    def undone(self) -> Iterator[Any]:
        """What of it has not ended, in the order it is undone: itself, then what is in it, the last first."""
        if self.state not in ENDED:
            yield self
        for child in reversed(self.children):
            yield from child.undone()

    def decision(self, seq: int) -> tuple[Statement, ...]:
        """Statements that record, as transition `seq`, that the run is rolled back."""
        journal, run = self.journal, self.run
        assert journal is not None  # noqa: S101 - asked of a run
        assert run is not None  # noqa: S101 - as above
        check_transition(COMPLETED, ROLLED_BACK, "a rollback")
        if run.is_flow:
            return journal.flow_run_enters(run.row, seq, ((ROLLED_BACK, _DONE),)).statements
        self.owed = seq if self.on_rollback else None
        states = ((ROLLED_BACK, _OWED if self.on_rollback else _DONE),)
        return journal.task_run_enters(run.row, seq, states, synced=True).statements

    def is_undone(self) -> None:
        """Its hooks have run."""
        if self.owed is None or self.journal is None or self.run is None:
            return
        check_transition(ROLLED_BACK, ROLLED_BACK, "a rollback")
        # Without an fsync: should a power cut lose it, the hooks run once more.
        entry = self.journal.task_run_enters(self.run.row, self.owed + 1, ((ROLLED_BACK, _DONE),), synced=False)
        self.owed = None
        self.journal.commit(entry)


def decided(plan: list[Undoable], entry: Entry | None = None, own: Journal | None = None) -> list[Undoable]:
    """Record that `plan` is rolled back, with what the journal knows to belong to it. All of that, in order.

    Recorded with `entry` of the journal `own`, where there is one; otherwise in a commit of its own.

    Raises:
        JournalError: it cannot be recorded, so nothing may be undone.
    """
    whole: list[Undoable] = []
    statements: dict[Journal, list[Statement]] = {}
    seen: set[Run] = set()
    below = from_journal(plan)
    for each in (each for planned in plan for each in (planned, *below.get(planned, ()))):
        whole.append(each)
        if each.journal is None or each.run is None:
            continue
        if each.run in seen:  # a retry has called it again
            each.on_rollback = []
            continue
        seen.add(each.run)
        stands = standing(each.journal, each.run)
        if stands.state is COMPLETED:
            statements.setdefault(each.journal, []).extend(each.decision(stands.seq + 1))
        elif stands.owed:
            each.owed = stands.seq
        elif stands.state is ROLLED_BACK:
            each.on_rollback = []  # they have run
    if entry is not None and own is not None:
        entry.statements += tuple(statements.pop(own, ()))
    for journal, those in statements.items():
        journal.commit(Entry(True, *those))
    return whole


def from_journal(plan: list[Undoable]) -> dict[Undoable, list[Undoable]]:
    """What the runs of `plan` called and completed that no transaction in memory stands for, the last first."""
    owners = {each.run: each for each in plan if each.run is not None}
    known = {inner.run for each in plan for inner in each.each()}
    found: dict[Undoable, list[Undoable]] = {}
    for journal in {each.journal for each in owners.values() if each.journal is not None}:
        runs = [run for run, each in owners.items() if each.journal is journal]
        for run, owner in reversed(called_by(journal, runs).items()):
            if run in known:
                continue
            stands = standing(journal, run)
            if stands.state is not COMPLETED and not stands.owed:
                continue
            made = owners[owner].inner()
            made.journal, made.run = journal, run
            made.owed = stands.seq if stands.owed else None
            task = undoable.get(stands.task_key) if stands.task_key is not None else None
            made.on_rollback = list(task.definition.options.hooks.on_rollback) if task is not None else []
            found.setdefault(owners[owner], []).append(made)
    return found


def undo(plan: list[Undoable]) -> Iterator[Any]:
    """Call the hooks of what it was decided to roll back, and record for each that they have run."""
    for each in plan:
        if each.state not in ENDED:
            each.state = TransactionState.ROLLED_BACK
    with outside(replaying=False):
        for each in plan:
            hooks, each.on_rollback = each.on_rollback, []
            for hook in reversed(hooks):
                if isawaitable(awaitable := fire(hook, each)):
                    yield awaitable
            each.is_undone()


def called(hook: Hook, owner: Undoable, errors: list[Exception]) -> Awaitable[None] | None:
    """Call a hook; what it raises is added to `errors`, now or when the awaitable it gave is awaited."""

    async def finish(awaitable: Awaitable[Any]) -> None:
        try:
            await awaitable
        except Exception as error:  # noqa: BLE001 - whatever a user's hook raises
            errors.append(error)

    try:
        result = hook(owner)
    except Exception as error:  # noqa: BLE001 - as above
        errors.append(error)
        return None
    return finish(result) if isawaitable(result) else None


@contextmanager
def outside(*, replaying: bool = True) -> Iterator[None]:
    """Calls made in here belong to no transaction; without `replaying` each is a new task run of its own."""
    block, scope = active.get(), current.get()
    active.set(None)
    if scope is not None and not replaying:
        current.set(Aside(around() or scope, scope.flow_run))
    try:
        yield
    finally:
        active.set(block)
        current.set(scope)
