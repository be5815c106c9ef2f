"""The loops that run a user's function and wait: one for each kind of function, and no policy in any of them.

What to do is decided by the call they drive (`durable.call.Call`, `durable.flowcall.FlowCall`), whose docstring states
the contract. The exception of a final failure is re-raised by a bare ``raise``, so that no frame of ours is added to
it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from durable.callbacks import settle
from durable.clock import clock
from durable.journal import Entry, Journal


class Driven(Protocol):
    """What a driver needs of a call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    done: bool
    propagates: bool
    delay: float
    journal: Journal
    unit: Any

    @property
    def definition(self) -> Any: ...  # noqa: D102
    def replay(self) -> Entry | None: ...  # noqa: D102
    def started(self) -> Entry | None: ...  # noqa: D102
    def enter(self) -> None: ...  # noqa: D102
    def leave(self) -> None: ...  # noqa: D102
    def returned(self, value: Any) -> Entry | None: ...  # noqa: D102
    def caught(self, error: BaseException) -> Any: ...  # noqa: D102
    def raised(self, retry: bool) -> Entry | None: ...  # noqa: D102, FBT001
    def due(self) -> Iterator[Any]: ...  # noqa: D102
    def outcome(self) -> Any: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


def drive(call: Driven) -> Any:
    """Drive a call of a plain function on this thread."""
    commit, hooked = call.journal.commit, call.definition.options.hooks.any
    try:
        if (entry := call.replay()) is not None:
            commit(entry)
        if call.unit is not None or (hooked and call.done):
            _tell(call)
        while not call.done:
            if (entry := call.started()) is not None:
                commit(entry)
            if hooked:
                _tell(call)
            try:
                call.enter()
                value = call.definition.fn(*call.args, **call.kwargs)
                call.leave()
            except BaseException as error:
                call.leave()
                retry = call.caught(error)
                if (entry := call.raised(retry if isinstance(retry, bool) else bool(settle(retry)))) is not None:
                    commit(entry)
                    if hooked or call.unit is not None:
                        _tell(call)
                if call.propagates:
                    raise
                if not call.done and call.delay:
                    clock().sleep(call.delay)
            else:
                if (entry := call.returned(value)) is not None:
                    commit(entry)
                    if hooked or call.unit is not None:
                        _tell(call)
        return call.outcome()
    finally:
        call.close()


def _tell(call: Driven) -> None:
    for awaitable in call.due():
        settle(awaitable)


async def drive_async(call: Driven) -> Any:
    """Drive a call of a coroutine function on the running event loop; commits are shared by the turn of the loop."""
    from asyncio import get_running_loop  # a loop is running, so this is a look-up; `import durable` does without

    loop, commit_soon, hooked = get_running_loop(), call.journal.commit_soon, call.definition.options.hooks.any
    try:
        if (entry := call.replay()) is not None:
            await commit_soon(entry, loop)
        if call.unit is not None or (hooked and call.done):
            await _tell_async(call)
        while not call.done:
            if (entry := call.started()) is not None:
                await commit_soon(entry, loop)
            if hooked:
                await _tell_async(call)
            try:
                call.enter()
                value = await call.definition.fn(*call.args, **call.kwargs)
                call.leave()
            except BaseException as error:
                call.leave()
                retry = call.caught(error)
                if (entry := call.raised(retry if isinstance(retry, bool) else bool(await retry))) is not None:
                    # Not awaited: a cancelled coroutine may not get another turn.
                    call.journal.commit(entry)
                    if hooked or call.unit is not None:
                        await _tell_async(call)
                if call.propagates:
                    raise
                if not call.done and call.delay:
                    await clock().sleep_async(call.delay)
            else:
                if (entry := call.returned(value)) is not None:
                    await commit_soon(entry, loop)
                    if hooked or call.unit is not None:
                        await _tell_async(call)
        return call.outcome()
    finally:
        call.close()


async def _tell_async(call: Driven) -> None:
    for awaitable in call.due():
        await awaitable
