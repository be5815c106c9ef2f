"""A recorded exception and recorded arguments, looked at without rebuilding anything.

The codec takes longer to import than the rest of the reader; a list of runs does without.
"""

from __future__ import annotations

from typing import Any

from durable.errors import CodecError
from durable.reader.model import Failure


def failure_of(payload: bytes) -> Failure:
    """Type, message and traceback of a recorded exception; nothing is imported. Damaged bytes say so in the message."""
    from durable.codec import Inert, decode_inert  # see above

    try:
        found = decode_inert(payload)
    except CodecError as error:
        return Failure("?", f"the recorded exception is damaged: {error}", "")
    if not isinstance(found, Inert) or found.kind != "exception" or not isinstance(found.data, dict):
        return Failure("?", "what is recorded is not an exception", "")
    message, traceback = found.data.get("message"), found.data.get("traceback")
    return Failure(found.type_name, str(message or ""), traceback if isinstance(traceback, str) else "")


def arguments_of(inputs: bytes | None) -> dict[str, Any] | None:
    """Recorded arguments by name, as inert values; None where none are recorded, or they are damaged."""
    from durable.codec import FUTURE, decode_inert  # see above

    if not isinstance(inputs, bytes):
        return None
    try:
        found = decode_inert(inputs)
    except CodecError:
        return None
    return {str(name): _shown(value, FUTURE) for name, value in found.items()} if isinstance(found, dict) else None


class _Awaited(str):
    """What a call was given a future for that did not complete."""

    __slots__ = ()
    __repr__ = str.__str__


def _shown(value: Any, awaited: str) -> Any:
    if isinstance(value, tuple) and len(value) == 2 and value[0] == awaited and isinstance(value[1], bytes):
        return _Awaited(f"<result of {value[1].hex()[:7]}>")
    return value
