"""What a setting's value may be, as Python or TOML gives it and as text (an environment variable, a command line)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from durable.retries import MAX_DELAYS, is_number


class Kind:
    """One sort of value.

    Attributes:
        expected: what it is, to follow "expected" in a message.
        check: gives the value as it is used; raises ValueError where it cannot be meant.
        read: makes a value of text, still to be checked; raises ValueError or RecursionError.
    """

    __slots__ = ("check", "expected", "read")

    def __init__(self, expected: str, check: Callable[[Any], Any], read: Callable[[str], Any]) -> None:
        self.expected = expected
        self.check = check
        self.read = read


def choice(*words: str) -> Kind:
    """One of `words`, written so."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError
        return value

    return Kind(" or ".join([", ".join(map(repr, words[:-1])), repr(words[-1])]), check, str.strip)


def _path(value: Any) -> str:
    path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(path, str) or not path:
        raise ValueError
    return path


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError
    return value


_FLAGS: Final = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


def _read_flag(text: str) -> Any:
    return _FLAGS.get(text.strip().lower())


def _whole(least: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if type(value) is not int or value < least:
            raise ValueError
        return value

    return check


def _delay(value: Any) -> Any:
    given = list(value) if isinstance(value, (list, tuple)) else [value]
    if len(given) > MAX_DELAYS or not all(is_number(delay) and delay >= 0 for delay in given):
        raise ValueError
    return given if isinstance(value, (list, tuple)) else value


def _level(value: Any) -> str:
    name = value.upper() if isinstance(value, str) else ""
    import logging  # a command that reads settings and logs nothing does without

    if not isinstance(logging.getLevelName(name), int):
        raise ValueError  # noqa: TRY004 - the caller knows one error
    return name


def _which_run(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value.strip().lower()


def _limits(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError  # noqa: TRY004 - the caller knows one error
    found: dict[str, Any] = {}
    for name, given in value.items():
        limit = dict(given) if isinstance(given, Mapping) else {"limit": given}
        decay = limit.get("slot_decay_per_second", 0)
        if not isinstance(name, str) or not name or not is_number(decay) or decay < 0:
            raise ValueError
        if limit.keys() - {"limit", "slot_decay_per_second"}:
            raise ValueError
        _whole(1)(limit.get("limit"))
        found[name] = limit if isinstance(given, Mapping) else given
    return found


PATH: Final = Kind("a path", _path, str)
FLAG: Final = Kind("true or false", _flag, _read_flag)
COUNT: Final = Kind("a whole number, 0 or more", _whole(0), json.loads)
WORKERS: Final = Kind("a whole number, 1 or more", _whole(1), json.loads)
DELAY: Final = Kind(
    f"seconds (a number, 0 or more), or a list of at most {MAX_DELAYS} of them, such as [1, 10, 100]",
    _delay,
    json.loads,
)
LEVEL: Final = Kind("a level such as INFO or WARNING", _level, str.strip)
WHICH_RUN: Final = Kind("'auto', 'never', or the beginning of a flow run's id", _which_run, str)
LIMITS: Final = Kind(
    'a table of names and limits, each a whole number above 0, or {"limit": 30, "slot_decay_per_second": 0.5}',
    _limits,
    json.loads,
)
