"""What a limit's name stands for: said in the call, or in the setting `concurrency_limits`."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, NamedTuple

from durable.errors import ConfigurationError
from durable.retries import is_number
from durable.settings import setting

_log = logging.getLogger("durable")
_warned: set[str] = set()


class Limit(NamedTuple):
    """One limit.

    Attributes:
        name: its name.
        slots: how many there are.
        decay: how many of those used are free again each second, where it is a rate; None: it is none.
    """

    name: str
    slots: int
    decay: float | None


def names_of(who: str, given: str | Iterable[str]) -> list[str]:
    """The names in a call, each once, in the order in which everybody takes them.

    Raises:
        ConfigurationError: they are no names.
    """
    names = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else [given]
    for name in names:
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"{who}({given!r}): expected a limit's name, or a list of names")
    return sorted(set(names))


def defined(
    who: str, name: str, occupy: Any, slots: int | None, decay: float | None, *, is_rate: bool, strict: bool
) -> Limit | None:
    """The limit of a name, for a call that wants `occupy` slots of it; None: it is undefined, and that may be.

    Args:
        who: what was called, for messages.
        slots, decay: as said in the call.
        is_rate: it is to be used as a rate.
        strict: an undefined name is an error.

    Raises:
        ConfigurationError: an undefined name, a rate without a decay, or more slots than there are.
    """
    where = f"{who}({name!r})"
    if slots is None:
        known = setting("concurrency_limits")
        if name not in known:
            if strict:
                raise _undefined(where, name, known)
            _warn_undefined(where, name)
            return None
        row = known[name]
        slots, kept = (row["limit"], row.get("slot_decay_per_second")) if isinstance(row, dict) else (row, None)
        decay = kept if decay is None else decay
    elif type(slots) is not int or slots < 1:
        raise ConfigurationError(f"{where}: limit={slots!r}: expected a whole number, 1 or more")
    if decay is not None and not (is_number(decay) and decay >= 0):
        raise ConfigurationError(f"{where}: slot_decay_per_second={decay!r}: expected a number, 0 or more")
    if is_rate and not decay:
        raise ConfigurationError(
            f"{where}: the limit is no rate: say how many slots are free again each second, "
            f"{name} = {{ limit = {slots}, slot_decay_per_second = 0.5 }} or slot_decay_per_second=0.5 in the call"
        )
    if type(occupy) is not int or occupy < 1:
        raise ConfigurationError(f"{where}: occupy={occupy!r}: expected a whole number, 1 or more")
    if occupy > slots:
        raise ConfigurationError(f"{where}: occupy={occupy} can never be had: the limit is {slots}")
    return Limit(name, slots, decay)


def _undefined(where: str, name: str, known: Iterable[str]) -> ConfigurationError:
    there_are = f"there are {', '.join(map(repr, known))}" if known else "there are none"
    return ConfigurationError(
        f"{where}: no such limit is defined; {there_are}. Define it in the setting concurrency_limits "
        f"([tool.durable.concurrency_limits] in pyproject.toml: {name!r} = 5), or say limit=5 in the call; "
        "strict=False takes an undefined limit for none"
    )


def _warn_undefined(where: str, name: str) -> None:
    if name not in _warned:
        _warned.add(name)
        _log.warning("%s: no such limit is defined, so nothing is limited", where)
