"""What an argument may be wrapped in, to say how futures and states in it are treated. Borrowed from Prefect 3.

A future or state anywhere inside an argument (lists, tuples, sets, dicts, dataclasses, pydantic models) is resolved
before the body runs: the body gets the value. These wrappers change that, and are taken off before the body runs.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

__all__ = ["allow_failure", "opaque", "quote", "unmapped"]

T = TypeVar("T")


class Annotation(Generic[T]):
    """A wrapped argument.

    Attributes:
        value: what is wrapped.
    """

    __slots__ = ("value",)
    __durable_upstream__ = True  # has no canonical form: a call that is handed one takes it off first

    def __init__(self, value: T) -> None:
        self.value = value

    def unwrap(self) -> T:
        """What is wrapped."""
        return self.value

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.value == other.value

    def __hash__(self) -> int:
        return hash((type(self), self.value))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"


class unmapped(Annotation[T]):  # noqa: N801 - Prefect's name
    """An argument of ``.map`` that every call gets whole, though it is iterable."""

    __slots__ = ()


class allow_failure(Annotation[T]):  # noqa: N801 - Prefect's name
    """An argument whose futures and states may have failed: the body then gets the exception in place of a value."""

    __slots__ = ()


class quote(Annotation[T]):  # noqa: N801 - Prefect's name
    """An argument that is not searched for futures and states: the body gets it as it is."""

    __slots__ = ()


class opaque(Annotation[T]):  # noqa: N801 - Prefect's name
    """A future or state that is resolved, while its value is not searched for others."""

    __slots__ = ()


def unwrapped(value: Any) -> Any:
    """A value without its wrapper, if it has one."""
    return value.value if isinstance(value, Annotation) else value
