"""What ``.map`` makes of its arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from io import IOBase
from itertools import zip_longest
from typing import Any, NamedTuple

from durable.annotations import Annotation, allow_failure, unmapped
from durable.errors import MappingError
from durable.futures import Future
from durable.states import State
from durable.upstream import Need

_END = object()
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Mapped(NamedTuple):
    """What a map submits.

    Attributes:
        length: how many calls, if that is known before they are made.
        calls: the arguments of each.
        needs: the futures and states whose values are mapped over.
    """

    length: int | None
    calls: Iterator[Arguments]
    needs: list[Need]


def mapped(where: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapped:
    """What to submit; futures that are mapped over are waited for.

    Args:
        where: the function with its file and line, for messages.
        args, kwargs: as given to ``.map``.

    Raises:
        MappingError: nothing to map over; iterables of unequal length, told before the first call where their lengths
            are known.
    """
    positions: list[Any] = [*range(len(args)), *kwargs]
    given = dict(zip(positions, [*args, *kwargs.values()], strict=True))
    needs: list[Need] = []
    over: dict[Any, Iterator[Any]] = {}
    lengths: dict[Any, int] = {}
    for position, value in given.items():
        tolerant = isinstance(value, allow_failure)
        items = _items(value, _named(position), needs)
        if items is None:
            continue
        over[position] = map(allow_failure, items) if tolerant else iter(items)
        if isinstance(items, Sized):
            lengths[position] = len(items)
    if not over:
        found = ", ".join(type(value).__name__ for value in given.values()) or "no argument"
        raise MappingError(
            f"{where}: .map() needs an iterable argument (a str, bytes or unmapped(...) is none): "
            f"expected a list or another iterable, found {found}"
        )
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{_named(position)} has {length}" for position, length in lengths.items())
        raise MappingError(f"{where}: .map() needs iterables of one length: {told}. Wrap constants in unmapped(...)")
    return Mapped(next(iter(lengths.values()), None), _calls(where, given, over, len(args)), needs)


def _calls(where: str, given: dict[Any, Any], over: dict[Any, Iterator[Any]], count: int) -> Iterator[Arguments]:
    positions = [*given]
    names = positions[count:]
    call = [value.value if isinstance(value, unmapped) else value for value in given.values()]
    places = [place for place, position in enumerate(positions) if position in over]
    for number, items in enumerate(zip_longest(*over.values(), fillvalue=_END)):
        for place, item in zip(places, items, strict=True):
            if item is _END:
                raise MappingError(
                    f"{where}: .map() needs iterables of one length: {_named(positions[place])} ended after {number} "
                    "items, which are submitted. Wrap constants in unmapped(...)"
                )
            call[place] = item
        yield tuple(call[:count]), dict(zip(names, call[count:], strict=True))


def _items(value: Any, name: str, needs: list[Need]) -> Any:
    """What an argument is mapped over, or None where every call gets it whole."""
    if isinstance(value, allow_failure):
        return _items(value.value, name, needs)
    if isinstance(value, (Future, State)):
        needs.append(Need(name, value, tolerant=False))
        value = value.result()
    if isinstance(value, (str, bytes, bytearray, IOBase, Annotation, type)):
        return None
    return value if isinstance(value, Iterable) else None


def _named(position: Any) -> str:
    return position if isinstance(position, str) else f"argument {position + 1}"
