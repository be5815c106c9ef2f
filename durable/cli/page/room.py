"""Text from a journal, made fit for a page: on one line, cut to a length, and within the room the page has left."""

from __future__ import annotations

from typing import Final

from durable.phrases import safe

PAGE_BYTES: Final = 1_200_000  # for text out of the journal; with numbers and markup a page stays below 3 MB
_LEFT_OUT: Final = "…"


class Room:
    """Hands out text until the page is full; from then on only an ellipsis.

    Attributes:
        full: something was left out for want of room.
    """

    def __init__(self, size: int = PAGE_BYTES) -> None:
        self._left = size
        self.full = False

    def line(self, text: object, longest: int = 160) -> str:
        """`text` on one line of at most `longest` characters."""
        found = text if isinstance(text, str) else str(text)
        return self._taken(_cut(safe(found[: longest + 1]), longest))

    def lines(self, text: str, longest: int) -> str:
        """`text` with its line breaks; of a long one the end, which says most in a traceback."""
        if len(text) > longest:
            text = f"{_LEFT_OUT}\n{text[-longest:]}"
        return self._taken("\n".join(safe(line) for line in text.split("\n")))

    def _taken(self, text: str) -> str:
        size = len(text.encode("utf-8", "replace")) + 5 * sum(text.count(each) for each in "<>&'\"\\\u2028\u2029")
        return text if self.takes(size) else _LEFT_OUT

    def takes(self, size: int) -> bool:
        """Whether there is room for `size` bytes more; it is used up by asking."""
        if size > self._left:
            self.full = True
            return False
        self._left -= size
        return True


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}{_LEFT_OUT}"
