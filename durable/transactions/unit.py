"""The tree of transactions: how one commits, is rolled back, and what the end of a call means for its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from inspect import isawaitable
from typing import Any

from durable.journal import Entry, Journal
from durable.journal.rollbacks import Run
from durable.logs import root_log
from durable.states import CACHED, COMPLETED, StateKind, StateType
from durable.transactions.keyed import Keyed
from durable.transactions.modes import CommitMode, IsolationLevel, TransactionState
from durable.transactions.undo import ENDED, Hook, Undoable, called, decided, from_journal, outside, undo


class Unit(Undoable):
    """One node of the tree: a block, or the part a call has in the transaction it is made in.

    Attributes:
        parent: the one around it.
        is_block: it is a block, and not a call's.
        keyed: its key, if it has one.
        on_commit: its hooks.
        replayed: the run it is of was not executed by this process.
        commit_mode: when it commits; None until it begins, where nothing was said.
        isolation_level: likewise.
    """

    __slots__ = (
        "_has_ended",
        "_plan",
        "commit_mode",
        "is_block",
        "isolation_level",
        "keyed",
        "on_commit",
        "parent",
        "replayed",
    )

    def __init__(self) -> None:
        super().__init__()
        self.parent: Any = None
        self.is_block = False
        self.keyed: Keyed | None = None
        self.on_commit: list[Hook] = []
        self.replayed = False
        self.commit_mode: CommitMode | None = None
        self.isolation_level: IsolationLevel | None = None
        self._has_ended = False
        self._plan: list[Undoable] = []  # what its failure undoes, once that is recorded

    def begin_in(self, parent: Any) -> None:
        """It is in `parent`, and takes from there what it was not told."""
        self.parent = parent
        self.commit_mode = self.commit_mode or (parent.commit_mode if parent else CommitMode.LAZY)
        self.isolation_level = self.isolation_level or (
            parent.isolation_level if parent else IsolationLevel.READ_COMMITTED
        )

    def has_lock_around(self) -> bool:
        """Whether the transactions around it, or others in those, have its key to themselves."""
        around = self.parent
        while around is not None:
            for each in around.each():
                if self.keyed is not None and self.keyed.is_locked_by(each.keyed):
                    return True
            around = around.parent
        return False

    @property
    def is_over(self) -> bool:
        """Whether its end has come: of a call's, once it has committed or was rolled back."""
        return self.state in ENDED

    def unlock_all(self) -> None:
        """Let others have the keys it holds."""
        for each in self.each():
            if each.keyed is not None:
                each.keyed.unlock()

    def committing(self, seen: set[Run] | None = None, *, told: bool | None = None) -> Iterator[Any]:
        """Commit what is in it, then itself. A hook that raises rolls back the one it belongs to."""
        if self.state is TransactionState.ROLLED_BACK:
            yield from self.rolling_back()  # what completed in it later
            return
        seen = set() if seen is None else seen
        told = self._is_news() if told is None else told
        for child in self.children:
            yield from child.committing(seen, told=told)
        if self.state is TransactionState.COMMITTED or self.run in seen:  # a retry has called it again
            self.state = TransactionState.COMMITTED
            if self.keyed is not None:
                self.keyed.unlock()
            return
        if self.run is not None:
            seen.add(self.run)
        errors: list[Exception] = []
        with outside():
            for hook in self.on_commit if told else ():
                if not errors and isawaitable(awaitable := called(hook, self, errors)):
                    yield awaitable
        if errors:
            root_log.error("An on_commit hook raised; its transaction is rolled back", exc_info=errors[0])
            yield from self.rolling_back()
            return
        if self.keyed is not None:
            self.keyed.record()
            self.keyed.unlock()
        self.state = TransactionState.COMMITTED

    def _is_news(self) -> bool:
        """Rule 6."""
        runs = [each for each in self.each() if each.run is not None]
        return not runs or not all(each.replayed for each in runs)

    def rolling_back(self) -> Iterator[Any]:
        """Undo what of it has not ended: all of it, or what completed in it after it was rolled back."""
        yield from undo(decided(list(self.undone())))

    def undone_by_failure(self) -> Iterator[Any]:
        """Rule 2, of a task that has failed."""
        if self.on_rollback and self.state not in ENDED:
            yield self
        for child in reversed(self.children):
            if child.is_block or child.on_rollback:
                yield from child.undone()
            else:
                yield from child.undone_by_failure()

    def is_undone(self) -> None:
        """Its hooks have run."""
        super().is_undone()
        if self.keyed is not None:
            self.keyed.unlock()

    def is_of(self, journal: Journal, run: Run | None, *, replayed: bool) -> None:
        """It is that run's, which is known by now."""
        self.journal, self.run, self.replayed = journal, run, replayed

    def failing(self, entry: Entry) -> None:
        """A task's final failure is about to be recorded: with it, what it called is rolled back (rule 2)."""
        self._plan = decided(list(self.undone_by_failure()), entry, self.journal)

    def ended(self, kind: StateKind, on_rollback: Sequence[Hook], on_commit: Sequence[Hook]) -> Iterator[Any]:
        """The run has ended, and that is recorded. To be called again does nothing."""
        if self._has_ended:
            return
        self._has_ended = True
        if kind is COMPLETED:
            if self.state is not TransactionState.COMMITTED:  # rolled back by its body, perhaps; it has completed
                self.state = TransactionState.STAGED
                self.on_rollback += on_rollback
                self.on_commit += on_commit
            if self.parent is None or self.commit_mode is CommitMode.EAGER:
                yield from self.committing()
        elif kind.type is StateType.FAILED:
            yield from undo(self._owing() if self.replayed else self._plan)
        else:
            self.unlock_all()
        if self.parent is not None and kind is not CACHED:  # a memo's effect belongs to another run
            self.parent.children.append(self)
            if self.parent.is_over:  # nobody will look at it any more: a task that outlived the block it was called in
                undone = self.parent.state is TransactionState.ROLLED_BACK
                yield from self.rolling_back() if undone else self.committing()

    def owes(self, hooks: Sequence[Hook], seq: int) -> None:
        """The run was rolled back by transition `seq`, and its hooks have not all run."""
        self.on_rollback, self.owed = list(hooks), seq

    def pays(self) -> Iterator[Any]:
        """Run the hooks that are owed (rule 1), also of what it called."""
        yield from undo([self, *self._owing()])
        self.state = TransactionState.ACTIVE

    def _owing(self) -> list[Undoable]:
        """What the run called whose hooks are owed."""
        return [each for each in from_journal([self]).get(self, ()) if each.owed is not None]
