"""Blocks of work that stand or fall together: ``with transaction():``. After Prefect 3's ``prefect.transactions``.

Inside a transaction every task call belongs to it, in call order; a task belongs to the one it was called in, and what
its body calls belongs to the task. An exception that leaves the block rolls back what completed in it. The journal has
each completion at once, transaction or not; the tree of transactions exists in memory, for what is to be undone.

Rules:

1. Undoing a task is a fact and an effect, and a crash may come between the two. Were the hook called first, the journal
   could still say Completed over an effect that is gone, and a resume would replay the value; were only RolledBack
   recorded first, a crash would lose that a compensation is due. So both are recorded: RolledBack for all task runs of
   the transaction in one commit, before the first hook; and RolledBack again for each as soon as its hooks have run.
   Between the two the hooks are *owed*, and whoever calls the task next runs them before anything else. A hook may
   so be called twice, never not at all.
2. A task that fails for good records, in one commit with its failure, that what it called is rolled back: the completed
   calls that have an ``on_rollback`` hook, or were made in a transaction block of its own. Others stay checkpoints.
3. What a rolled back task called is rolled back with it, hooks or not: its own hooks may have undone that as well.
   After a resume the calls of a replayed task are known from the journal only; their hooks are found by the task's key.
4. A replayed task belongs to the transaction like one just executed, or a resume could not undo what came before it.
5. An interruption (SIGKILL, Ctrl-C, SIGTERM, cancellation) is no failure: nothing is rolled back, a resume continues in
   the block. A task's failure that is caught within the block is the block's own business; a nested block's is not.
6. A commit leaves no trace in the journal unless it has a key. So when a resume replays every call of a transaction its
   ``on_commit`` hooks are not called, for they have been; if it executes any of them, all are.
7. Hooks run outside the transaction, and what a rollback hook calls is never replayed: it is needed each time.

Policy exists once: what may have to wait is a generator that yields awaitables, as in `durable.execution`.
"""

from __future__ import annotations

from durable.transactions.block import Transaction, get_transaction
from durable.transactions.modes import CommitMode, IsolationLevel, TransactionState

__all__ = [
    "CommitMode",
    "IsolationLevel",
    "Transaction",
    "TransactionState",
    "atransaction",
    "get_transaction",
    "transaction",
]


def transaction(
    key: str | None = None,
    *,
    commit_mode: CommitMode | None = None,
    isolation_level: IsolationLevel | None = None,
    overwrite: bool = False,
    write_on_commit: bool = True,
) -> Transaction:
    """A block whose tasks stand or fall together, for ``with`` or ``async with``. Borrowed from Prefect 3.

    An exception that leaves the block undoes what completed in it, the last first: ``on_rollback`` hooks are called,
    and the task runs are RolledBack, so that the next run executes them again. Otherwise the block commits with the
    outermost one, and ``on_commit`` hooks are called. A crash undoes nothing: the next run continues in the block.

    Args:
        key: records the staged value under this key when the block commits. A block that finds its key recorded, by
            any run, is committed from the start, and ``txn.read()`` gives the value.
        commit_mode: when it commits; that of the transaction around it, or LAZY, by default.
        isolation_level: SERIALIZABLE: no other process or thread is in a block with this key at the same time.
        overwrite: do not look for a recorded value.
        write_on_commit: False records nothing under the key.

    Raises:
        ConfigurationError: an argument that cannot be meant.
        JournalError: on leaving: the journal cannot be written, and nothing was undone.
    """
    return Transaction(
        key,
        commit_mode=commit_mode,
        isolation_level=isolation_level,
        overwrite=overwrite,
        write_on_commit=write_on_commit,
    )


# A transaction is good for ``async with`` as well, which awaits async hooks on the running event loop. Prefect's name:
atransaction = transaction
