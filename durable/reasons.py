"""Why a task ran although the journal might have known its result: one line, recorded with the execution.

The first word or two say which kind it is, what follows ``:`` says what exactly. A task that runs because nothing was
there to be used (it had never run) has no reason.
"""

from __future__ import annotations

from typing import Final

from msgspec import DecodeError, Raw
from msgspec.msgpack import Decoder

from durable import codec
from durable.clock import clock
from durable.definitions import TaskDefinition
from durable.journal import Journal, TaskRecord
from durable.phrases import moment

REFRESHED: Final = "refreshed"
NOT_KEPT: Final = "not kept: persist_result=False"
NEVER_REUSED: Final = "never reused: its cache policy is NONE"
DISABLED: Final = "caching is disabled"
PARAMETERS_CHANGED: Final = "flow parameters changed"
ROLLED_BACK: Final = "rolled back"
CUT_OFF: Final = "cut off: its process died"
INTERRUPTED: Final = "interrupted"
CANCELLED: Final = "cancelled"
NO_KEY: Final = "no key: its cache_key_fn gave none"
CLOSED: Final = "closed early: its consumer now asks for more"
_SHOWN: Final = 40
_WAITED: Final = codec.FUTURE.encode()
_items: Final = Decoder(dict[str, Raw])


def previous_failed(message: str | None) -> str:
    """It had failed, and has a new chance."""
    return f"previous failed: {message}" if message else "previous failed"


def unhashable(names: tuple[str, ...]) -> str:
    """Arguments have no canonical form, so no result can be found for them."""
    return f"unhashable: {', '.join(names)}"


def expired(at: int) -> str:
    """There is a result, and it is too old."""
    return f"expired: {moment(at, clock().now())}"


def undecodable(error: Exception) -> str:
    """There is a result, and this process cannot rebuild it."""
    return f"undecodable: {error}"


def source_changed(definition: TaskDefinition, journal: Journal, recorded: int) -> str:
    """There is a result of another source: which functions and constants differ."""
    return f"source changed: {', '.join(definition.changed_parts(journal, recorded)) or 'itself'}"


def inputs_changed(definition: TaskDefinition, inputs: bytes, candidates: list[bytes]) -> str | None:
    """The recorded call most like this one had other arguments: which, before and after. None: there is none."""
    best: list[str] | None = None
    new = _split(inputs)
    for candidate in candidates:
        if _WAITED in candidate:  # it was never made, for want of a value
            continue
        old = _split(candidate)
        if old is None or new is None or old.keys() != new.keys():
            continue
        names = [name for name in new if bytes(old[name]) != bytes(new[name])]
        if names and (best is None or len(names) < len(best)):
            best, before = names, old
    if best is None or new is None:
        return None
    if not definition.options.record_inputs:
        return f"inputs changed: {', '.join(best)}"
    shown = (f"{name}: {_shown(before[name])} -> {_shown(new[name])}" for name in best)
    return f"inputs changed: {', '.join(shown)}"


def nearest(definition: TaskDefinition, journal: Journal, records: list[TaskRecord]) -> list[bytes]:
    """The arguments of recorded calls of the same task."""
    rows = journal.task_rows(definition.key)
    return journal.inputs_of([record.id for record in records if record.task_id in rows][:3])


def _split(inputs: bytes) -> dict[str, Raw] | None:
    try:
        return _items.decode(inputs)
    except DecodeError:
        return None


def _shown(value: Raw) -> str:
    return codec.summary(bytes(value), _SHOWN)
