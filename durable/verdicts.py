"""How a run ends whose body returned states, by the rules of Prefect 3."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from durable.states import BY_CODE, COMPLETED, State, StateKind


class Verdict(Struct, frozen=True):
    """How a run ends by the states its body returned.

    Attributes:
        kind: the state it ends in.
        message: that state's message.
    """

    kind: StateKind
    message: str


def is_made(value: Any) -> bool:
    """Whether a returned value is a state made by hand: it is then used as it is, as in Prefect 3."""
    return isinstance(value, State) and value.run_id is None


def adopted(state: State[Any]) -> Verdict | None:
    """How a run ends whose body returned a state made by hand."""
    kind, message = state.kind, state.message
    if BY_CODE[kind.code] != kind:  # a name of its own, which the journal has no column for
        message = f"{kind.name}: {message}" if message else kind.name
    if state.is_completed():
        return Verdict(COMPLETED, message)
    return Verdict(BY_CODE[kind.code], message) if state.is_final() else None
