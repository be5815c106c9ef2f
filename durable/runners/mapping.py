"""What ``.map`` makes of its arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from io import IOBase
from typing import Any

from durable.annotations import Annotation, allow_failure, unmapped
from durable.errors import MappingError
from durable.futures import Future
from durable.states import State

_END = object()


def mapped(
    where: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The arguments of each call, one after the other.

    Args:
        where: the function with its file and line, for messages.

    Raises:
        MappingError: nothing to map over; iterables of unequal length, told before the first call where their lengths
            are known.
    """
    positions: list[Any] = [*range(len(args)), *kwargs]
    given = dict(zip(positions, [*args, *kwargs.values()], strict=True))
    over: dict[Any, Any] = {}
    for position, value in given.items():
        items = _items(value)
        if items is not None:
            over[position] = items
    if not over:
        raise MappingError(
            f"{where}: .map() needs an iterable argument (a str, bytes or unmapped(...) is none): "
            f"expected a list or another iterable, found {', '.join(type(value).__name__ for value in given.values())}"
        )
    lengths = {_named(position): len(items) for position, items in over.items() if isinstance(items, Sized)}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise MappingError(f"{where}: .map() needs iterables of one length: {told}. Wrap constants in unmapped(...)")
    return _calls(where, given, over, len(args))


def _calls(
    where: str, given: dict[Any, Any], over: dict[Any, Any], count: int
) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    iterators = {position: iter(items) for position, items in over.items()}
    number = 0
    while True:
        items = {position: next(iterator, _END) for position, iterator in iterators.items()}
        ended = [position for position, item in items.items() if item is _END]
        if ended:
            if len(ended) < len(items):
                raise MappingError(
                    f"{where}: .map() needs iterables of one length: {_named(ended[0])} ended after {number} items, "
                    "which are submitted"
                )
            return
        number += 1
        call = [
            items[position] if position in items else value.value if isinstance(value, unmapped) else value
            for position, value in given.items()
        ]
        yield tuple(call[:count]), dict(zip(list(given)[count:], call[count:], strict=True))


def _items(value: Any) -> Any:
    """What an argument is mapped over, or None where every call gets it whole."""
    if isinstance(value, (Future, State)):
        if isinstance(value, Future):
            value.wait()
        value = (value.ended() if isinstance(value, Future) else value).result()
    if isinstance(value, allow_failure):
        inner = _items(value.value)
        return None if inner is None else _Wrapped(inner)
    if isinstance(value, (str, bytes, bytearray, IOBase, Annotation, type)):
        return None
    return value if isinstance(value, Iterable) else None


class _Wrapped:
    """The items of an iterable that was wrapped in `allow_failure`, each wrapped itself."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        return map(allow_failure, iter(self._items))


def _named(position: Any) -> str:
    return repr(position) if isinstance(position, str) else f"argument {position + 1}"
