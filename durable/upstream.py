"""What a call waits for: the futures and states among its arguments, and what the body gets in their place.

Rules:

1. A call is identified when it is made, so a future counts by the identity of the task run it stands for, not by a
   value that is not there yet. When the value is there it joins the identity: other values, another task run.
2. A state's value is there already: it counts by that value, as if it had been passed itself.
3. Whatever is waited for must have completed, or the call is not made (NotReady), unless it stands in `allow_failure`.
4. Lists, tuples, sets, dicts, dataclasses, named tuples and pydantic models are searched, and copied only where
   something in them is replaced. `quote` hides what is in it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from durable.annotations import Annotation, allow_failure, opaque, quote
from durable.errors import ConfigurationError
from durable.states import State

_NATIVE: Final = frozenset({type(None), bool, int, float, str, bytes})
_DEEPEST: Final = 100  # deeper than that nobody hides a future, and a cycle must end
WAIT_FOR: Final = "wait_for"


class Upstream:
    """A task run whose end others may wait for. `durable.futures.Future` is one.

    Attributes:
        identity: what the call is identified by where it was made (16 bytes).
        name: the task run's name.
    """

    __slots__ = ("identity", "name")
    __durable_upstream__ = True

    identity: bytes
    name: str

    def done(self) -> bool:
        """Whether it has ended."""
        raise NotImplementedError

    def wait(self, timeout: float | None = None) -> Any:
        """Wait until it has, `timeout` seconds at most."""
        raise NotImplementedError

    async def settled(self) -> Any:
        """Wait until it has, without blocking the event loop."""
        raise NotImplementedError

    def ended(self) -> State[Any]:
        """How it has ended."""
        raise NotImplementedError


class Need(NamedTuple):
    """One thing a call waits for.

    Attributes:
        argument: the parameter it was found in, or ``wait_for``.
        source: the future or state.
        tolerant: its failure is the body's to handle.
    """

    argument: str
    source: Upstream | State[Any]
    tolerant: bool

    def state(self) -> State[Any]:
        """How it has ended."""
        return self.source.ended() if isinstance(self.source, Upstream) else self.source


def needs_of(names: Sequence[str], values: Sequence[Any]) -> tuple[list[Need], list[Any]]:
    """What bound arguments wait for, and what they count by meanwhile (rules 1 and 2)."""
    needs: list[Need] = []
    counted = []
    for name, value in zip(names, values, strict=True):

        def take(found: Any, tolerant: bool, depth: int, name: str = name) -> Any:  # noqa: FBT001 - see _visited
            if isinstance(found, Upstream):
                needs.append(Need(name, found, tolerant))
                return "\0durable.upstream", found.identity
            if not found.is_completed():
                needs.append(Need(name, found, tolerant))
                return "\0durable.state", found.name, found.message
            if found.run_id is not None:
                needs.append(Need(name, found, tolerant))
            return _visited(found.data, take, tolerant, depth)

        counted.append(_visited(value, take, False, 0))
    return needs, counted


def wait_for_option(where: str, given: Any) -> list[Need]:
    """The needs of ``wait_for=``: futures and states, one or any iterable of them.

    Raises:
        ConfigurationError: something else is in it.
    """
    if given is None:
        return []
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
    return [need for need in needs if not need.tolerant and not need.state().is_completed()]


def ran_as(needs: Iterable[Need]) -> list[tuple[bytes, str]]:
    """The ids of the runs that were waited for, each with the argument."""
    ended = ((need.state().run_id, need.argument) for need in needs)
    return [(bytes.fromhex(run_id), argument) for run_id, argument in ended if run_id is not None]


def why_not_ready(failed: Iterable[Need]) -> str:
    """Which upstream ended how, for a message."""
    told = []
    for need in failed:
        state = need.state()
        name = repr(need.source.name) if isinstance(need.source, Upstream) else state.run_id or "a state"
        told.append(f"its upstream {name} (in {need.argument}) ended {state}")
    return "; ".join(told)


def resolved(value: Any) -> Any:
    """An argument as the body gets it: values in place of futures and states, no wrapper left."""
    return _visited(value, _value_of, False, 0)


def returned(value: Any) -> tuple[Any, list[State[Any]]]:
    """What a flow returned, with values in place of futures and states; and those it was decided by."""
    states: list[State[Any]] = []

    def take(found: Any, tolerant: bool, depth: int) -> Any:  # noqa: FBT001 - see _visited
        state = found.ended() if isinstance(found, Upstream) else found
        if not tolerant:
            states.append(state)
        return _visited(state.data, take, tolerant, depth) if state.is_completed() else state.data

    return _visited(value, take, False, 0), states


def _value_of(found: Any, tolerant: bool, depth: int) -> Any:  # noqa: FBT001 - see _visited
    state = found.ended() if isinstance(found, Upstream) else found
    if state.is_completed():
        return state.data if depth >= _DEEPEST else _visited(state.data, _value_of, tolerant, depth + 1)
    return state.result(raise_on_failure=False)


Take = Callable[[Any, bool, int], Any]


def _visited(value: Any, take: Take, tolerant: bool, depth: int) -> Any:  # noqa: FBT001 - internal
    """`value` with each future and state in it swapped by `take`; itself where there is none."""
    cls = type(value)
    if cls in _NATIVE or depth > _DEEPEST:
        return value
    if isinstance(value, Annotation):
        return _inside(value, take, tolerant, depth)
    if isinstance(value, (Upstream, State)):
        return take(value, tolerant, depth + 1)
    deeper = depth + 1
    if issubclass(cls, (list, tuple, set, frozenset)):
        if _NATIVE.issuperset(map(type, value)):
            return value
        parts = [_visited(part, take, tolerant, deeper) for part in value]
        if all(new is old for new, old in zip(parts, value, strict=True)):
            return value
        if hasattr(cls, "_make"):
            return cls._make(parts)
        return getattr(cls, "__durable_plain__", cls)(parts)
    if issubclass(cls, dict):
        if _NATIVE.issuperset(map(type, value.values())):
            return value
        changed = _changed(value.items(), take, tolerant, deeper)
        if not changed:
            return value
        made = copy.copy(value)
        made.update(changed)
        return made
    if dataclasses.is_dataclass(value):
        changed = _changed(
            ((field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value)),
            take,
            tolerant,
            deeper,
        )
        if not changed:
            return value
        made = copy.copy(value)
        for name, part in changed.items():
            object.__setattr__(made, name, part)
        return made
    if hasattr(cls, "__pydantic_fields__"):
        changed = _changed(
            ((name, getattr(value, name, None)) for name in cls.__pydantic_fields__), take, tolerant, deeper
        )
        return value.model_copy(update=changed) if changed else value
    return value


def _inside(wrapped: Annotation[Any], take: Take, tolerant: bool, depth: int) -> Any:  # noqa: FBT001 - see _visited
    if isinstance(wrapped, quote):
        return wrapped.value
    if isinstance(wrapped, opaque):
        found = wrapped.value
        if take is _value_of and isinstance(found, (Upstream, State)):
            return take(found, tolerant, _DEEPEST)
    return _visited(wrapped.value, take, tolerant or isinstance(wrapped, allow_failure), depth + 1)


def _changed(items: Iterable[tuple[Any, Any]], take: Take, tolerant: bool, depth: int) -> dict[Any, Any]:  # noqa: FBT001 - see _visited
    found = {}
    for name, old in items:
        new = _visited(old, take, tolerant, depth)
        if new is not old:
            found[name] = new
    return found


def awaited(needs: Iterable[Need]) -> list[Upstream]:
    """The futures among them that have not ended."""
    return [need.source for need in needs if isinstance(need.source, Upstream) and not need.source.done()]
