"""Exceptions: recorded as facts, rebuilt without their ``__init__``.

1. Recording never fails, whatever the exception holds: a part that cannot be recorded becomes `Unrecorded`.
2. Rebuilding calls only a builtin's ``__new__``, then puts back args, attributes, notes and the chain.
3. What cannot be rebuilt (its class is gone, or is made by C code) is `TaskFailed`, with the message and the traceback.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, NoReturn

from durable.codec import extensions as x
from durable.codec.classes import find, name_of
from durable.codec.walker import Refused, Walker, extension
from durable.errors import CodecError, CorruptPayload, TaskFailed

MAX_LINKS = 16
MAX_EXCEPTIONS = 256
TEXT_LIMIT = 64 * 1024
TRACEBACK = "__durable_traceback__"
_HEAP_TYPE = 1 << 9
_BUILTIN: dict[str, Any] = dict(vars(BaseException))
_OWN_STATE = frozenset({"__notes__", TRACEBACK})


class UnrecordedValue(CodecError, AttributeError):
    """An exception's attribute was used that could not be recorded when the exception was. See `Unrecorded`."""


class Unrecorded:
    """Stands where a rebuilt exception held something the journal could not record, a connection or response say.

    Any use of it raises `UnrecordedValue`, so that a handler which needs it fails loudly.

    Args:
        path: where it was, as Python would write it.
        type_name: what was there, as ``module.QualName``.
    """

    __slots__ = ("_path", "_type_name")

    def __init__(self, path: str, type_name: str) -> None:
        object.__setattr__(self, "_path", path)
        object.__setattr__(self, "_type_name", type_name)

    def __repr__(self) -> str:
        return f"<unrecorded {_get(self, '_path')}: {_get(self, '_type_name')}>"

    def __eq__(self, other: object) -> bool:
        return type(other) is Unrecorded and _parts(self) == _parts(other)

    def __hash__(self) -> int:
        return hash(_parts(self))

    def __reduce__(self) -> tuple[type[Unrecorded], tuple[str, str]]:
        return Unrecorded, _parts(self)

    def __getattr__(self, name: str) -> NoReturn:
        _unusable(self, f"its attribute {name!r} cannot be read")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        _unusable(self, f"its attribute {name!r} cannot be set")

    def __call__(self, *_args: object, **_kwargs: object) -> NoReturn:
        """Raises UnrecordedValue."""
        _unusable(self, "it cannot be called")


def _own(exc: BaseException, name: str) -> Any:
    """The builtin attribute of an exception, whatever its class makes of that name."""
    return _BUILTIN[name].__get__(exc)


def _put(exc: BaseException, name: str, value: Any) -> None:
    """Set the builtin attribute of an exception, whatever its class makes of that name."""
    _BUILTIN[name].__set__(exc, value)


def _get(value: Unrecorded, name: str) -> str:
    return str(object.__getattribute__(value, name))


def _parts(value: Unrecorded) -> tuple[str, str]:
    return _get(value, "_path"), _get(value, "_type_name")


def _unusable(value: Unrecorded, what: str) -> NoReturn:
    path, type_name = _parts(value)
    raise UnrecordedValue(
        f"{path} was a {type_name}, which could not be recorded with its exception, so {what} after a resume. "
        "Keep what a handler needs as plain values on the exception."
    )


def write_unrecorded(value: Unrecorded, walker: Walker, depth: int) -> Any:
    return extension(x.UNRECORDED, [walker.walk(part, depth) for part in _parts(value)])


def write_exception(exc: BaseException, walker: Walker, depth: int) -> Any:
    """The rule for every exception. Never raises, and always walks carefully."""
    return _Recorder(walker.to_careful(), depth).record(exc)


def bounded(text: str, limit: int = TEXT_LIMIT) -> str:
    """`text`, or its head and tail, in at most `limit` characters."""
    if len(text) <= limit:
        return text
    half = limit // 2 - 40
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


class _Recorder:
    """One record of an exception and all it is chained to."""

    def __init__(self, walker: Walker, depth: int) -> None:
        self.walker = walker
        self.depth = depth
        self.seen: set[int] = set()

    def record(self, exc: BaseException, links: int = 0) -> Any:
        """The Ext for one exception."""
        self.seen.add(id(exc))
        module, qualname = name_of(type(exc))
        head = [self.text(module), self.text(qualname), self.text(bounded(_message(exc)))]
        parts: dict[str, Any] = {}
        for name, rule in (
            ("traceback", self._traceback),
            ("args", self._args),
            ("state", self._state),
            ("c_state", self._c_state),
            ("notes", self._notes),
        ):
            try:
                found = rule(exc)
            except Exception:
                found = None
            if found is not None:
                parts[name] = found
        try:
            self._chain(exc, links, parts)
        except Exception:
            parts.pop("members", None)
        return extension(x.EXCEPTION, [*head, parts])

    def text(self, value: object) -> Any:
        """Any string, walked."""
        return self.walker.walk(str(value), self.depth)

    def value(self, value: object, path: str) -> Any:
        """`value` walked, or an Unrecorded in its place."""
        try:
            if not isinstance(value, BaseException):
                walked = self.walker.walk(value, self.depth + 1)
                extension(x.TUPLE, walked)
                return walked
            if id(value) not in self.seen and len(self.seen) < MAX_EXCEPTIONS:
                return self.record(value, MAX_LINKS)
        except Refused as refused:
            where, _ = refused.located(path)
            return self.walker.walk(Unrecorded(where, refused.type_name), self.depth)
        except Exception:
            return self._unrecorded(value, path)
        return self._unrecorded(value, path)

    def _unrecorded(self, value: object, path: str) -> Any:
        module, qualname = name_of(type(value))
        return self.walker.walk(Unrecorded(path, f"{module}.{qualname}"), self.depth)

    def _traceback(self, exc: BaseException) -> Any:
        text = _own(exc, "__dict__").get(TRACEBACK)
        if not isinstance(text, str):
            own = _own(exc, "__traceback__")
            text = "".join(traceback.format_exception(type(exc), exc, own, chain=len(self.seen) == 1))
        return self.text(bounded(text))

    def _args(self, exc: BaseException) -> Any:
        return [self.value(arg, f"exception.args[{i}]") for i, arg in enumerate(_own(exc, "args"))]

    def _state(self, exc: BaseException) -> Any:
        state = {}
        for name, value in list(_own(exc, "__dict__").items()):
            if isinstance(name, str) and name not in _OWN_STATE:
                state[name] = self.value(value, f"exception.{name}")
        for name, descriptor in _descriptors(type(exc), heap=True):
            try:
                state[name] = self.value(descriptor.__get__(exc), f"exception.{name}")
            except AttributeError:
                continue
        return state or None

    def _c_state(self, exc: BaseException) -> Any:
        state = {}
        for name, descriptor in _descriptors(type(exc), heap=False):
            try:
                value = descriptor.__get__(exc)
            except AttributeError:
                continue
            if value is not None and not (name == "exceptions" and isinstance(value, tuple)):
                state[name] = self.value(value, f"exception.{name}")
        return state or None

    def _notes(self, exc: BaseException) -> Any:
        notes = _own(exc, "__dict__").get("__notes__")
        return None if notes is None else self.value(notes, "exception.__notes__")

    def _chain(self, exc: BaseException, links: int, parts: dict[str, Any]) -> None:
        cause, context = _own(exc, "__cause__"), _own(exc, "__context__")
        parts["suppress"] = bool(_own(exc, "__suppress_context__"))
        if cause is not None and self._may_link(cause, links):
            parts["cause"] = self.record(cause, links + 1)
        if context is cause:
            parts["context_is_cause"] = True
        elif context is not None and self._may_link(context, links):
            parts["context"] = self.record(context, links + 1)
        members = getattr(exc, "exceptions", None) if _is_group(exc) else None
        if isinstance(members, tuple | list):
            parts["members"] = [
                self.record(member, links + 1) if self._may_link(member, links) else self._stub(member)
                for member in members
            ]

    def _may_link(self, exc: BaseException, links: int) -> bool:
        return links < MAX_LINKS and id(exc) not in self.seen and len(self.seen) < MAX_EXCEPTIONS

    def _stub(self, exc: BaseException) -> Any:
        module, qualname = name_of(type(exc))
        head = [self.text(module), self.text(qualname), self.text(bounded(_message(exc), 1000))]
        return extension(x.EXCEPTION, [*head, {"stub": True}])


def _message(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception:
        return "<its __str__ raised>"


def _is_group(exc: BaseException) -> bool:
    return any(base.__name__ == "BaseExceptionGroup" for base in type(exc).__mro__)


def _builtin_base(cls: type) -> type:
    return next(base for base in cls.__mro__ if not base.__flags__ & _HEAP_TYPE)


def _descriptors(cls: type, *, heap: bool) -> Iterator[tuple[str, Any]]:
    """The slots of a class's Python bases (heap), or the C fields of its builtin bases."""
    for base in cls.__mro__:
        if base is BaseException or base is object or bool(base.__flags__ & _HEAP_TYPE) is not heap:
            continue
        for name, member in vars(base).items():
            if isinstance(member, MemberDescriptorType) or (not heap and isinstance(member, GetSetDescriptorType)):
                yield name, member


def read_exception(payload: Any) -> BaseException:
    """The exception, or `TaskFailed` standing for it."""
    module, qualname, message, parts = payload
    if not (isinstance(module, str) and isinstance(qualname, str) and isinstance(message, str)):
        raise CorruptPayload("an exception's class and message are text")
    text = parts.get("traceback", "")
    cls = find(module, qualname)
    made: BaseException | None = None
    if isinstance(cls, type) and issubclass(cls, BaseException) and not parts.get("stub"):
        try:
            made = _rebuild(cls, message, parts)
        except Exception:
            made = None
    if made is None:
        type_name = qualname if module == "builtins" else f"{module}.{qualname}"
        made = TaskFailed(type_name, message, text)
        if isinstance(parts.get("notes"), list):
            made.__dict__["__notes__"] = parts["notes"]
    _chain(made, parts)
    _own(made, "__dict__")[TRACEBACK] = text
    return made


def _rebuild(cls: type[BaseException], message: str, parts: dict[str, Any]) -> BaseException:
    base: Any = _builtin_base(cls)
    args = tuple(parts.get("args", ()))
    c_state = parts.get("c_state", {})
    # Only groups need arguments; OSError would choose another class by its errno if it were given them.
    made = (
        base.__new__(cls, c_state.get("message", message), parts["members"])
        if "members" in parts
        else base.__new__(cls)
    )
    if type(made) is not cls:
        raise CorruptPayload("an exception of another class")
    _put(made, "args", args)
    state = _own(made, "__dict__")
    for name, descriptor in _descriptors(cls, heap=False):
        if name in c_state:
            try:
                descriptor.__set__(made, c_state[name])
            except (AttributeError, TypeError):
                continue
    slots = {name for name, _ in _descriptors(cls, heap=True)}
    for name, value in parts.get("state", {}).items():
        if name in slots:
            object.__setattr__(made, name, value)
        else:
            state[name] = value
    if "notes" in parts:
        state["__notes__"] = parts["notes"]
    return made


def _chain(made: BaseException, parts: dict[str, Any]) -> None:
    cause = parts.get("cause")
    context = cause if parts.get("context_is_cause") else parts.get("context")
    if isinstance(cause, BaseException):
        _put(made, "__cause__", cause)
    if isinstance(context, BaseException):
        _put(made, "__context__", context)
    _put(made, "__suppress_context__", bool(parts.get("suppress")))


def read_unrecorded(payload: Any) -> Unrecorded:
    path, type_name = payload
    return Unrecorded(str(path), str(type_name))


NESTED_READERS = {x.EXCEPTION: read_exception, x.UNRECORDED: read_unrecorded}

__all__ = ["NESTED_READERS", "Unrecorded", "UnrecordedValue", "bounded", "write_exception", "write_unrecorded"]
