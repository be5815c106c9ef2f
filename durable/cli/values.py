"""A recorded value as JSON that loses nothing worth having, and as text.

What JSON has is itself. The rest is an object with one member whose name begins with ``$``, and an object of the user's
with such a member is told as ``$dict``:

``{"$tuple": [...]}``, ``{"$set": [...]}``, ``{"$frozenset": [...]}``, ``{"$dict": [[key, value], ...]}``,
``{"$bytes": base64}``, ``{"$int": digits}`` beyond 2^53, ``{"$float": "nan" | "inf" | "-inf"}``,
``{"$object": "module.Class", "fields": {...}}``, ``{"$enum": "module.Class", "name": ...}``,
``{"$exception": "module.Class", "message": ..., "traceback": ...}`` and ``{"$repr": text}`` for everything else.
"""

from __future__ import annotations

import pprint
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, Final

from durable.cli.document import plain
from durable.codec import Inert
from durable.phrases import safe

_SAFE_INTEGER: Final = 1 << 53
_DEEPEST: Final = 150
_WIDTH: Final = 100


def as_json(value: Any, depth: int = 0) -> Any:
    """A value, as plain as JSON can say it. Sets are in the order of their text."""
    kind = type(value)
    if depth > _DEEPEST:
        return {"$repr": f"<{kind.__name__} nested more than {_DEEPEST} deep>"}
    down = depth + 1
    if kind is int and abs(value) > _SAFE_INTEGER:
        return {"$int": _digits(value)}
    if kind is float and not abs(value) < float("inf"):
        return {"$float": repr(value)}
    if kind in (bytes, bytearray):
        return {"$bytes" if kind is bytes else "$bytearray": b64encode(value).decode()}
    if kind is list:
        return [as_json(item, down) for item in value]
    if kind is tuple:
        return {"$tuple": [as_json(item, down) for item in value]}
    if kind in (set, frozenset):
        return {f"${kind.__name__}": sorted((as_json(item, down) for item in value), key=repr)}
    if kind is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {plain(key): as_json(item, down) for key, item in value.items()}
        return {"$dict": [[as_json(key, down), as_json(item, down)] for key, item in value.items()]}
    return _inert(value, down) if isinstance(value, Inert) else plain(value)


def _inert(value: Inert, depth: int) -> dict[str, Any]:
    name = plain(value.type_name)
    if value.kind == "fields" and isinstance(value.data, dict):
        return {"$object": name, "fields": {str(key): as_json(item, depth) for key, item in value.data.items()}}
    if value.kind == "enum":
        return {"$enum": name, "name": as_json(value.data, depth)}
    if value.kind == "exception" and isinstance(value.data, dict):
        parts = {part: as_json(value.data.get(part), depth) for part in ("message", "traceback")}
        return {"$exception": name, **parts}
    return {"$repr": plain(_shown(value))}


def as_text(value: Any) -> Iterator[str]:
    """A value in lines that can be printed: a string's own, an exception's traceback, the rest as Python shows it."""
    if isinstance(value, Inert) and value.kind == "exception" and isinstance(value.data, dict):
        traceback = value.data.get("traceback")
        value = traceback if isinstance(traceback, str) and traceback else _shown(value)
    if type(value) is not str:
        try:
            value = pprint.pformat(value, width=_WIDTH, sort_dicts=False)
        except (ValueError, RecursionError, TypeError):
            value = _shown(value)
    yield from map(safe, value.removesuffix("\n").split("\n"))


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except (ValueError, RecursionError):
        return f"<{type(value).__name__}>"


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # Python refuses to print integers of thousands of digits
        return hex(value)
