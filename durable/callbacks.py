"""Calling what the user handed us: hooks and retry conditions, sync or async.

A callback that raises is logged and disturbs nothing else. An async one gives an awaitable that cannot raise either; an
async driver awaits it, a sync one settles it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from inspect import isawaitable
from typing import Any

_log = logging.getLogger("durable")


def fire(callback: Callable[..., Any], *args: Any) -> Any:
    """Call a callback: its result, an awaitable of it, or None if it raised."""
    try:
        result = callback(*args)
    except Exception:  # noqa: BLE001 - what a callback raises is logged, whatever it is
        _say_that_it_raised(callback)
        return None
    return _guarded(callback, result) if isawaitable(result) else result


async def _guarded(callback: Callable[..., Any], awaitable: Awaitable[Any]) -> Any:
    try:
        return await awaitable
    except Exception:  # noqa: BLE001 - what a callback raises is logged, whatever it is
        _say_that_it_raised(callback)
        return None


def settle(awaitable: Awaitable[Any]) -> Any:
    """Finish an async callback from synchronous code: on an event loop of its own, in a thread of its own."""
    from asyncio import run  # `import durable` does without these
    from concurrent.futures import ThreadPoolExecutor

    async def wait() -> Any:
        return await awaitable

    with ThreadPoolExecutor(1) as executor:
        return executor.submit(copy_context().run, run, wait()).result()


def _say_that_it_raised(callback: Callable[..., Any]) -> None:
    _log.exception("An error was encountered while running hook %r", getattr(callback, "__name__", repr(callback)))
