"""What a call waits for: the futures and states among its arguments, and what the body gets in their place.

Rules:

1. A call is identified when it is made, so a future counts by the identity of the task run it stands for, not by a
   value that is not there yet. When the value is there it joins the identity: other values, another task run.
2. A state's value is there already: it counts by that value, as if it had been passed itself.
3. Whatever is waited for must have completed, or the call is not made (NotReady), unless it stands in `allow_failure`.
4. Lists, tuples, sets, dicts, dataclasses, named tuples and pydantic models are searched, and copied only where
   something in them is replaced. Each is visited once, so neither a cycle nor a shared part costs more than its size.
5. `quote` hides what is in it: a future in there is not waited for, and counts by which task run it stands for.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from msgspec import Struct

from durable.annotations import Annotation, allow_failure, opaque, quote
from durable.codec import FUTURE
from durable.errors import ConfigurationError
from durable.states import NOT_READY, State

_NATIVE: Final = frozenset({type(None), bool, int, float, str, bytes})
_DEEPEST: Final = 100  # deeper than that nobody hides a future
_NAMED: Final = 3  # upstreams that failed, of those a message names
_FIRST: Final = ", and the first to fail was another: "
WAIT_FOR: Final = "wait_for"


class Upstream:
    """A task run whose end others may wait for. `durable.futures.Future` is one.

    Attributes:
        identity: what the call is identified by where it was made (16 bytes).
    """

    __slots__ = ("identity",)
    __durable_upstream__ = True

    identity: bytes

    @property
    def name(self) -> str:
        """The task run's name."""
        raise NotImplementedError

    def done(self) -> bool:
        """Whether it has ended."""
        raise NotImplementedError

    def wait(self, timeout: float | None = None) -> Any:
        """Wait until it has, `timeout` seconds at most."""
        raise NotImplementedError

    async def settled(self) -> Any:
        """Wait until it has, without blocking the event loop."""
        raise NotImplementedError

    def completed(self) -> bool:
        """Whether it has ended well; its failure is from now on the asker's to handle."""
        raise NotImplementedError

    def ended(self) -> State[Any]:
        """How it has ended; its failure is from now on the asker's to handle."""
        raise NotImplementedError

    def recorded_as(self) -> bytes | None:
        """The id of its task run (16 bytes), once it has ended."""
        raise NotImplementedError


class Need(Struct, frozen=True):
    """One thing a call waits for.

    Attributes:
        argument: the parameter it was found in, or ``wait_for``.
        source: the future or state.
        tolerant: its failure is the body's to handle.
    """

    argument: str
    source: Upstream | State[Any]
    tolerant: bool

    def completed(self) -> bool:
        """Whether it has ended well."""
        source = self.source
        return source.completed() if isinstance(source, Upstream) else source.is_completed()

    def state(self) -> State[Any]:
        """How it has ended."""
        return self.source.ended() if isinstance(self.source, Upstream) else self.source

    def recorded_as(self) -> bytes | None:
        """The id of its task run (16 bytes), if it has one by now."""
        source = self.source
        if isinstance(source, Upstream):
            return source.recorded_as()
        return bytes.fromhex(source.run_id) if source.run_id is not None else None


def needs_of(names: Sequence[str], values: Sequence[Any]) -> tuple[list[Need], list[Any]]:
    """What bound arguments wait for, and what they count by meanwhile (rules 1 and 2)."""
    needs: list[Need] = []
    counted = []
    for name, value in zip(names, values, strict=True):
        count = _Count(name, needs)
        counted.append(count.visit(value, False, 0))
    return needs, counted


def wait_for_option(where: str, given: Any) -> list[Need]:
    """The needs of ``wait_for=``: futures and states, one or any iterable of them.

    Raises:
        ConfigurationError: something else is in it.
    """
    if given is None:
        return []
    if not isinstance(given, (Upstream, State, Annotation, Iterable)) or isinstance(given, (str, bytes)):
        raise ConfigurationError(f"{where}: wait_for={given!r}: expected a list of futures and states")
    items = [given] if isinstance(given, (Upstream, State, Annotation)) else list(given)
    needs = []
    for item in items:
        tolerant, source = isinstance(item, allow_failure), item.value if isinstance(item, Annotation) else item
        sources = source if isinstance(source, (list, tuple)) else [source]
        for each in sources:
            if not isinstance(each, (Upstream, State)):
                raise ConfigurationError(f"{where}: wait_for holds {each!r}: expected futures and states")
            needs.append(Need(WAIT_FOR, each, tolerant))
    return needs


def not_ready(needs: Iterable[Need]) -> list[Need]:
    """Those that ended otherwise than completed (rule 3)."""
    return [need for need in needs if not (need.completed() or need.tolerant)]


def why_not_ready(failed: list[Need]) -> str:
    """Why a call was not made, for its state: the upstreams that did not complete, and what began it all.

    Of a long chain only its next link and its first one are named, or each message would hold all the others.
    """
    clauses = []
    for need in failed[:_NAMED]:
        state = need.state()
        name = state.run_id[:7] if state.run_id else "made by hand"
        if isinstance(need.source, Upstream):
            name = repr(need.source.name)
        how = str(state)
        if state.kind is NOT_READY:
            _, found, first = state.message.partition(_FIRST)
            how = f"{state.name}{_FIRST}{first if found else state.message}"
        clauses.append(f"its upstream {name} (in {need.argument}) ended {how}")
    if len(failed) > _NAMED:
        clauses.append(f"so did {len(failed) - _NAMED} more")
    return "; ".join(clauses)


def resolved(value: Any) -> Any:
    """An argument as the body gets it: values in place of futures and states, no wrapper left."""
    return value if type(value) in _NATIVE else _Resolve().visit(value, False, 0)


def returned(value: Any) -> tuple[Any, list[State[Any]]]:
    """What a flow returned, with values in place of futures and states; and those it was decided by."""
    if type(value) in _NATIVE:
        return value, []
    settle = _Settle()
    return settle.visit(value, False, 0), settle.states


def awaited(needs: Iterable[Need]) -> list[Upstream]:
    """The futures among them that have not ended."""
    return [need.source for need in needs if isinstance(need.source, Upstream) and not need.source.done()]


def waited_for(needs: Iterable[Need]) -> Iterator[tuple[bytes, str]]:
    """The task runs among them that are recorded by now, each with the argument's name."""
    for need in needs:
        run = need.recorded_as()
        if run is not None:
            yield run, need.argument


class _Search:
    """A walk through one value that swaps each future and state in it; gives the value itself where there is none."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, bool], tuple[Any, Any]] = {}

    def swap(self, found: Any, tolerant: bool, depth: int, *, search: bool) -> Any:  # noqa: FBT001 - internal
        """What stands in the place of a future or state; `search`: its value is searched as well."""
        raise NotImplementedError

    def hidden(self, value: Any, depth: int) -> Any:
        """What stands in the place of a quoted value."""
        del depth
        return value

    def visit(self, value: Any, tolerant: bool, depth: int) -> Any:  # noqa: FBT001 - internal
        """What stands in the place of `value`."""
        if type(value) in _NATIVE or depth > _DEEPEST:
            return value
        if isinstance(value, Annotation):
            inside = value.value
            if isinstance(value, quote):
                return self.hidden(inside, depth)
            if isinstance(value, opaque) and isinstance(inside, (Upstream, State)):
                return self.swap(inside, tolerant, depth, search=False)
            return self.visit(inside, tolerant or isinstance(value, allow_failure), depth + 1)
        if isinstance(value, (Upstream, State)):
            return self.swap(value, tolerant, depth, search=True)
        rebuild = _rebuilder(value)
        if rebuild is None:
            return value
        place = id(value), tolerant
        if place not in self._seen:
            self._seen[place] = value, value  # what a cycle meets; kept, for a freed one's id may be another's
            self._seen[place] = value, rebuild(value, lambda part: self.visit(part, tolerant, depth + 1))
        return self._seen[place][1]


class _Count(_Search):
    """What an argument counts by (rules 1, 2 and 5), noting what it waits for."""

    def __init__(self, argument: str, needs: list[Need]) -> None:
        super().__init__()
        self._argument = argument
        self._needs: list[Need] | None = needs

    def swap(self, found: Any, tolerant: bool, depth: int, *, search: bool) -> Any:  # noqa: FBT001 - internal
        need = Need(self._argument, found, tolerant)
        if isinstance(found, Upstream):
            self._note(need)
            return FUTURE, found.identity
        if not found.is_completed():
            self._note(need)
            return "\0durable.state", found.name, found.message
        if found.run_id is not None:
            self._note(need)
        return self.visit(found.data, tolerant, depth + 1) if search else found.data

    def hidden(self, value: Any, depth: int) -> Any:
        needs, self._needs = self._needs, None
        try:
            return self.visit(value, False, depth + 1)
        finally:
            self._needs = needs

    def _note(self, need: Need) -> None:
        if self._needs is not None:
            self._needs.append(need)


class _Resolve(_Search):
    """What a body gets."""

    def swap(self, found: Any, tolerant: bool, depth: int, *, search: bool) -> Any:  # noqa: FBT001 - internal
        state = found.ended() if isinstance(found, Upstream) else found
        if not state.is_completed():
            return state.result(raise_on_failure=False)
        return self.visit(state.data, tolerant, depth + 1) if search else state.data


class _Settle(_Search):
    """What a flow's return value stands for."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[State[Any]] = []

    def swap(self, found: Any, tolerant: bool, depth: int, *, search: bool) -> Any:  # noqa: FBT001 - internal
        state = found.ended() if isinstance(found, Upstream) else found
        if not tolerant:
            self.states.append(state)
        if not state.is_completed():
            return state.result(raise_on_failure=False)
        return self.visit(state.data, tolerant, depth + 1) if search else state.data


Visit = Callable[[Any], Any]


def _rebuilder(value: Any) -> Callable[[Any, Visit], Any] | None:
    """How a collection is visited, and copied if something in it was swapped; None for what is no collection."""
    cls = type(value)
    if issubclass(cls, (list, tuple, set, frozenset)):
        return None if _NATIVE.issuperset(map(type, value)) else _sequence
    if issubclass(cls, dict):
        return None if _NATIVE.issuperset(map(type, value.values())) and _NATIVE.issuperset(map(type, value)) else _dict
    if dataclasses.is_dataclass(value):
        return _dataclass
    return _model if hasattr(cls, "__pydantic_validator__") else None


def _sequence(value: Any, visit: Visit) -> Any:
    parts = [visit(part) for part in value]
    if all(new is old for new, old in zip(parts, value, strict=True)):
        return value
    cls = type(value)
    return cls._make(parts) if hasattr(cls, "_make") else getattr(cls, "__durable_plain__", cls)(parts)


def _dict(value: Any, visit: Visit) -> Any:
    parts = [(key, old, visit(key), visit(old)) for key, old in value.items()]
    if all(key is new_key and old is new for key, old, new_key, new in parts):
        return value
    made = copy.copy(value)
    made.clear()  # a default factory and the like stay, and so does the order
    made.update((new_key, new) for _, _, new_key, new in parts)
    return made


def _dataclass(value: Any, visit: Visit) -> Any:
    changed = _changed(value, (field.name for field in dataclasses.fields(value)), visit)
    if not changed:
        return value
    made = copy.copy(value)
    for name, part in changed.items():
        object.__setattr__(made, name, part)  # a frozen one as well
    return made


def _model(value: Any, visit: Visit) -> Any:
    changed = _changed(value, type(value).model_fields, visit)
    return value.model_copy(update=changed) if changed else value


def _changed(value: Any, names: Iterable[str], visit: Visit) -> dict[str, Any]:
    found = {}
    for name in names:
        old = getattr(value, name, None)
        new = visit(old)
        if new is not old:
            found[name] = new
    return found
