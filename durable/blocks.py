"""What every call asks of transactions: which one it is made in, and whether any task can be undone.

Apart from `durable.transactions`, so that a program that has none does not import what they do.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import Any, Final
from weakref import WeakValueDictionary

# The innermost transaction, where one is known; see `durable.transactions.block.get_transaction`.
active: Final[ContextVar[Any]] = ContextVar("durable_current_transaction", default=None)

# Tasks with an on_rollback hook, by key: a resume may have to undo what a replayed task called.
undoable: Final[WeakValueDictionary[bytes, Any]] = WeakValueDictionary()


def remember_hooks(key: bytes, owner: Any) -> None:
    """`owner` is the task with that key, and has an on_rollback hook."""
    undoable[key] = owner


def any_hooks() -> bool:
    """Whether any task of this process has an on_rollback hook."""
    return bool(undoable)


def _leave_in_child() -> None:
    active.set(None)  # the transaction is the parent's


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_in_child)
