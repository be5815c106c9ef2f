"""The rules for what is recorded: what stands for a value that msgspec cannot be handed as it is."""

from __future__ import annotations

from typing import Any

from durable.codec import arrays, containers, exceptions, frames, objects, scalars, secrets, tables
from durable.codec import extensions as x
from durable.codec.classes import kind_of
from durable.codec.decoder import Reading
from durable.codec.walker import Handler, Refused, Walker
from durable.errors import CodecError

HANDLERS: dict[type, Handler] = {
    **scalars.HANDLERS,
    **containers.HANDLERS,
    exceptions.Unrecorded: exceptions.write_unrecorded,
}


def write_checked_frame(value: Any, walker: Walker, depth: int) -> Any:
    """A pandas object, read back at once and written again: the two must be the same bytes."""
    written = frames.write_frame(value, walker, depth)
    try:
        made = Reading().hook(x.PANDAS, memoryview(written.data))
        same = type(made) is type(value) and frames.write_frame(made, walker, depth).data == written.data
    except (CodecError, Refused) as error:
        raise Refused(value, f"pandas cannot rebuild it ({error})") from error
    if not same:
        raise Refused(value, "it does not come back the same from its columns")
    return written


def rule_for(cls: type) -> Handler | None:
    """The rule for a class that is not in the table, or None."""
    if secrets.is_secret(cls):
        return secrets.refuse
    kind = kind_of(cls)
    if kind == x.EXCEPTION:
        return exceptions.write_exception
    if kind is not None:
        return objects.WRITERS[kind]
    found = arrays.find(cls) or tables.find(cls) or frames.find(cls) or scalars.find(cls)
    return write_checked_frame if found is frames.write_frame else found
