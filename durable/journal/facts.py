"""What the journal hands to the engine and takes from it: plain rows, bytes in and bytes out."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct
from xxhash import xxh3_64_intdigest

from durable.states import BY_CODE, StateKind

FORMAT_DURABLE: Final = 1
FORMAT_PICKLE: Final = 2
FORMAT_EXCEPTION: Final = 3


class TaskRecord(Struct, frozen=True):
    """Where a task run stands: its newest transition, as it is read; its result besides, unless that is long.

    `code` stands for the state; `format`, `checksum`, `payload`, `cache_key` and `owner` are those of the result.
    """

    id: int
    key: bytes
    task_id: int
    seq: int
    code: int
    at: int
    result_id: int | None
    message: str | None
    format: Any = None  # int, with a payload, which is bytes
    checksum: int | None = None
    payload: Any = None
    cache_key: bytes | None = None
    owner: int | None = None

    @property
    def state(self) -> StateKind:
        """The state it is in."""
        return BY_CODE[self.code]


class FlowRecord(Struct, frozen=True):
    """Where a flow run stands: its newest transition, and the process that recorded it.

    Of a fork, `forked_from` is the id of its original and `forked_before` the row of the task run it parts at.
    """

    id: int
    key: bytes
    begun: int
    seq: int
    state: StateKind
    at: int
    result_id: int | None
    pid: int
    host: str
    process_started: int
    message: str | None
    parameters: bytes
    name: str | None
    forked_from: bytes | None
    forked_before: int | None


class Outcome(Struct, frozen=True):
    """What a run returned or raised, as bytes, with how to find and trust it.

    Attributes:
        format: FORMAT_DURABLE, FORMAT_PICKLE or FORMAT_EXCEPTION.
        payload: the encoded value.
        cache_key: 16 bytes under which a memo policy may find it, or None.
        expires_at: microseconds since the epoch from which it is no memo hit any more, or None.
        task_run: of one that is read and has a cache key: the row of the task run that computed it.
    """

    format: int
    payload: bytes
    cache_key: bytes | None = None
    expires_at: int | None = None
    task_run: int | None = None


class Label(Struct, frozen=True):
    """What a run goes by beyond its identity.

    Attributes:
        name: a name of its own.
        tags: those beyond its function's, as a JSON array.
        version: its function's version.
    """

    name: str | None = None
    tags: str | None = None
    version: str | None = None


NO_LABEL: Final = Label()


class Place(Struct, frozen=True):
    """A new task run: what identifies it, and where it was called.

    Attributes:
        key: its identity (16 bytes).
        task_id, flow_run_id, parent_id: rows of its task, of its flow run and of the task run it was called in.
        occurrence: 1 for the first of equal calls in one place.
        inputs: its canonical arguments.
        label: what it goes by.
        reason: why nothing recorded was used; None if there was nothing.
        worker: what executes it; None for its caller.
        upstream: the ids of the task runs it waited for, each with the argument's name.
    """

    key: bytes
    task_id: int
    flow_run_id: int | None
    parent_id: int | None
    occurrence: int
    inputs: bytes | None
    label: Label = NO_LABEL
    reason: str | None = None
    worker: str | None = None
    upstream: tuple[tuple[bytes, str], ...] = ()


class CachedResult(Struct, frozen=True):
    """A result found under a cache key: with the arguments and the row of the task run that computed it."""

    result_id: int
    expires_at: int | None
    inputs: bytes | None
    task_run: int
    format: int
    checksum: int
    payload: bytes


class Yielded(Struct, frozen=True):
    """A value a generator yielded; `outcome` is None where it could not be recorded."""

    number: int
    outcome: Outcome | None


def checksum_of(payload: bytes) -> int:
    """xxh3_64 as SQLite stores it: a signed 64-bit integer."""
    digest = xxh3_64_intdigest(payload)
    return digest - (1 << 64) if digest >> 63 else digest
