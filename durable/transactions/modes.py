"""What a transaction may be told, and where it may stand. Names and values as in Prefect 3."""

from __future__ import annotations

from enum import Enum


class CommitMode(Enum):
    """When a transaction commits: with the outermost one, at the end of its own block, or never by itself."""

    LAZY = "LAZY"
    EAGER = "EAGER"
    OFF = "OFF"


class IsolationLevel(Enum):
    """Whether a transaction with a key has it to itself from its first line on, across processes."""

    READ_COMMITTED = "READ_COMMITTED"
    SERIALIZABLE = "SERIALIZABLE"


class TransactionState(Enum):
    """Where a transaction stands."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    STAGED = "STAGED"
    COMMITTED = "COMMITTED"
    ROLLED_BACK = "ROLLED_BACK"
