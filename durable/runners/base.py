"""What every task runner does: keep count of what was submitted, start it when it can, and end with the flow.

A runner given to ``@flow(task_runner=...)`` is a description; each flow run works with a `duplicate` of it, made when
it first submits. Rules:

1. A call that waits for others holds no place: it is handed on when the last of them has ended.
2. A task run that waits for another gives its place up meanwhile, and takes it again when it goes on, even if all are
   taken by then. So nested calls cannot lock a bounded pool, and for moments more may execute than it has places.
3. At most `BACKLOG` calls that could run wait for a place; a thread that submits more waits until half of them are
   gone. An event loop is never made to wait: there the rest is queued.
4. When the flow's body has returned, all that was submitted is waited for; a failure nobody asked about fails the flow.
   When the body has raised, what has not begun, or waits for another attempt, is called off, and what runs is waited
   for; SIGTERM and a second Ctrl-C abandon it. A resume runs either again.
5. The newest outcomes are kept by their futures, older ones are read from the journal again (`durable.runners.kept`).
6. Async tasks run on the flow's own event loop; where it has none, on one loop beside it (`durable.runners.loops`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, ClassVar, Final

from durable.clock import as_datetime, clock
from durable.errors import ConfigurationError, DurableError
from durable.futures import Future, giving_way
from durable.generation import GeneratorCall
from durable.interrupts import HEARD, give_up, wait_for
from durable.outcomes import message_of
from durable.rests import call_off, look_again
from durable.runners.kept import Outcomes
from durable.runners.loops import AT_ONCE, Coroutines, running_loop
from durable.runners.stopping import Stopping
from durable.runners.tally import Tally
from durable.states import CRASHED, State

if TYPE_CHECKING:
    from durable.call import Call
    from durable.runs import FlowRun

BACKLOG: Final = 1000  # calls that wait for a place
_log = logging.getLogger("durable")


class TaskRunner:
    """The base of task runners. Subclasses say how a plain function's call is executed (`_start`).

    Attributes:
        lock: guards what the runner and its futures know.
        run: the flow run it works for.
        ships: bodies are executed elsewhere, those of async tasks too, so that `_start` gets them all.
        coroutines: the async task runs.
        tally: how many were submitted, and how they ended.
        closing: nothing more begins, not even another attempt.
    """

    ships: ClassVar[bool] = False

    def __init__(self, async_at_once: int = AT_ONCE) -> None:
        self.lock = threading.RLock()  # a future may end while its own lock is held by who submits it
        self.run: FlowRun | None = None
        self.coroutines = Coroutines(self, async_at_once)
        self.tally = Tally()
        self._room = threading.Condition(self.lock)
        self._unfinished: set[Future[Any]] = set()
        self._when_idle: list[Callable[[], Any]] = []
        self._outcomes = Outcomes()
        self._queued = 0  # calls that could run and have not begun
        self._without_room = 0  # threads that wait to submit
        self.closing = False
        self._called_off: list[Future[Any]] = []  # what is to end without having begun

    # What durable calls.
    # Of that, what subclasses say.

    def duplicate(self) -> TaskRunner:
        """Another runner like this one, for one flow run."""
        raise NotImplementedError

    def _start(self, future: Future[Any]) -> None:
        """Execute a plain function's call once it has a place: `begins`, then `ends` or `breaks`. The lock is held."""
        raise NotImplementedError

    def _place_given_up(self, change: int) -> None:
        """One that executes begins (1) or ends (-1) to wait for another one (rule 2). The lock is held."""

    def _close(self) -> None:
        """Nothing more will be submitted, and nothing runs."""

    # What a flow calls.

    def submit(self, call: Call) -> Future[Any]:
        """Run a call as soon as what it waits for has ended and there is a place."""
        future: Future[Any] = Future(call, self, copy_context())
        others = call.awaited() if call.gated else []
        with self.lock:
            self._unfinished.add(future)
            self.tally.submitted += 1
            refused = not (others or self._takes(future))
        if others:
            future.waits_for(others, self._ready)
        elif refused:
            self.end_cancelled(future)
        elif self._queued > BACKLOG and running_loop() is None:
            self._wait_for_room()
        return future

    @contextmanager
    def mapping(self, length: int | None) -> Iterator[Callable[[Call], Future[Any]]]:
        """Many calls are submitted, by the function this gives; `length` is their number, if it is known."""
        tally = self.tally
        with self.lock:
            tally.announce(length, 1)
        try:
            yield self.submit
        finally:
            with self.lock:
                tally.announce(length, -1)

    def join(self) -> None:
        """Wait until everything has ended (rule 4). Raises what no task is to blame for, and nobody can handle."""
        self._wait_until_idle()
        self._close_all()
        self._outcomes.raise_breakage()

    async def join_async(self) -> None:
        """As `join`, from the event loop."""
        await self._wait_until_idle_async()
        self._close_all()
        self._outcomes.raise_breakage()

    def raise_unhandled(self) -> None:
        """All have ended, and what the flow returns was looked at.

        Raises:
            SubmittedTaskFailed: a task run failed and nobody asked.
        """
        self._outcomes.raise_unhandled()

    def stop(self, error: BaseException, *, abandon: bool) -> BaseException | None:
        """The flow's body raised `error`: call off what has not begun, and wait for what runs (rule 4).

        Args:
            error: what it raised.
            abandon: do not wait.

        Returns:
            The interruption that arrived meanwhile, if the error was none.
        """
        stopping = Stopping(error, abandon=abandon)
        while stopping.waits:
            with stopping:
                self._call_off(stopping.cause)
                self._wait_until_idle()
        return self._stopped(stopping)

    async def stop_async(self, error: BaseException, *, abandon: bool) -> BaseException | None:
        """As `stop`, from the event loop."""
        stopping = Stopping(error, abandon=abandon)
        while stopping.waits:
            with stopping:
                self._call_off(stopping.cause)
                await self._wait_until_idle_async()
        return self._stopped(stopping)

    # What futures call.

    def cancel(self, future: Future[Any]) -> bool:
        """Call off one that has not begun or waits for another attempt; stop an async one at its next ``await``."""
        with self.lock:
            if future.done():
                return future.cancelled()
            if future.cancelling:
                return True
            if future.begun and future.loop_task is None:
                future.cancelling = call_off(future.call)
                return future.cancelling
            task, loop, call = future.loop_task if future.begun else None, future.loop, future.call
            future.cancelling = call.called_off = True
        if task is None:
            self._end_waiting(future)
        else:
            loop.call_soon_threadsafe(task.cancel)
        return True

    def check_may_block(self, future: Future[Any]) -> None:
        """Refuse to block the event loop that a future needs.

        Raises:
            ConfigurationError: it would wait for ever.
        """
        loop = running_loop()
        if loop is not None and future.needs_loop(loop):
            raise ConfigurationError(
                f"the result of {future.name!r} was asked for on the event loop that it needs to run: use "
                "`await future` (or `await asyncio.gather(*futures)`) in a coroutine"
            )

    def flow_loop(self) -> Any:
        """The event loop of the flow; None if it is a plain function."""
        return self.run.loop if self.run is not None else None

    def gives_way(self, future: Future[Any], change: int) -> None:
        """A wait of its body for another task run begins (1) or ends (-1)."""
        with self.lock:
            before, future.waits = future.waits, future.waits + change
            if (before > 0) != (future.waits > 0) and not future.done():
                self._give_up_place(future, change)

    def is_abandoned(self) -> bool:
        """Whether the flow was given up, so that nothing more is recorded."""
        return self.run is not None and self.run.root.abandoned

    def notify(self, callback: Callable[[Any], Any], future: Future[Any]) -> None:
        """Call back; what a callback raises is logged."""
        try:
            callback(future)
        except Exception:  # noqa: BLE001 - what a callback raises is logged, whatever it is
            _log.exception("A callback of %s raised", future.name)

    # What subclasses call, from any thread.

    def begins(self, future: Future[Any]) -> bool:
        """There is a place for the future. False: it was called off, and must not begin. The lock is held."""
        self._leaves_queue()
        if future.cancelling:
            return False
        future.begun = True
        return True

    def ends(self, future: Future[Any], state: State[Any]) -> None:
        """It ended in a state."""
        call = future.call
        executed = future.begun and call.attempt > 0
        try:
            future.ends(state)
        finally:
            with self.lock:
                if future.waits:
                    self._give_up_place(future, -1)
                self._unfinished.discard(future)
                self.tally.count(state, executed=executed)
                self._outcomes.add(future, call, state)
                woken: list[Callable[[], Any]] = []
                if not self._unfinished:
                    woken, self._when_idle = self._when_idle, woken
            for wake in woken:
                wake()

    def breaks(self, future: Future[Any], error: BaseException) -> None:
        """It ended in what is no failure of the task."""
        now = as_datetime(clock().now())
        self.ends(future, State(CRASHED, message_of(error), now, future.task_run_id, error))

    def end_cancelled(self, future: Future[Any]) -> None:
        """It was called off outside of its body."""
        call = future.call
        try:
            if (entry := call.cancelled()) is not None:
                call.journal.commit(entry)
            state = call.state()
        except DurableError as error:  # it could not be recorded
            self.breaks(future, error)
        else:
            self.ends(future, state)

    # How it goes on.

    def _end_waiting(self, future: Future[Any]) -> None:
        """It was called off and has not begun."""
        self.end_cancelled(future)

    def _leaves_queue(self) -> None:
        """One less waits for a place. The lock is held."""
        self._queued -= 1
        if self._without_room and self._queued <= BACKLOG // 2:
            self._room.notify_all()

    def _give_up_place(self, future: Future[Any], change: int) -> None:
        if future.loop is not None and not self.ships:
            self.coroutines.place_given_up(change)
        else:
            self._place_given_up(change)

    def _ready(self, future: Future[Any]) -> None:
        """What it waited for has ended."""
        with self.lock:
            refused = not (future.cancelling or self._takes(future))
        if refused:
            self.end_cancelled(future)

    def _takes(self, future: Future[Any]) -> bool:
        """It begins once there is a place. False: nothing more begins, and it is to be ended. The lock is held."""
        if self.closing:
            future.cancelling = True
            return False
        self._queued += 1
        if future.definition.is_async and not self.ships:
            self.coroutines.start(future)
        else:
            self._start(future)
        return True

    def _wait_for_room(self) -> None:
        with giving_way(), self.lock:
            self._without_room += 1
            try:
                while self._queued > BACKLOG // 2:
                    self._room.wait(HEARD)
            finally:
                self._without_room -= 1

    def _is_idle(self, wake: Callable[[], Any]) -> bool:
        """Whether nothing is unfinished; if something is, `wake` is called when it no longer is."""
        with self.lock:
            if self._unfinished:
                self._when_idle.append(wake)
            return not self._unfinished

    def _wait_until_idle(self) -> None:
        idle = threading.Event()
        while not self._is_idle(idle.set):
            with giving_way():
                wait_for(idle)
            idle.clear()

    async def _wait_until_idle_async(self) -> None:
        from asyncio import Event, get_running_loop  # the loop is running, so this is a look-up

        idle, loop = Event(), get_running_loop()
        while not self._is_idle(lambda: loop.call_soon_threadsafe(idle.set)):
            with giving_way():
                await idle.wait()
            idle.clear()

    def _call_off(self, error: BaseException) -> None:
        """Begin nothing more, and end what has not begun. May be interrupted, and called again."""
        self._begin_nothing_more()
        look_again()
        while self._called_off:
            future = self._called_off[-1]
            if not future.done():
                self._end_waiting(future)
            self._called_off.pop()
        with self.lock:
            running = sum(future.begun for future in self._unfinished)
        if running and not isinstance(error, Exception):
            _log.warning("waiting for %d running task runs; Ctrl-C again abandons them", running)

    def _begin_nothing_more(self) -> None:
        with self.lock:
            if not self._called_off:
                self._called_off = [future for future in self._unfinished if not (future.begun or future.cancelling)]
            for future in self._called_off:  # all, before the first ends: none is handed on by the end of another
                future.cancelling = True
            self.closing = True

    def _give_up(self) -> None:
        """Wait no longer; whatever still runs records nothing more (rule 4)."""
        give_up()
        self._begin_nothing_more()
        if self.run is not None:
            self.run.root.abandoned = True
        with self.lock:
            running = sum(future.begun for future in self._unfinished)
        if running:
            _log.warning("%d running task runs are abandoned; a resume runs them again", running)

    def _stopped(self, stopping: Stopping) -> BaseException | None:
        if stopping.idle:
            self._outcomes.failures()
            self.closing = False
            self._close_all()
        else:
            self._give_up()
        return stopping.interruption

    def _close_all(self) -> None:
        self._close()
        self.coroutines.close()


def collected(call: GeneratorCall, values: list[Any]) -> State[Any]:
    """How a submitted generator ended: its result is the list of what it yielded."""
    return call.state() if call.error is not None else call.state_of(values)
