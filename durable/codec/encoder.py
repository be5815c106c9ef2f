"""From values to bytes, or a refusal that names the path."""

from __future__ import annotations

from typing import Any

from msgspec.msgpack import Ext

from durable.codec import extensions as x
from durable.codec.classes import reference
from durable.codec.walker import NATIVE, Handler, Walker, as_refused, cause_of, pack, packed, per_class
from durable.errors import NotSerializable

ADVICE = 'Return a dict or a dataclass instead, or set result_serializer="pickle" or persist_result=False'


@per_class
def rule_for(cls: type) -> Handler | None:
    """The rule for a class that is not native, nor a dict or list, or None."""
    from durable.codec import storing  # most results are native, or lists and dicts of such

    Storage.handlers = storing.HANDLERS
    return storing.HANDLERS.get(cls) or storing.rule_for(cls)


class Storage(Walker):
    """The walk for values that are to be rebuilt."""

    __slots__ = ()

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
        from durable.codec import exceptions  # in most runs there is none

        return pack(exceptions.write_exception(exc, Storage(careful=True), 0))
    except Exception as error:
        cls = type(exc)
        message = ascii(f"(not recorded in full: {type(error).__name__})")
        head = [ascii(cls.__module__)[1:-1], ascii(cls.__qualname__)[1:-1], message, {"stub": True}]
        return pack(Ext(x.EXCEPTION, pack(head)))
