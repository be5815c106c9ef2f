"""What every task runner does: keep count of what was submitted, start it when it can, and end with the flow.

A runner given to ``@flow(task_runner=...)`` is a description; each flow run works with a `duplicate` of it, made when
it first submits. Rules:

1. A call that waits for others holds no worker: it is handed to `_start` when the last of them has ended.
2. Who waits in a worker gives its place up meanwhile (`blocked`), so nested calls cannot lock a bounded pool.
3. At most `BACKLOG` calls that could run wait for a worker; whoever submits more waits until there is room.
4. When the flow's body has returned, all that was submitted is waited for; a failure nobody asked about fails the flow.
   When the body has raised, what has not begun is called off and what runs is waited for; SIGTERM and a second Ctrl-C
   abandon it, for a resume to run again.
5. The newest `HELD` values are kept by their futures; older ones are read from the journal again.
6. Async tasks run on the event loop they were submitted on; where there is none, on one loop beside the flow.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, ClassVar, Final

from durable.drivers import drive_async, drive_async_generator
from durable.errors import ConfigurationError, DurableError, SubmittedTaskFailed, TerminationSignal
from durable.futures import Future
from durable.generation import GeneratorCall
from durable.options import TaskOptions
from durable.outcomes import message_of
from durable.states import CANCELLED, State

if TYPE_CHECKING:
    from durable.call import Call

BACKLOG: Final = 1000  # calls that wait for a worker
HELD: Final = 1000  # values kept by their futures
_log = logging.getLogger("durable")


def _no_block() -> Iterator[None]:
    yield


class TaskRunner:
    """The base of task runners. Subclasses say how a plain function's call is executed (`_start`)."""

    ships: ClassVar[bool] = False  # bodies are executed elsewhere, those of async tasks too (see `shipping`)

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a future may end while its own lock is held by who submits it
        self._room = threading.Condition(self.lock)
        self._unfinished: set[Future[Any]] = set()
        self._failed: list[Future[Any]] = []
        self._held: deque[Future[Any]] = deque()
        self._queued = 0
        self._closing = False
        self._loop_thread: _LoopThread | None = None
        self.on_loop = False  # the flow is a coroutine: its async tasks run on its event loop

    # What subclasses say.

    def duplicate(self) -> TaskRunner:
        """Another runner like this one, for one flow run."""
        raise NotImplementedError

    def _start(self, future: Future[Any]) -> None:
        """Execute a plain function's call as soon as there is a worker: `begins`, and then `ends` or `breaks`."""
        raise NotImplementedError

    def _close(self) -> None:
        """Nothing more will be submitted, and nothing runs."""

    def blocked(self) -> Any:
        """A context in which this thread waits for something another worker may have to do (rule 2)."""
        return contextmanager(_no_block)()

    # What a flow calls.

    def submit(self, call: Call) -> Future[Any]:
        """Run a call as soon as what it waits for has ended and there is a worker."""
        future: Future[Any] = Future(call, self)
        future.context = copy_context()
        if self.on_loop and call.definition.is_async and not self.ships:
            future.loop = _running_loop()
        with self.lock:
            self._unfinished.add(future)
        others = call.awaited()
        if others:
            future.waits_for(others, self._ready)
        else:
            self._ready(future)
            if (future.loop is None or self.ships) and self._queued > BACKLOG:
                self._wait_for_room()
        return future

    def join(self) -> None:
        """Wait until everything has ended (rule 4).

        Raises:
            SubmittedTaskFailed: a task run failed and nobody asked.
        """
        while (future := self._any_unfinished()) is not None:
            future.wait()
        self._ended()

    async def join_async(self) -> None:
        """As `join`, from the event loop."""
        while (future := self._any_unfinished()) is not None:
            await future.settled()
        self._ended()

    def stop(self, error: BaseException) -> None:
        """The flow's body raised `error`: call off what has not begun, and wait for what runs (rule 4)."""
        if self._call_off(error):
            try:
                while (future := self._any_unfinished()) is not None:
                    future.wait()
            except (KeyboardInterrupt, SystemExit):
                _log.warning("%d running task runs are abandoned; a resume runs them again", len(self._unfinished))
                return
            self._end_quietly()

    async def stop_async(self, error: BaseException) -> None:
        """As `stop`, from the event loop."""
        from asyncio import CancelledError  # the loop is running, so this is a look-up

        if self._call_off(error):
            try:
                while (future := self._any_unfinished()) is not None:
                    await future.settled()
            except CancelledError:
                _log.warning("%d running task runs are abandoned; a resume runs them again", len(self._unfinished))
                return
            self._end_quietly()

    def cancel(self, future: Future[Any]) -> bool:
        """Call a future off if its body has not begun; stop an async one at its next ``await``."""
        with self.lock:
            if future.done():
                return False
            future.cancelling = True
            handle, future.call.called_off = future.loop_task, True
        if handle is not None:
            future.loop.call_soon_threadsafe(handle.cancel)
            return True
        return not future.call.attempt

    def check_may_block(self, future: Future[Any]) -> None:
        """Refuse to block the event loop that a future needs.

        Raises:
            ConfigurationError: it would wait for ever.
        """
        loop = _running_loop()
        if loop is not None and self.on_loop and future.needs_loop(loop):
            raise ConfigurationError(
                f"the result of {future.name!r} was asked for on the event loop that it needs to run: use "
                "`await future` (or `await asyncio.gather(*futures)`) in a coroutine"
            )

    def notify(self, callback: Callable[[Any], Any], future: Future[Any]) -> None:
        """Call back; what a callback raises is logged."""
        try:
            callback(future)
        except Exception:  # noqa: BLE001 - what a callback raises is logged, whatever it is
            _log.exception("A callback of %s raised", future.name)

    # What subclasses call, from any thread.

    def begins(self, future: Future[Any]) -> bool:
        """A worker takes the future. False: it was called off, and has ended."""
        with self.lock:
            self._queued -= 1
            self._room.notify()
            if not (future.cancelling or self._closing):
                return True
        self._end_cancelled(future)
        return False

    def ends(self, future: Future[Any], state: Any) -> None:
        """It ended in a state."""
        options = future.call.definition.options
        future.ends(state)
        with self.lock:
            self._unfinished.discard(future)
            if state.is_completed():
                self._hold(future, options)
            elif not state.is_cancelled():
                self._failed.append(future)

    def breaks(self, future: Future[Any], error: BaseException) -> None:
        """It ended in what is no failure of the task."""
        future.ends(None, error)
        with self.lock:
            self._unfinished.discard(future)
            self._failed.append(future)

    # How it goes on.

    def _ready(self, future: Future[Any]) -> None:
        """What it waited for has ended."""
        if self.ships or not future.call.definition.is_async:
            with self.lock:
                self._queued += 1
            self._start(future)
            return
        if future.loop is None:
            future.loop = self._own_loop()
        if future.loop is _running_loop():
            self._start_async(future)
        else:
            future.loop.call_soon_threadsafe(self._start_async, future)

    def _own_loop(self) -> Any:
        """The event loop beside the flow."""
        with self.lock:
            if self._loop_thread is None:
                self._loop_thread = _LoopThread()
            return self._loop_thread.loop

    def _start_async(self, future: Future[Any]) -> None:
        with self.lock:
            called_off = future.cancelling or self._closing
        if called_off:
            self._end_cancelled(future)
            return
        # On Python 3.10 create_task has no context of its own to be given.
        future.loop_task = future.context.run(future.loop.create_task, self._run_async(future))

    async def _run_async(self, future: Future[Any]) -> None:
        call = future.call
        try:
            if isinstance(call, GeneratorCall):
                state = collected(call, [value async for value in drive_async_generator(call)])
            else:
                state = await drive_async(call)
        except BaseException as error:
            from asyncio import CancelledError  # the loop is running, so this is a look-up

            if isinstance(error, CancelledError) and call.kind is CANCELLED:
                self.ends(future, call.state())
                return
            self.breaks(future, error)
            if not isinstance(error, Exception):
                raise
        else:
            self.ends(future, state)

    def _end_cancelled(self, future: Future[Any]) -> None:
        call = future.call
        try:
            if (entry := call.cancelled()) is not None:
                call.journal.commit(entry)
            state = call.state()
        except DurableError as error:  # it could not be recorded
            self.breaks(future, error)
        else:
            self.ends(future, state)

    def _hold(self, future: Future[Any], options: TaskOptions) -> None:
        """Keep a value for a while (rule 5); one that was not recorded stays."""
        if not options.persist_result or future.is_list:
            return
        held = self._held
        held.append(future)
        if len(held) > HELD or not options.cache_result_in_memory:
            (held.popleft() if options.cache_result_in_memory else held.pop()).forget()

    def _wait_for_room(self) -> None:
        with self.blocked(), self.lock:
            while self._queued > BACKLOG:
                self._room.wait()

    def _any_unfinished(self) -> Future[Any] | None:
        with self.lock:
            return next(iter(self._unfinished), None)

    def _call_off(self, error: BaseException) -> bool:
        """Begin nothing more. Whether what runs is to be waited for."""
        with self.lock:
            self._closing = True
            running = [future for future in self._unfinished if future.call.attempt]
        if isinstance(error, TerminationSignal) or type(error).__name__ == "GeneratorExit":
            return False
        if running and isinstance(error, KeyboardInterrupt):
            _log.warning("waiting for %d running task runs; Ctrl-C again abandons them", len(running))
        return True

    def _end_quietly(self) -> None:
        with self.lock:
            self._failed.clear()
            self._closing = False
        self._close_all()

    def _ended(self) -> None:
        """All have ended."""
        with self.lock:
            failed, self._failed = self._failed, []
        self._close_all()
        told = [(future, error) for future in failed if (error := future.failure()) is not None]
        for future, error in told:
            if future.broken is not None:
                raise error
        if told:
            future, error = told[0]
            raise SubmittedTaskFailed(len(told), f"{future.name}: {message_of(error)}") from error

    def _close_all(self) -> None:
        self._close()
        with self.lock:
            thread, self._loop_thread = self._loop_thread, None
        if thread is not None:
            thread.close()


def collected(call: GeneratorCall, values: list[Any]) -> State[Any]:
    """How a submitted generator ended: its result is the list of what it yielded."""
    return call.state() if call.error is not None else call.state_of(values)


class _LoopThread:
    """One event loop in a thread of its own, for the async tasks of a flow that has none."""

    def __init__(self) -> None:
        from asyncio import new_event_loop  # only where async tasks are submitted from plain code

        self.loop = new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="durable-loop", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the loop, once nothing runs on it."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


def _running_loop() -> Any:
    """The event loop that runs in this thread, or None; without importing asyncio for those who never use it."""
    import sys

    asyncio = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()  # noqa: SLF001 - the documented one raises instead
