"""From bytes back to values: one pass of msgspec, with a reader for each extension code.

Nothing is imported and no constructor of the user's runs. Damage of any kind is `CorruptPayload`; a class or library
that is not in this process is `UnresolvedClass`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec

from durable.codec import arrays, containers, exceptions, frames, objects, scalars, tables
from durable.codec.classes import resolve_kind
from durable.codec.walker import MAX_DEPTH
from durable.errors import CorruptPayload, UnresolvedClass

# Deepest value, and room for what one value of ours nests inside: a zone in a datetime in an index in a frame.
MAX_EXTENSIONS = MAX_DEPTH + 50

_loads = msgspec.msgpack.decode

Reader = Callable[[Any], Any]
RAW: dict[int, Reader] = {**scalars.RAW_READERS}
NESTED: dict[int, Reader] = {
    **scalars.NESTED_READERS,
    **containers.NESTED_READERS,
    **exceptions.NESTED_READERS,
    **arrays.NESTED_READERS,
    **tables.NESTED_READERS,
    **frames.NESTED_READERS,
}


CLASSED: Mapping[int, Callable[[Any, objects.Resolve], Any]] = objects.CLASS_READERS


class Reading:
    """One decoding, which counts how deep it is.

    Attributes:
        raw: readers for codes whose payload is bytes.
        nested: readers for codes whose payload is MessagePack.
        classed: readers for codes whose payload begins with the name of a class.
    """

    __slots__ = ("classes", "depth")

    raw: ClassVar[Mapping[int, Reader]] = RAW
    nested: ClassVar[Mapping[int, Reader]] = NESTED
    classed: ClassVar[Mapping[int, Callable[[Any, objects.Resolve], Any]]] = CLASSED

    def __init__(self) -> None:
        self.classes: dict[tuple[str, str, int], Any] = {}
        self.depth = 0

    def resolve(self, module: str, qualname: str, code: int) -> Any:
        """The class a name stands for now, looked up once a decoding; raises UnresolvedClass."""
        key = (module, qualname, code)
        found = self.classes.get(key)
        if found is None:
            found = self.classes[key] = resolve_kind(module, qualname, code)
        return found

    def hook(self, code: int, data: memoryview) -> Any:
        """msgspec's ``ext_hook``."""
        read = self.nested.get(code)
        classed = self.classed.get(code) if read is None else None
        if read is None and classed is None:
            raw = self.raw.get(code)
            if raw is None:
                raise CorruptPayload(f"extension code {code} is not one durable writes")
            return raw(bytes(data))
        if self.depth >= MAX_EXTENSIONS:
            raise CorruptPayload(f"nested more than {MAX_EXTENSIONS} levels deep")
        self.depth += 1
        try:
            payload = _loads(data, ext_hook=self.hook)
            return classed(payload, self.resolve) if classed is not None else read(payload)  # type: ignore[misc]  # one is
        finally:
            self.depth -= 1

    def load(self, payload: bytes) -> Any:
        """The value of a whole payload; raises CorruptPayload and UnresolvedClass only."""
        try:
            return _loads(payload, ext_hook=self.hook)
        except (CorruptPayload, UnresolvedClass, MemoryError):
            raise
        except RecursionError as error:
            raise CorruptPayload(
                "nested more deeply than durable writes, or read from too deep a call stack"
            ) from error
        except Exception as error:
            raise CorruptPayload(f"not what durable wrote: {error}") from error


def decode(payload: bytes) -> Any:
    """The value `encode` was given: equal, of the same type, all the way down. Shared parts come back as copies.

    Raises:
        CorruptPayload: damaged bytes, or never durable's.
        UnresolvedClass: a class, time zone or library that this process does not have, or whose fields changed.
    """
    return Reading().load(payload)


def decode_exception(payload: bytes) -> BaseException:
    """The exception `encode_exception` was given, or a `TaskFailed` that stands for one that cannot be rebuilt.

    Its traceback, as text, is ``__durable_traceback__``.

    Raises:
        CorruptPayload: damaged bytes, or not an exception's.
    """
    value = decode(payload)
    if not isinstance(value, BaseException):
        raise CorruptPayload(f"an exception was expected, and a {type(value).__name__} found")
    return value
