"""What a driver needs of the call it drives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

from durable.journal import Entry, Journal


class Driven(Protocol):
    """What a driver needs of a call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    done: bool
    gated: bool
    propagates: bool
    delay: float
    elsewhere: Any
    journal: Journal
    unit: Any
    is_flow: ClassVar[bool]

    @property
    def definition(self) -> Any: ...  # noqa: D102
    def awaited(self) -> list[Any]: ...  # noqa: D102
    def locked(self) -> bool: ...  # noqa: D102
    def replay(self) -> Entry | None: ...  # noqa: D102
    def started(self) -> Entry | None: ...  # noqa: D102
    def enter(self) -> None: ...  # noqa: D102
    def runner(self) -> Any: ...  # noqa: D102
    def settled(self, value: Any) -> Any: ...  # noqa: D102
    def leave(self) -> None: ...  # noqa: D102
    def returned(self, value: Any) -> Entry | None: ...  # noqa: D102
    def caught(self, error: BaseException) -> Any: ...  # noqa: D102
    def raised(self, retry: bool) -> Entry | None: ...  # noqa: D102, FBT001
    def due(self) -> Iterator[Any]: ...  # noqa: D102
    def outcome(self) -> Any: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


class DrivenGenerator(Driven, Protocol):
    """What a driver needs of a call of a generator."""

    value: Any
    deliver: bool

    def serve(self) -> bool: ...  # noqa: D102
    def answer(self) -> tuple[Any, BaseException | None]: ...  # noqa: D102
    def yielded(self, value: Any) -> Entry | None: ...  # noqa: D102
    def sent(self, value: Any) -> None: ...  # noqa: D102
    def threw(self, error: BaseException) -> None: ...  # noqa: D102
    def closed(self) -> Entry | None: ...  # noqa: D102
