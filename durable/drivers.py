"""The loops that run a user's function and wait: one for each kind of function, and no policy in any of them.

What to do is decided by the call they drive (`durable.call.Call`, `durable.flowcall.FlowCall`), whose docstring states
the contract. The exception of a final failure is re-raised by a bare ``raise``, so that no frame of ours is added to
it.
"""

from __future__ import annotations

from typing import Any, Protocol

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

    @property
    def definition(self) -> Any: ...  # noqa: D102
    def replay(self) -> Entry | None: ...  # noqa: D102
    def started(self) -> Entry | None: ...  # noqa: D102
    def enter(self) -> None: ...  # noqa: D102
    def leave(self) -> None: ...  # noqa: D102
    def returned(self, value: Any) -> Entry | None: ...  # noqa: D102
    def raised(self, error: BaseException) -> Entry | None: ...  # noqa: D102
    def outcome(self) -> Any: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


def drive(call: Driven) -> Any:
    """Drive a call of a plain function on this thread."""
    commit = call.journal.commit
    try:
        if (entry := call.replay()) is not None:
            commit(entry)
        while not call.done:
            if (entry := call.started()) is not None:
                commit(entry)
            call.enter()
            try:
                value = call.definition.fn(*call.args, **call.kwargs)
            except BaseException as error:
                call.leave()
                if (entry := call.raised(error)) is not None:
                    commit(entry)
                if call.propagates:
                    raise
                if not call.done and call.delay:
                    clock().sleep(call.delay)
            else:
                call.leave()
                if (entry := call.returned(value)) is not None:
                    commit(entry)
        return call.outcome()
    finally:
        call.close()


async def drive_async(call: Driven) -> Any:
    """Drive a call of a coroutine function on the running event loop; commits are shared by the turn of the loop."""
    from asyncio import get_running_loop  # a loop is running, so this is a look-up; `import durable` does without

    loop, commit_soon = get_running_loop(), call.journal.commit_soon
    try:
        if (entry := call.replay()) is not None:
            await commit_soon(entry, loop)
        while not call.done:
            if (entry := call.started()) is not None:
                await commit_soon(entry, loop)
            call.enter()
            try:
                value = await call.definition.fn(*call.args, **call.kwargs)
            except BaseException as error:
                call.leave()
                if (entry := call.raised(error)) is not None:
                    # Not awaited: a cancelled coroutine may not get another turn.
                    call.journal.commit(entry)
                if call.propagates:
                    raise
                if not call.done and call.delay:
                    await clock().sleep_async(call.delay)
            else:
                call.leave()
                if (entry := call.returned(value)) is not None:
                    await commit_soon(entry, loop)
        return call.outcome()
    finally:
        call.close()
