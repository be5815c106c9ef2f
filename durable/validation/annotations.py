"""From annotations to checks. The rules stand at the top of the package."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections import abc
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin
from uuid import UUID

import msgspec

from durable.validation.checks import (
    ANYTHING,
    MADE,
    MAPPINGS,
    PYDANTIC,
    Check,
    Mismatch,
    by_pydantic,
    compile_by_msgspec,
    elements,
    fits_as_it_is,
    fixed_tuple,
    is_equal,
    is_instance,
    is_pydantic,
    literal,
    mapping,
    member,
    only_none,
    path,
    scalar,
    text,
    told,
    unless_instance,
)

_SCALARS: Final = frozenset({bool, int, float, str, bytes, bytearray, datetime, date, time, timedelta, Decimal, UUID})
_QUALIFIERS: Final = frozenset({"Required", "NotRequired", "ReadOnly"})


class Compiler:
    """From annotations to checks. None stands for one that says nothing (rule 5)."""

    def __init__(self) -> None:
        self._making: list[Any] = []  # aliases and TypedDicts may contain themselves

    def check_of(self, hint: Any) -> Check | None:
        """The check for an annotation. Never raises: one that cannot be compiled says nothing."""
        if any(hint is made for made in self._making):
            return None
        self._making.append(hint)
        try:
            return self._compiled(hint)
        except Exception:  # noqa: BLE001 - annotations are the user's objects, and may raise anything
            return None
        finally:
            self._making.pop()

    def _compiled(self, hint: Any) -> Check | None:
        if hint is None or hint is types.NoneType:
            return Check(only_none, (types.NoneType,))
        if hasattr(hint, "__supertype__"):
            return self.check_of(hint.__supertype__)
        if type(hint).__name__ == "TypeAliasType":
            return self.check_of(hint.__value__)
        origin, args = get_origin(hint), get_args(hint)
        if origin is Annotated:
            return self._annotated(hint, args[0])
        if origin is Literal:
            return literal(hint, args)
        if origin is Union or origin is types.UnionType:
            return self._union(hint, args)
        cls = hint if origin is None else origin
        if not isinstance(cls, type):
            return None
        if cls in MAPPINGS:
            key, item = (self.check_of(arg) or ANYTHING for arg in args) if args else (ANYTHING, ANYTHING)
            return mapping(hint, cls, key, item)
        if cls is tuple and args and args[-1] is not ... and args != ((),):
            return fixed_tuple(hint, [self.check_of(arg) or ANYTHING for arg in args])
        if cls in MADE:
            return elements(hint, cls, (self.check_of(args[0]) if args and args != ((),) else None) or ANYTHING)
        return self._class(hint, cls)

    def _class(self, hint: Any, cls: Any) -> Check | None:
        if hasattr(cls, "__pydantic_core_schema__") or hasattr(cls, "__get_pydantic_core_schema__"):
            return unless_instance(cls, by_pydantic(hint))
        if cls in _SCALARS:
            return unless_instance(cls, functools.partial(scalar, cls))
        if issubclass(cls, Enum):
            return unless_instance(cls, functools.partial(member, cls))
        if issubclass(cls, PurePath):
            return unless_instance(cls, functools.partial(path, cls))
        if typing.is_typeddict(cls):
            return self._typed_dict(cls)
        declares_fields = (
            dataclasses.is_dataclass(cls)
            or issubclass(cls, msgspec.Struct)
            or isinstance(getattr(cls, "__attrs_attrs__", None), tuple)
            or (issubclass(cls, tuple) and hasattr(cls, "_fields"))
        )
        return unless_instance(cls, self._by_msgspec(hint)) if declares_fields else None

    def _by_msgspec(self, hint: Any) -> Callable[[Any], Any]:
        """Conversion by msgspec, with our own rules for the classes it has none for. Raises where it refuses `hint`."""
        checks: dict[Any, Check | None] = {}

        def hook(part: Any, value: Any) -> Any:
            if part not in checks:
                checks[part] = Compiler().check_of(part)
            check = checks[part]
            return value if check is None else check.run(value)

        def run(value: Any) -> Any:
            try:
                return msgspec.convert(value, hint, strict=False, dec_hook=hook)
            except Mismatch:
                raise
            except Exception as error:  # noqa: BLE001 - the user's __post_init__ may raise anything
                raise Mismatch(value, text(hint), told(error)) from None

        compile_by_msgspec(hint)
        return run

    def _annotated(self, hint: Any, base: Any) -> Check | None:
        inner = self.check_of(base)
        steps: list[Callable[[Any], Any]] = []
        metas = tuple(meta for meta in hint.__metadata__ if isinstance(meta, msgspec.Meta))
        if metas:
            limited = Annotated.__class_getitem__((base, *metas))  # type: ignore[attr-defined]  # 3.10 has no [base, *metas]
            try:
                steps.append(self._by_msgspec(limited))
            except Exception:  # noqa: BLE001 - as in check_of: the rest of the annotation still counts
                steps.clear()
        if any(type(meta).__module__.partition(".")[0] in PYDANTIC for meta in hint.__metadata__):
            steps.append(by_pydantic(hint))
        if not steps:
            return inner

        def run(value: Any) -> Any:
            value = value if inner is None else inner.run(value)
            for step in steps:
                made = step(value)
                value = value if is_equal(made, value) else made
            return value

        return Check(run)

    def _union(self, hint: Any, members: tuple[Any, ...]) -> Check | None:
        if any(member is Any or member is object or isinstance(member, typing.TypeVar) for member in members):
            return None
        checks = [self.check_of(member) for member in members]
        known = [check for check in checks if check is not None]
        plain = tuple(
            cls
            for cls in ((get_origin(m) or m) for m, check in zip(members, checks, strict=True) if check is None)
            if isinstance(cls, type)
        )
        open_ended = len(known) < len(members)
        converters = [check.run for check in known]
        if any(is_pydantic(member) for member in members):
            converters = [by_pydantic(hint)]
        else:
            structs = tuple(m for m in members if isinstance(m, type) and issubclass(m, msgspec.Struct))
            if len(structs) > 1:
                try:
                    tagged = self._by_msgspec(Union[structs])  # noqa: UP007 - made at run time
                except TypeError:
                    tagged = None
                if tagged is not None:
                    others = [c.run for m, c in zip(members, checks, strict=True) if c is not None and m not in structs]
                    converters = [*others, tagged]

        def run(value: Any) -> Any:
            if any(is_instance(value, cls) for cls in plain):
                return value
            if isinstance(value, abc.Iterator):  # it can be read only once
                value = list(value)
            for check in known:
                if fits_as_it_is(check, value):
                    return value
            made = []
            for convert in converters:
                try:
                    made.append(convert(value))
                except Mismatch:
                    continue
                if not isinstance(value, Mapping):
                    break
            if len(made) == 1:
                return made[0]
            if made or open_ended:
                return value
            raise Mismatch(value, text(hint))

        exact = () if open_ended else tuple(cls for check in known for cls in check.exact)
        return Check(run, exact if all(check.exact for check in known) else ())

    def _typed_dict(self, cls: Any) -> Check:
        checks: dict[str, Check] = {}
        required = set(cls.__required_keys__)
        for name, hint in typing.get_type_hints(cls, include_extras=True).items():
            bare = hint
            while (qualifier := getattr(get_origin(bare), "_name", None)) in _QUALIFIERS:
                # Where annotations are text the class itself has not seen them.
                if qualifier == "NotRequired":
                    required.discard(name)
                elif qualifier == "Required":
                    required.add(name)
                bare = get_args(bare)[0]
            check = self.check_of(bare)
            if check is not None:
                checks[name] = check

        def run(value: Any) -> Any:
            if not isinstance(value, dict):
                raise Mismatch(value, text(cls))
            missing = sorted(required - value.keys())
            if missing:
                raise Mismatch(value, text(cls), f"without the key {missing[0]!r}")
            made = {n: checks[n].at(item, f"[{n!r}]") if n in checks else item for n, item in value.items()}
            return value if all(made[name] is item for name, item in value.items()) else made

        return Check(run)
