"""The stdlib's containers: how each becomes MessagePack or an Ext, and back."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

from durable.codec import extensions as x
from durable.codec.classes import resolve
from durable.codec.walker import Handler, Refused, Walker, extension
from durable.errors import CorruptPayload

_FACTORIES: dict[type, str] = {
    cls: cls.__name__ for cls in (list, dict, set, frozenset, tuple, str, bytes, bytearray, int, float, complex, bool)
}
_FACTORY_NAMES = {name: cls for cls, name in _FACTORIES.items()}


def write_defaultdict(value: defaultdict[Any, Any], walker: Walker, depth: int) -> Any:
    factory: Any = value.default_factory
    named: Any = None
    if factory is not None:
        if not isinstance(factory, type):
            refused = Refused(factory, "a defaultdict's factory must be a class that can be found again")
            refused.within(".default_factory", value)
            raise refused
        try:
            named = ["builtins", _FACTORIES[factory]] if factory in _FACTORIES else walker.named(factory)
        except Refused as refused:
            refused.within(".default_factory", value)
            raise
    return extension(x.DEFAULTDICT, [named, walker.mapping(value, depth)])


def write_deque(value: deque[Any], walker: Walker, depth: int) -> Any:
    return extension(x.DEQUE, [value.maxlen, walker.sequence(value, value, depth)])


HANDLERS: dict[type, Handler] = {
    tuple: lambda value, walker, depth: extension(x.TUPLE, walker.sequence(value, value, depth)),
    set: lambda value, walker, depth: extension(x.SET, walker.elements(value, depth)),
    frozenset: lambda value, walker, depth: extension(x.FROZENSET, walker.elements(value, depth)),
    OrderedDict: lambda value, walker, depth: extension(x.ORDERED_DICT, walker.flat(value, depth)),
    Counter: lambda value, walker, depth: extension(x.COUNTER, walker.mapping(value, depth)),
    defaultdict: write_defaultdict,
    deque: write_deque,
}


def read_pairs(payload: Any) -> dict[Any, Any]:
    """A dict from ``[key, value, key, value, ...]``."""
    if not isinstance(payload, list) or len(payload) % 2:
        raise CorruptPayload("a dict's keys and values do not pair up")
    return dict(zip(payload[::2], payload[1::2], strict=True))


def read_counter(payload: Any) -> Counter[Any]:
    counter: Counter[Any] = Counter()
    dict.update(counter, payload)
    return counter


def read_defaultdict(payload: Any) -> defaultdict[Any, Any]:
    named, items = payload
    factory = None
    if named is not None:
        module, qualname = named
        factory = _FACTORY_NAMES.get(qualname) if module == "builtins" else resolve(module, qualname)
        if factory is None:
            raise CorruptPayload(f"{qualname!r} is not a factory durable writes")
    return defaultdict(factory, items)


NESTED_READERS: dict[int, Callable[[Any], Any]] = {
    x.TUPLE: tuple,
    x.SET: set,
    x.FROZENSET: frozenset,
    x.DICT: read_pairs,
    x.ORDERED_DICT: lambda payload: OrderedDict(read_pairs(payload)),
    x.COUNTER: read_counter,
    x.DEFAULTDICT: read_defaultdict,
    x.DEQUE: lambda payload: deque(payload[1], payload[0]),
}
