"""The wait between two attempts, in either colour, which ends as soon as nobody wants another attempt.

Rules:

1. It ends at once when its submitted run is called off (`call_off`), or when a flow run around it stops, because its
   body has raised or was interrupted (`look_again`). A cancellation leaves the driver then, and nothing is recorded
   here: the run was between two attempts, so nothing was cut off. A task runner ends what was submitted to it as
   Cancelled; what is around a call that was not submitted is cut off with it.
2. It ends within `_LOOK` seconds when another process asks for the flow run to be cancelled: the attempt that would
   follow notices (`durable.cancelling`).
3. Ctrl-C on the main thread, and a cancellation of the coroutine, end it by themselves.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from durable.clock import clock
from durable.locks import ProcessLock
from durable.runs import FlowRun, Scope

_LOOK: Final = 1.0  # seconds between two looks at what nobody tells

_lock: Final = ProcessLock()
_resting: Final[dict[Any, Callable[[], Any]]] = {}  # calls, and what makes each look up


def rest(call: Any) -> None:
    """Wait `call.delay` seconds on this thread.

    Raises:
        asyncio.CancelledError: rule 1.
    """
    event = threading.Event()
    with _registered(call, event.set) as is_over:
        clock().rest(call.delay, event, is_over, _LOOK)


async def rest_async(call: Any) -> None:
    """As `rest`, on the running event loop."""
    from asyncio import Event, get_running_loop  # a loop is running, so this is a look-up

    event, loop = Event(), get_running_loop()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            loop.call_soon_threadsafe(event.set)

    with _registered(call, wake) as is_over:
        await clock().rest_async(call.delay, event, is_over, _LOOK)


def call_off(call: Any) -> bool:
    """End a submitted call's wait between two attempts. False: it is in no such wait."""
    with _lock:
        wake = _resting.get(call)
        if wake is None:
            return False
        call.called_off = True
        wake()
        return True


def look_again() -> None:
    """A flow run stops: whatever waits in it ends to wait."""
    with _lock:
        for wake in _resting.values():
            wake()


@contextmanager
def _registered(call: Any, wake: Callable[[], Any]) -> Iterator[Callable[[], bool]]:
    scope: Scope = call.scope()
    run = scope.flow_run

    def is_over() -> bool:
        return call.called_off or _is_stopping(run) or (run is not None and run.cancel.asked())

    with _lock:
        _resting[call] = wake
    try:
        yield is_over
    finally:
        with _lock:
            del _resting[call]
    if call.called_off or _is_stopping(run):
        from asyncio import CancelledError  # only where it is raised

        raise CancelledError


def _is_stopping(run: FlowRun | None) -> bool:
    while run is not None:
        if run.runner is not None and run.runner.closing:
            return True
        run = run.called_in.flow_run if run.called_in is not None else None
    return False
