"""From values to bytes, or a refusal that names the path."""

from __future__ import annotations

from typing import Any

from msgspec.msgpack import Ext

from durable.codec import arrays, containers, exceptions, frames, objects, scalars, secrets, tables
from durable.codec import extensions as x
from durable.codec.classes import kind_of, reference
from durable.codec.decoder import Reading
from durable.codec.walker import NATIVE, Handler, Refused, Walker, as_refused, cause_of, pack, packed, per_class
from durable.errors import CodecError, NotSerializable

ADVICE = 'Return a dict or a dataclass instead, or set result_serializer="pickle" or persist_result=False'


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


@per_class
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


class Storage(Walker):
    """The walk for values that are to be rebuilt."""

    __slots__ = ()

    handlers = HANDLERS
    find = staticmethod(rule_for)
    name = staticmethod(reference)


def encode(value: Any, root: str = "result") -> bytes:
    """The bytes for a value, from which `decode` rebuilds it exactly.

    Parts that are shared come back as copies: values are recorded, not identity.

    Args:
        value: anything made of the types the codec covers.
        root: the name the path in an error begins with.

    Raises:
        NotSerializable: something in it cannot be rebuilt exactly; names the path and what to do.
    """
    try:
        return pack(value if is_flat(value) else Storage().walk(value, 0))
    except (OverflowError, UnicodeEncodeError):
        return _encode_carefully(value, root)
    except MemoryError:
        raise
    except Exception as error:
        raise refusal(error, value, root) from cause_of(error)


def is_flat(value: Any) -> bool:
    """Whether msgspec can be handed a value without a walk, at the price of a glance."""
    cls = type(value)
    if cls is dict:
        return NATIVE.issuperset(map(type, value)) and NATIVE.issuperset(map(type, value.values()))
    return cls in NATIVE


def _encode_carefully(value: Any, root: str) -> bytes:
    try:
        return packed(Storage(careful=True).walk(value, 0))
    except MemoryError:
        raise
    except Exception as error:
        raise refusal(error, value, root) from cause_of(error)


def refusal(error: Exception, value: Any, root: str) -> NotSerializable:
    """The public error for a walk that ended in `error`."""
    refused = as_refused(error, value)
    path, reason = refused.located(root)
    return NotSerializable(path, refused.type_name, f"{reason}. {refused.advice or ADVICE}.")


def encode_exception(exc: BaseException) -> bytes:
    """The bytes for an exception: class, message, args, attributes, notes, chain, group and traceback text.

    Never raises: what cannot be recorded is replaced by `Unrecorded`, or left out.
    """
    try:
        return pack(exceptions.write_exception(exc, Storage(careful=True), 0))
    except Exception as error:
        cls = type(exc)
        message = ascii(f"(not recorded in full: {type(error).__name__})")
        head = [ascii(cls.__module__)[1:-1], ascii(cls.__qualname__)[1:-1], message, {"stub": True}]
        return pack(Ext(x.EXCEPTION, pack(head)))
