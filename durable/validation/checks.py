"""What is asked of one value, and how it is converted. The rules stand at the top of the package."""

from __future__ import annotations

import re
import sys
from collections import abc, deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, get_args, get_origin

import msgspec

from durable.codec.walker import step_of
from durable.names import qualified_name

_WALKED: Final = (list, tuple, set, frozenset, deque)
_ORDERED: Final = (list, tuple, deque, abc.KeysView, abc.ValuesView, abc.ItemsView, abc.Iterator)
# What is made of other values for an annotation with elements.
MADE: Final[dict[Any, Callable[..., Any]]] = {
    **{cls: cls for cls in _WALKED},
    **dict.fromkeys((abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable), list),
    **dict.fromkeys((abc.Set, abc.MutableSet), set),
}
MAPPINGS: Final = frozenset({dict, abc.Mapping, abc.MutableMapping})
PYDANTIC: Final = ("pydantic", "annotated_types")


class Mismatch(Exception):
    """A value that does not fit."""

    def __init__(self, value: object, expected: str, detail: str = "") -> None:
        super().__init__()
        self.found = qualified_name(type(value))
        self.expected = expected
        self.detail = detail
        self.path = ""


class Check:
    """What is asked of a value.

    Args:
        run: gives the value as the body gets it; raises `Mismatch`.
        exact: classes whose instances pass as they are.
    """

    __slots__ = ("exact", "run")

    def __init__(self, run: Callable[[Any], Any], exact: tuple[type, ...] = ()) -> None:
        self.run = run
        self.exact = exact

    def at(self, value: Any, step: str) -> Any:
        """The same for a part of a value."""
        try:
            return self.run(value)
        except Mismatch as mismatch:
            mismatch.path = step + mismatch.path
            raise


ANYTHING: Final = Check(lambda value: value, (object,))


def _pass_as_they_are(check: Check, values: Iterable[Any]) -> bool:
    return bool(check.exact) and all(issubclass(cls, check.exact) for cls in set(map(type, values)))


def only_none(value: Any) -> Any:
    """None, for None."""
    if value is not None:
        raise Mismatch(value, "None")
    return value


def fits_as_it_is(check: Check, value: Any) -> bool:
    """Whether a value passes unchanged."""
    try:
        return check.run(value) is value
    except Mismatch:
        return False


def is_instance(value: Any, cls: Any) -> bool:
    """``isinstance``, of a class that may not want to be asked: a protocol, or one with a metaclass of the user's."""
    try:
        return isinstance(value, cls)
    except Exception:  # noqa: BLE001 - as above
        return False


def unless_instance(cls: type, convert: Callable[[Any], Any]) -> Check:
    """A check for a class: its instances pass, another value is converted."""
    return Check(lambda value: value if is_instance(value, cls) else convert(value), (cls,))


def scalar(cls: type, value: Any) -> Any:
    """A value for one of the types msgspec converts text and numbers to."""
    given = _of_numpy(value)
    if isinstance(given, str) and cls in (bytes, bytearray):
        return cls(given.encode("utf-8", "surrogatepass"))
    try:
        return msgspec.convert(given, cls, strict=False)
    except (msgspec.ValidationError, OverflowError, UnicodeEncodeError) as error:
        detail = told(error) if type(given) is str else ""
        raise Mismatch(value, text(cls), detail) from None


def _of_numpy(value: Any) -> Any:
    np = sys.modules.get("numpy")
    return value.item() if np is not None and isinstance(value, (np.bool_, np.integer, np.floating)) else value


def member(cls: type[Enum], value: Any) -> Any:
    """An enumeration's member, for its value."""
    try:
        return cls(value)
    except Exception:  # noqa: BLE001 - a _missing_ of the user's may raise anything
        try:
            return msgspec.convert(value, cls, strict=False)
        except (msgspec.ValidationError, TypeError):
            raise Mismatch(value, text(cls), "which is none of its values") from None


def path(cls: type[PurePath], value: Any) -> Any:
    """A path, for text."""
    if not isinstance(value, (str, PurePath)):
        raise Mismatch(value, text(cls))
    return cls(value)


def literal(hint: Any, values: tuple[Any, ...]) -> Check:
    """One of the values; ``True`` is not ``1``."""

    def run(value: Any) -> Any:
        for one in values:
            if (isinstance(value, type(one)) and isinstance(value, bool) is isinstance(one, bool)) and value == one:
                return value
        raise Mismatch(value, text(hint), "which is none of these")

    return Check(run)


def mapping(hint: Any, cls: type, key: Check, item: Check) -> Check:
    """A dict, its keys and its values."""

    def run(value: Any) -> Any:
        held = value
        if not isinstance(value, dict):
            if isinstance(value, cls):
                return value
            if not isinstance(value, Mapping):
                raise Mismatch(value, text(hint))
            held = dict(value)
        if _pass_as_they_are(key, held) and _pass_as_they_are(item, held.values()):
            return held
        names = [key.at(name, ".keys()") for name in held]
        items = [item.at(part, step_of(name)) for name, part in held.items()]
        if all(map(_is, names, held)) and all(map(_is, items, held.values())):
            return held
        made = _built(dict, zip(names, items, strict=True), value, hint)
        if len(made) < len(held):
            raise Mismatch(value, text(hint), "in which two keys become one")
        return made

    return Check(run)


def elements(hint: Any, cls: Any, element: Check) -> Check:
    """A container of any number of elements."""
    make = MADE[cls]

    def run(value: Any) -> Any:
        if isinstance(value, cls):
            if not isinstance(value, _WALKED) or _pass_as_they_are(element, value):
                return value
            made = _each(element, value)
            if all(map(_is, made, value)):
                return value
            kind = next(kind for kind in _WALKED if isinstance(value, kind))
            return deque(made, value.maxlen) if isinstance(value, deque) else _built(kind, made, value, hint)
        held = _gathered(value, hint, ordered=make not in (set, frozenset))
        return _built(make, _each(element, held), value, hint)

    return Check(run)


def fixed_tuple(hint: Any, checks: list[Check]) -> Check:
    """A tuple of so many elements, each with its own check."""

    def run(value: Any) -> Any:
        items = value if isinstance(value, tuple) else _gathered(value, hint, ordered=True)
        if len(items) != len(checks):
            raise Mismatch(value, text(hint), f"with {len(items)} elements")
        made = tuple(check.at(item, f"[{i}]") for i, (check, item) in enumerate(zip(checks, items, strict=True)))
        return value if isinstance(value, tuple) and all(map(_is, made, value)) else made

    return Check(run)


def _is(one: object, other: object) -> bool:
    return one is other


def _each(element: Check, values: Iterable[Any]) -> list[Any]:
    if isinstance(values, (set, frozenset)):
        return [element.at(value, "[...]") for value in values]
    return [element.at(value, f"[{i}]") for i, value in enumerate(values)]


def _built(make: Callable[[Any], Any], values: Iterable[Any], value: Any, hint: Any) -> Any:
    try:
        return make(values)
    except TypeError:
        raise Mismatch(value, text(hint), "with an element that cannot be hashed") from None


def _gathered(value: Any, hint: Any, *, ordered: bool) -> list[Any]:
    if isinstance(value, (set, frozenset)) and ordered:
        raise Mismatch(value, text(hint), "which has no order that another process would see: pass sorted(...)")
    if not isinstance(value, _ORDERED if ordered else (*_ORDERED, set, frozenset)):
        raise Mismatch(value, text(hint))
    return list(value)


def compile_by_msgspec(hint: Any) -> None:
    """Raise where msgspec has no rule for an annotation. Nothing is an instance of this, so nothing is made."""
    try:
        msgspec.convert(Mismatch.__new__(Mismatch), hint, dec_hook=lambda _part, _value: ANYTHING)
    except msgspec.ValidationError:
        return


def is_pydantic(hint: Any) -> bool:
    """Whether pydantic has a say in an annotation."""
    if hasattr(hint, "__pydantic_core_schema__") or hasattr(hint, "__get_pydantic_core_schema__"):
        return True
    metadata = getattr(hint, "__metadata__", ())
    return any(type(meta).__module__.partition(".")[0] in PYDANTIC for meta in metadata) or any(
        map(is_pydantic, get_args(hint))
    )


def by_pydantic(hint: Any) -> Callable[[Any], Any]:
    """Conversion by pydantic, where the process has it. An annotation of its own says that it has."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None:
        raise TypeError("pydantic is not imported")
    try:
        validate = pydantic.TypeAdapter(hint, config={"arbitrary_types_allowed": True}).validate_python
    except pydantic.PydanticUserError:  # a model brings its own configuration
        validate = pydantic.TypeAdapter(hint).validate_python

    def run(value: Any) -> Any:
        try:
            return validate(value)
        except Exception as error:  # noqa: BLE001 - a validator of the user's may raise anything
            raise Mismatch(value, text(hint), told(error)) from None

    return run


def told(error: Exception) -> str:
    """What msgspec or pydantic found wrong, without the value."""
    if hasattr(error, "errors") and type(error).__module__.startswith("pydantic"):
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = "".join(f"[{part!r}]" for part in first["loc"])
        return f"{place} {first['msg']}".strip()
    if isinstance(error, msgspec.ValidationError):
        return re.sub(r"(Invalid (?:enum )?value) .*?(?= - at `|$)", r"\1", str(error), flags=re.DOTALL)
    return f"{type(error).__name__} was raised"


def is_equal(made: Any, value: Any) -> bool:
    """Whether a conversion gave what it was given, or a copy of it."""
    if made is value:
        return True
    try:
        return type(made) is type(value) and bool(made == value)
    except Exception:  # noqa: BLE001 - an __eq__ of the user's, or an array's
        return False


def text(hint: Any) -> str:
    """An annotation, for people."""
    return (
        qualified_name(hint)
        if isinstance(hint, type) and get_origin(hint) is None
        else repr(hint).replace("typing.", "")
    )
