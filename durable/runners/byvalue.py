"""Pickling for workers that do not import the script: what is defined there travels by value, with cloudpickle.

cloudpickle knows functions and classes. A task that such a function calls travels as a stand-in, which does what a task
does in a worker process: it is a plain function, and says so.
"""

from __future__ import annotations

import io
from typing import Any

from durable.runs import current


class StandIn:
    """A task of the script, in a worker process.

    Args:
        where: the function with its file and line, for messages.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.fn: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        scope = current.get()
        return self.fn(*args, **kwargs) if scope is None else scope.plainly(self, args, kwargs)


def cloudpickled(value: Any) -> bytes:
    """As bytes, functions and tasks of the script by value."""
    from cloudpickle import Pickler  # comes with distributed, and with loky

    class ByValue(Pickler):  # type: ignore[misc]  # mypy does not look into cloudpickle
        def reducer_override(self, found: Any) -> Any:
            if getattr(type(found), "decorator", None) == "@task" and found.__module__ == "__main__":
                # Its function comes as the state, after the stand-in itself: it may call itself.
                return StandIn, (found.definition.where,), {"fn": found.fn}
            return super().reducer_override(found)

    file = io.BytesIO()
    ByValue(file).dump(value)
    return file.getvalue()
