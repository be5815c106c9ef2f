"""What those who write a journal and those who read it must know alike: the file's marks, and how values are bound.

Apart from both, for the reader needs nothing else of what writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

APPLICATION_ID: Final = 0x64757262  # "durb": file(1) and other programs can tell a journal from any other database
VERSION: Final = 2  # PRAGMA user_version of the journals this release writes


def bound(text: str, parameters: Sequence[Any]) -> Sequence[Any] | dict[str, Any]:
    """What to bind to a statement. One that uses a parameter twice calls them ``:a`` and ``:b``, in order.

    SQLite's own ``?1`` is taken for a name by Python 3.12.0 to 3.12.3, which warn of it (python/cpython#117995).
    """
    return dict(zip("ab", parameters, strict=False)) if ":a" in text else parameters
