"""A transaction as users see it. The rules are in `durable.transactions`."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from contextvars import Token
from enum import Enum
from typing import Any, Final

from durable.blocks import active
from durable.callbacks import settle
from durable.errors import ConfigurationError, JournalError
from durable.journal.rollbacks import standing
from durable.outcomes import restore
from durable.runs import FlowRun, Scope, current
from durable.transactions.keyed import Keyed
from durable.transactions.modes import CommitMode, IsolationLevel, TransactionState
from durable.transactions.undo import ENDED, Hook
from durable.transactions.unit import Unit

_NOTHING: Final = object()


class Transaction(Unit):
    """A transaction block, or the transaction that each task called in one is. Hooks are handed the latter.

    Attributes:
        key: what the block goes by across runs, or None.
        commit_mode: as given, or that of the transaction around it, or LAZY.
        isolation_level: as given, or that of the transaction around it, or READ_COMMITTED.
        state: where it stands.
        children: the transactions in it that have ended well, and tasks that have ended; in that order.
    """

    __slots__ = ("_overwrite", "_process", "_token", "_values", "key")

    def __init__(
        self,
        key: str | None = None,
        *,
        commit_mode: CommitMode | None = None,
        isolation_level: IsolationLevel | None = None,
        overwrite: bool = False,
        write_on_commit: bool = True,
    ) -> None:
        super().__init__()
        self.key = key
        self.is_block = True
        self.commit_mode = _member("commit_mode", commit_mode, CommitMode)
        self.isolation_level = _member("isolation_level", isolation_level, IsolationLevel)
        self.keyed = Keyed(key, write=write_on_commit) if key is not None else None
        self._overwrite = overwrite
        self._values: dict[str, Any] = {}
        self._token: Token[Any] | None = None
        self._process = 0

    # What users call.

    def set(self, name: str, value: Any) -> None:
        """Keep a value for this transaction and those in it, in memory: a resume has what it sets again."""
        self._values[name] = value

    def get(self, name: str, default: Any = _NOTHING) -> Any:
        """A copy of a value that was set here or, failing that, in a transaction around this one.

        Raises:
            ValueError: there is none of that name, and no default.
        """
        transaction: Transaction | None = self
        while transaction is not None:
            if name in transaction._values:  # noqa: SLF001 - of this very class
                return copy.deepcopy(transaction._values[name])  # noqa: SLF001 - as above
            transaction = transaction.parent
        if default is _NOTHING:
            raise ValueError(f"Could not retrieve value for unknown key: {name}")
        return default

    def stage(
        self,
        value: Any,
        on_rollback_hooks: Sequence[Hook] | None = None,
        on_commit_hooks: Sequence[Hook] | None = None,
    ) -> None:
        """Give the transaction its value, recorded under its key when it commits, and hooks. Nothing once it has ended.

        Raises:
            NotSerializable: the transaction has a key, and the value could not be given back exactly.
        """
        if self.state in ENDED:
            return
        if self.keyed is not None:
            self.keyed.stage(value)
        self.on_rollback += list(on_rollback_hooks or ())
        self.on_commit += list(on_commit_hooks or ())
        self.state = TransactionState.STAGED

    def read(self) -> Any:
        """The value recorded under the key; in a hook of a task, what the journal has of the task. Otherwise None."""
        if self.keyed is not None:
            return self.keyed.read()
        if self.journal is None or self.run is None:
            return None
        result = standing(self.journal, self.run).result_id
        return None if result is None else restore(self.journal.outcome(result), "a task in a transaction")

    def is_pending(self) -> bool:
        """Whether it has not begun."""
        return self.state is TransactionState.PENDING

    def is_active(self) -> bool:
        """Whether it has begun and nothing is staged."""
        return self.state is TransactionState.ACTIVE

    def is_staged(self) -> bool:
        """Whether it has a value and has not ended."""
        return self.state is TransactionState.STAGED

    def is_committed(self) -> bool:
        """Whether it has committed; of one with a key, also whether it did so before, in this run or another."""
        return self.state is TransactionState.COMMITTED

    def is_rolled_back(self) -> bool:
        """Whether it was rolled back."""
        return self.state is TransactionState.ROLLED_BACK

    def get_parent(self) -> Transaction | None:
        """The transaction around it."""
        parent: Transaction | None = self.parent
        return parent

    def commit(self) -> bool:
        """Commit now, whatever the mode. False if it had ended, or a hook raised and it was rolled back.

        Raises:
            JournalError: the journal cannot be written.
        """
        if self.state in ENDED:
            return False
        _settle(self.committing())
        return self.is_committed()

    def rollback(self) -> bool:
        """Roll back now. The transactions around it follow when its block ends. False if it had ended.

        Raises:
            JournalError: the journal cannot be written; then nothing was undone.
        """
        if self.state in ENDED:
            return False
        _settle(self.rolling_back())
        return True

    def __enter__(self) -> Transaction:  # noqa: PYI034 - Self needs Python 3.11
        _settle(self._begins())
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        _settle(self._ends(error))

    async def __aenter__(self) -> Transaction:  # noqa: PYI034 - as above
        for awaitable in self._begins():
            await awaitable
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        for awaitable in self._ends(error):
            await awaitable

    def __repr__(self) -> str:
        return f"<transaction {self.key or ''}{' ' if self.key else ''}{self.state.name}>"

    # What durable calls.

    # A block.

    @property
    def is_over(self) -> bool:
        """Whether its end has come, and that of its block."""
        return self.state in ENDED and (not self.is_block or self._token is None)

    def _begins(self) -> Iterator[Any]:
        if not self.is_pending():
            raise RuntimeError("This transaction has begun already: make another one.")
        self.begin_in(get_transaction())
        self._process = os.getpid()
        self.state = TransactionState.ACTIVE
        if self.keyed is not None:
            if self.isolation_level is IsolationLevel.SERIALIZABLE and not self.has_lock_around():
                yield from self.keyed.lock()
            if self.keyed.find() and not self._overwrite:
                self.state = TransactionState.COMMITTED
        self._token = active.set(self)

    def _ends(self, error: BaseException | None) -> Iterator[Any]:
        token, self._token = self._token, None
        if token is None:
            raise RuntimeError("This transaction has not begun, or has ended already.")
        active.reset(token)
        if self._process == os.getpid():  # otherwise a forked child has come back from its parent's block
            yield from self._closes(error)

    def _closes(self, error: BaseException | None) -> Iterator[Any]:
        if error is not None:
            if isinstance(error, Exception) and not isinstance(error, JournalError):
                yield from self.rolling_back()
            else:
                self.unlock_all()
        elif self.commit_mode is CommitMode.EAGER or (self.parent is None and self.commit_mode is CommitMode.LAZY):
            yield from self.committing()
        elif self.parent is None:
            yield from self.rolling_back()
        parent = self.parent
        if parent is None:
            return
        parent.children.append(self)
        if self.is_rolled_back() and parent.is_block:
            yield from parent.rolling_back()

    # The part of a call. `durable.execution` makes these.

    @classmethod
    def around_run(cls, parent: Transaction | None) -> Transaction:
        """The transaction of a call made in `parent`."""
        made = cls()
        made.is_block = False
        made.begin_in(parent)
        made.state = TransactionState.ACTIVE
        return made

    def inner(self) -> Transaction:
        """A new transaction in this one, of a run."""
        return Transaction.around_run(self)


def enclosing(scope: Scope | None) -> Transaction | None:
    """The transaction of the task in whose body `scope` is, made now if nothing needed one before."""
    while isinstance(scope, FlowRun):
        scope = scope.called_in
    of_task: Callable[[], Transaction] | None = getattr(scope, "transaction", None)
    return None if of_task is None else of_task()


def get_transaction() -> Transaction | None:
    """The transaction a call made here would belong to: the innermost block, or that of the task whose body this is."""
    return active.get() or enclosing(current.get())


def _settle(steps: Iterator[Any]) -> None:
    for awaitable in steps:
        settle(awaitable)


def _member(option: str, value: Any, kind: type[Enum]) -> Any:
    if value is not None and not isinstance(value, kind):
        expected = ", ".join(map(str, kind))
        raise ConfigurationError(f"transaction({option}={value!r}): expected one of {expected}")
    return value
