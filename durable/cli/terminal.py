"""What a terminal is given: colour only where it is wanted, and no text that could move its cursor."""

from __future__ import annotations

import os
import sys
from typing import Any, Final, Literal

from durable.phrases import safe

Colour = Literal["auto", "always", "never"]

_RED, _GREEN, _YELLOW, _BLUE, _DIM, _BOLD = "31", "32", "33", "34", "2", "1"
_COLOURS: Final = {
    "ok": _GREEN,
    "completed": _GREEN,
    "cached": _BLUE,
    "failed": _RED,
    "timed out": _RED,
    "timedout": _RED,
    "crashed": _RED,
    "lost": _RED,
    "damaged": _RED,
    "rolled back": _YELLOW,
    "running": _YELLOW,
    "running?": _YELLOW,
    "retrying": _YELLOW,
    "waiting": _YELLOW,
    "title": _BOLD,
    "quiet": _DIM,
}


class Screen:
    """Where text goes: standard output, with or without colour, for a person or for a pipe.

    Attributes:
        tty: a person reads it: times are local and in words, long lines are cut at the edge.
        width: columns, or None where lines may be of any length.
    """

    def __init__(self, colour: Colour = "auto") -> None:
        self.tty = sys.stdout.isatty()
        self.width = _columns() if self.tty else None
        self.colour = colour == "always" or (colour == "auto" and _wants_colour(tty=self.tty))

    def paint(self, kind: str, text: str) -> str:
        """`text` in the colour of a state's word, or of a part of the screen."""
        code = _COLOURS.get(kind.lower()) if self.colour else None
        return f"\x1b[{code}m{text}\x1b[0m" if code else text

    def line(self, text: str = "") -> None:
        """Print a line."""
        sys.stdout.write(f"{text}\n")


def _columns() -> int:
    import shutil  # it loads every compression there is, which a pipe need not wait for

    return shutil.get_terminal_size().columns


def _wants_colour(*, tty: bool) -> bool:
    """NO_COLOR and FORCE_COLOR as no-color.org and force-color.org say: any value but the empty one counts."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return tty or bool(os.environ.get("FORCE_COLOR"))


def note(text: str) -> None:
    """Tell people something that is no data."""
    sys.stderr.write(f"durable: {safe(text)}\n")


def clipped(text: str, width: int | None) -> str:
    """Safe `text`, in at most `width` columns."""
    text = safe(text)
    return text if width is None or len(text) <= width else f"{text[: max(width - 1, 0)]}…"


def value_text(value: Any, width: int) -> str:
    """A recorded value in a few characters."""
    try:
        return clipped(repr(value), width)
    except (ValueError, RecursionError):  # an integer of thousands of digits, or nested too deeply to be told
        return f"<{type(value).__name__}>"
