"""The canonical form: bytes that are equal for equal values, in every process and on every Python.

The same MessagePack and codes as a recorded value, so that it can be shown, with what identity needs besides: dicts
and sets in the order of their encoded keys, one NaN, long leaves as digests, and functions and classes by name.
``-0.0`` stays unlike ``0.0``, ``1`` unlike ``True`` unlike ``1.0``, ``(1, 2)`` unlike ``[1, 2]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from operator import ne
from types import NoneType
from typing import Any

import msgspec
from xxhash import xxh3_128_digest

from durable.codec import extensions as x
from durable.codec.classes import name_of
from durable.codec.walker import (
    LEAF_LIMIT,
    NATIVE,
    Handler,
    Walker,
    as_refused,
    cause_of,
    extension,
    pack,
    packed,
    per_class,
)
from durable.errors import Unhashable

ARGUMENT_LIMIT = 1024

# The longest string whose encoding is within both limits whatever its characters.
_SHORT = LEAF_LIMIT // 4 - 1
_FEW = 16
_SIZED = frozenset({str, bytes})


@per_class
def rule_for(cls: type) -> Handler | None:
    """The rule for a class that is not native, nor a dict or list, or None."""
    from durable.codec import counting  # most arguments are short and native, or lists and dicts of such

    Canonical.handlers = counting.HANDLERS
    return counting.HANDLERS.get(cls) or counting.rule_for(cls)


def _packed_key(item: tuple[Any, Any]) -> bytes:
    return pack(item[0])


def _is_plain(items: Sequence[Any]) -> bool:
    """Whether msgspec can be handed these as they are: native, no NaN, nothing long. At C speed for many."""
    if len(items) > _FEW:
        if not NATIVE.issuperset(map(type, items)) or any(map(ne, items, items)):
            return False
        return all(len(item) <= _SHORT for item in items if type(item) in _SIZED)
    for item in items:
        cls = type(item)
        if cls is str or cls is bytes:
            if len(item) > _SHORT:
                return False
        elif cls not in NATIVE or item != item:  # noqa: PLR0124  # the test for NaN
            return False
    return True


class Canonical(Walker):
    """The walk for identities."""

    __slots__ = ()

    find = staticmethod(rule_for)
    name = staticmethod(name_of)
    plain = frozenset({NoneType, bool, int})
    plain_when_careful = frozenset({NoneType, bool})

    def sequence(self, value: Iterable[Any], owner: object, depth: int) -> Any:
        """As in Walker, each element canonical."""
        items = value if isinstance(value, list) else [*value]
        return items if not self.careful and _is_plain(items) else super().sequence(items, owner, depth)

    def mapping(self, value: Mapping[Any, Any], depth: int) -> Any:
        """A dict in the order of its encoded keys."""
        if not self.plain_keys(value, depth):
            flat = [packed(part) for part in self.flat(value, depth)]
            ordered = sorted(zip(flat[::2], flat[1::2], strict=True))
            return extension(x.DICT, [msgspec.Raw(part) for part in chain.from_iterable(ordered)])
        if len(value) > 1:
            value = dict(sorted(value.items(), key=_packed_key))
        if not self.careful and _is_plain([*value.values()]):
            return value if type(value) is dict else dict(value)
        return super().mapping(value, depth)

    def plain_keys(self, value: Mapping[Any, Any], depth: int) -> bool:
        """Whether every key is native, and canonical as it is."""
        if not self.careful and _is_plain([*value]):
            return True
        return NATIVE.issuperset(map(type, value)) and all(self.walk(key, depth) is key for key in value)

    def elements(self, value: Iterable[Any], depth: int) -> Any:
        """A set's elements in the order of their encodings."""
        return [msgspec.Raw(part) for part in sorted(map(packed, super().elements(value, depth)))]

    def attributes(self, state: dict[str, Any] | None, owner: object, depth: int) -> Any:
        """In the order of their names."""
        return super().attributes(state if state is None else dict(sorted(state.items())), owner, depth)

    def given(self, names: Iterable[str]) -> Any:  # noqa: ARG002  # the answer is the same for all
        """Does not count, as it does not in pydantic's ``==``."""
        return []


def canonical(value: Any, root: str) -> bytes:
    """The canonical bytes of a value. Long leaves are digests; the whole is not otherwise bounded.

    Args:
        value: what counts.
        root: the name the path in an error begins with, an argument's name say.

    Raises:
        Unhashable: something in it has no canonical form; names the path and what to do.
    """
    try:
        return pack(Canonical().walk(value, 0))
    except (OverflowError, UnicodeEncodeError):
        return _canonical_carefully(value, root)
    except MemoryError:
        raise
    except Exception as error:
        raise _unhashable(error, value, root) from cause_of(error)


def _canonical_carefully(value: Any, root: str) -> bytes:
    try:
        return packed(Canonical(careful=True).walk(value, 0))
    except MemoryError:
        raise
    except Exception as error:
        raise _unhashable(error, value, root) from cause_of(error)


def _unhashable(error: Exception, value: Any, root: str) -> Unhashable:
    refused = as_refused(error, value)
    path, reason = refused.located(root)
    name = root.partition(".")[0].partition("[")[0]
    advice = (
        "Make it a dataclass, give its class a __durable_key__() method that returns what it counts by, "
        f"or leave it out with cache_policy=DEFAULT - {name!r}."
    )
    return Unhashable(path, refused.type_name, f"{reason}. {advice}")


def canonical_items(
    names: tuple[str, ...],
    values: Sequence[Any],
    on_unhashable: Callable[[str, Unhashable], None] | None = None,
) -> bytes:
    """The canonical bytes of bound arguments: a map in the given order, each value longer than 1024 bytes a digest.

    Args:
        names: the parameters, in declaration order.
        values: what they are bound to.
        on_unhashable: told each argument's name and error; the argument then counts by its type only.

    Raises:
        Unhashable: an argument has no canonical form, and `on_unhashable` is None. Its path begins with the name.
    """
    if len(names) != len(values):
        raise ValueError(f"{len(names)} names for {len(values)} values")
    if _is_plain(values):
        try:
            return pack(dict(zip(names, values)))  # noqa: B905 - compared above, at half the price
        except (OverflowError, UnicodeEncodeError):
            pass
    items: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        try:
            encoded = canonical(value, name)
        except Unhashable as error:
            if on_unhashable is None:
                raise
            on_unhashable(name, error)
            encoded = type_only(value)
        items[name] = msgspec.Raw(canonical_digest_abridged(encoded) if len(encoded) > ARGUMENT_LIMIT else encoded)
    return pack(items)


def canonical_digest_abridged(encoded: bytes) -> bytes:
    """What stands for canonical bytes that are too long to keep: their xxh3_128 and their length."""
    return pack(extension(x.DIGEST, ["value", xxh3_128_digest(encoded), len(encoded)]))


def type_only(value: Any) -> bytes:
    """What stands for an unhashable value that counts by its type."""
    try:
        return pack(extension(x.TYPE_ONLY, list(name_of(type(value)))))
    except UnicodeEncodeError:
        return pack(extension(x.TYPE_ONLY, [ascii(part) for part in name_of(type(value))]))
