"""Tags given for a stretch of code instead of a task. Borrowed from Prefect 3's ``tags``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from durable.errors import ConfigurationError

current_tags: ContextVar[frozenset[str]] = ContextVar("durable_current_tags", default=frozenset())


@contextmanager
def tags(*names: str) -> Iterator[frozenset[str]]:
    """Give every flow run and task run called in the block these tags, beside those of its flow or task.

    Blocks nest by union, and follow the context into coroutines and into threads that copy it. Tags of a call, unlike
    those of a task, are no part of what identifies it.

    Args:
        names: the tags.

    Yields:
        All tags in force in the block.

    Raises:
        ConfigurationError: a tag that is no str.
    """
    for name in names:
        if not isinstance(name, str):
            raise ConfigurationError(f"tags({name!r}): every tag must be a str")
    token = current_tags.set(current_tags.get() | set(names))
    try:
        yield current_tags.get()
    finally:
        current_tags.reset(token)
