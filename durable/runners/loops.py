"""The async task runs of a task runner, on an event loop.

Rules:

1. They run on the flow's own loop, wherever they were submitted; where the flow is a plain function, on one loop in a
   thread beside it.
2. At most so many have begun at once: a million coroutines that were all started hold a million frames, sockets and
   contexts. The rest is queued, at the cost of the call and its arguments. One that awaits a task run does not count.
3. Whatever ends one is told to its future. Only an interruption that a signal raised in the flow's own loop goes on to
   the loop, which it has to stop.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, Final, Protocol

from durable.drivers import drive_async, drive_async_generator
from durable.futures import Future, executing
from durable.generation import GeneratorCall
from durable.runners.queue import WorkQueue
from durable.states import AWAITING_RETRY, CANCELLED, CRASHED, State

AT_ONCE: Final = 1000  # async task runs that have begun and do not wait for another one


class Host(Protocol):
    """What coroutines need of the runner whose async task runs they are (`durable.runners.base.TaskRunner`)."""

    lock: threading.RLock

    def flow_loop(self) -> Any:
        """The event loop of the flow, or None."""

    def begins(self, future: Future[Any]) -> bool:
        """There is a place for the future; False if it must not begin. The lock is held."""

    def ends(self, future: Future[Any], state: State[Any]) -> None:
        """It ended in a state."""

    def breaks(self, future: Future[Any], error: BaseException) -> None:
        """It ended in what is no failure of the task."""

    def end_cancelled(self, future: Future[Any]) -> None:
        """It was called off outside of its body."""


class Coroutines:
    """The async task runs of one runner."""

    def __init__(self, runner: Host, at_once: int) -> None:
        self.at_once = at_once
        self._runner = runner
        self._work: WorkQueue[Future[Any]] = WorkQueue()
        self._running = 0
        self._filling = False  # a turn of the loop that begins what there is room for is on its way
        self._loop: Any = None
        self._own: LoopThread | None = None

    def start(self, future: Future[Any]) -> None:
        """Execute one as soon as there is a place. The lock is held."""
        if self._loop is None:
            self._loop = self._runner.flow_loop()
            if self._loop is None:
                self._own = LoopThread()
                self._loop = self._own.loop
        future.loop = self._loop
        self._work.put(future, future.depth)
        self._fill_soon()

    def place_given_up(self, change: int) -> None:
        """One begins (1) or ends (-1) to await another task run. The lock is held."""
        self._running -= change
        self._fill_soon()

    def close(self) -> None:
        """Nothing runs; end the loop if it is ours."""
        with self._runner.lock:
            own, self._own, self._loop = self._own, None, None
        if own is not None:
            own.close()

    def _fill_soon(self) -> None:
        if self._filling or not self._work.size or self._running >= self.at_once:
            return
        self._filling = True
        self._loop.call_soon_threadsafe(self._fill)

    def _fill(self) -> None:
        while True:
            with self._runner.lock:
                self._filling = False
                if not self._work.size or self._running >= self.at_once:
                    return
                future = self._work.pop()
                if not self._runner.begins(future):
                    continue
                self._running += 1
            assert future.context is not None  # noqa: S101 - it has one until it ends
            # On Python 3.10 create_task has no context of its own to be given.
            future.loop_task = future.context.run(self._loop.create_task, self._run(future))

    async def _run(self, future: Future[Any]) -> None:
        call = future.call
        executing.set(future)
        try:
            if isinstance(call, GeneratorCall):
                values = [value async for value in drive_async_generator(call)]
                state = call.state() if call.error is not None else call.state_of(values)
            else:
                state = await drive_async(call)
        except BaseException as error:
            self._one_ended()
            if type(error).__name__ == "CancelledError" and was_called_off(self._runner, future):
                return
            self._runner.breaks(future, error)
            if self._own is None and isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
        else:
            self._one_ended()
            self._runner.ends(future, state)

    def _one_ended(self) -> None:
        with self._runner.lock:
            self._running -= 1
            self._fill_soon()


def was_called_off(runner: Host, future: Future[Any]) -> bool:
    """A cancellation came out of its driver. Whether it was asked for, or too late; the future has ended then."""
    call = future.call
    if call.kind is CANCELLED:
        runner.ends(future, call.state_of(None))
    elif call.done and call.kind is not None and call.kind is not CRASHED:  # it waited for its last commit only
        runner.ends(future, call.state())
    elif future.cancelling or call.kind is AWAITING_RETRY:  # it waited for its first commit, or for another attempt
        runner.end_cancelled(future)
    else:
        return False
    return True


class LoopThread:
    """One event loop in a thread of its own."""

    def __init__(self) -> None:
        from asyncio import new_event_loop  # only where async tasks are submitted from plain code

        self.loop = new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="durable-loop", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the loop, once nothing runs on it."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


def running_loop() -> Any:
    """The event loop that runs in this thread, or None; without importing asyncio for those who never use it."""
    asyncio = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()  # noqa: SLF001 - the documented one raises instead
