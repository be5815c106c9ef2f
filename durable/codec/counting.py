"""The rules for what counts: the canonical form of a value that msgspec cannot be handed as it is."""

from __future__ import annotations

from typing import Any

from durable.codec import arrays, callables, containers, exceptions, frames, leaves, objects, scalars, secrets, tables
from durable.codec import extensions as x
from durable.codec.classes import kind_of
from durable.codec.walker import Handler, Walker, extension

HANDLERS: dict[type, Handler] = {
    **scalars.HANDLERS,
    **containers.HANDLERS,
    **callables.HANDLERS,
    exceptions.Unrecorded: exceptions.write_unrecorded,
    str: leaves.write_str,
    bytes: leaves.write_bytes,
    bytearray: leaves.write_bytearray,
    float: leaves.write_float,
    complex: leaves.write_complex,
}
_IN_PLACE_OF: dict[Handler, Handler] = {
    arrays.write_array: leaves.write_array,
    arrays.write_scalar: leaves.write_numpy_scalar,
    tables.write_polars: leaves.write_polars,
    tables.write_arrow: leaves.write_arrow,
    frames.write_frame: leaves.write_pandas,
}


def write_exception(value: BaseException, walker: Walker, depth: int) -> Any:
    """An exception by its class, args and attributes; where it was raised does not count."""
    state = {name: part for name, part in value.__dict__.items() if name != exceptions.TRACEBACK}
    args = walker.part(list(value.args), ".args", value, depth)
    parts = {"args": args, "state": walker.attributes(state, value, depth)}
    return extension(x.EXCEPTION, [*walker.named(type(value)), "", parts])


def rule_for(cls: type) -> Handler | None:
    """The rule for a class that is not in the table, or None. A class's own ``__durable_key__`` wins."""
    if secrets.is_secret(cls):
        return secrets.write_digest
    if callable(getattr(cls, "__durable_key__", None)):
        return callables.write_keyed
    if getattr(cls, "__durable_upstream__", False):
        return None  # a future or state: it has no canonical form, what it stands for has
    if issubclass(cls, type):
        return callables.write_class
    kind = kind_of(cls)
    if kind == x.EXCEPTION:
        return write_exception
    if kind is not None:
        return objects.WRITERS[kind]
    found = arrays.find(cls) or tables.find(cls) or frames.find(cls) or scalars.find(cls)
    return None if found is None else _IN_PLACE_OF.get(found, found)
