"""Task runners that execute bodies elsewhere: in worker processes, in an executor, on a cluster.

Each call is driven on one event loop beside the flow (`durable.drivers.drive_async`), and only its body is sent away.
Rules:

1. Everything that is recorded, decided and told is recorded, decided and told in the driver process, by the same code
   as ever. A worker only executes.
2. A place is taken after the journal was asked and before a start is recorded, and given back when the body has ended:
   what waits for a place has not begun, and a delay before a retry holds none.
3. A worker that dies ends the attempt it was executing (`WorkerDied`): recorded as Crashed and tried again while the
   task has retries, then Failed. A task marked ``on_interrupt="fail"`` is not tried again, and stays Crashed.
4. What is abandoned (SIGTERM, a second Ctrl-C) records nothing more, and its worker is ended where that is possible.
5. Generator tasks are refused: each value is recorded before its consumer has it, which a worker cannot do.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from durable.drivers import drive_async
from durable.errors import ConfigurationError, TaskRunTimeoutError, WorkerDied
from durable.futures import Future
from durable.generation import GeneratorCall
from durable.runners.away import Reply, emit
from durable.runners.base import TaskRunner
from durable.runners.loops import LoopThread, was_called_off
from durable.runners.parcels import Parcel, flow_facts
from durable.states import RETRYING, RUNNING

if TYPE_CHECKING:
    from durable.call import Call


class Lost(Exception):
    """What executed a body died. Internal: the task fails with `WorkerDied`.

    Args:
        worker: what it was, for messages.
        how: how it ended, as a clause.
    """

    def __init__(self, worker: str, how: str) -> None:
        super().__init__(worker, how)
        self.worker = worker
        self.how = how


class Slots:
    """Places for bodies, given to whoever asked first. For one event loop."""

    def __init__(self, places: Iterable[Any]) -> None:
        self._free = list(places)
        self._waiting: deque[Any] = deque()

    async def take(self) -> Any:
        """A place, as soon as there is one."""
        if self._free:
            return self._free.pop()
        from asyncio import get_running_loop  # the loop is running, so this is a look-up

        waiter = get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self.give(waiter.result())
            raise

    def give(self, place: Any) -> None:
        """Give a place back."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(place)
                return
        self._free.append(place)


class Shipment:
    """What a call is told of where its body is executed (``call.elsewhere``), and what its driver awaits.

    Attributes:
        keeps_time: the worker counts the body's time, not the driver.
        spares: retries there are for a worker's death beyond the task's own.
        death: the error that says that the worker died, once it has.
    """

    __slots__ = ("_begun", "_future", "_place", "_runner", "death", "keeps_time", "spares")

    def __init__(self, runner: ShippingTaskRunner, future: Future[Any]) -> None:
        self._runner = runner
        self._future = future
        self._begun = False
        self._place: Any = None
        self.keeps_time = runner.keeps_time
        self.spares = runner.spares
        self.death: WorkerDied | None = None

    async def admitted(self) -> None:
        """Wait for a place (rule 2)."""
        runner, future = self._runner, self._future
        self._place = await runner.slots.take()
        if not self._begun:
            self._begun = True
            with runner.lock:
                begins = runner.begins(future)
            if not begins:
                from asyncio import CancelledError  # the loop is running, so this is a look-up

                raise CancelledError
        future.call.worker = await runner.prepare(self._place)

    async def body(self) -> Any:
        """Execute the body: what it returns, or raises."""
        call = self._future.call
        try:
            reply = await self._runner.execute(self._place, call)
        except Lost as lost:
            self.death = WorkerDied(f"{call.definition.where}: its worker, {lost.worker}, {lost.how} while it ran")
            raise self.death from None
        finally:
            self.gives_back()
        emit(reply.records)
        if reply.late:
            raise TaskRunTimeoutError(
                f"{call.noun} exceeded timeout of {call.definition.options.timeout} second(s)"
            ) from None
        if reply.error is not None:
            raise reply.error
        return reply.value

    def gives_back(self) -> None:
        """The body has ended, or will not begin."""
        place, self._place = self._place, None
        if place is not None:
            self._runner.slots.give(place)

    def close(self) -> None:
        """The call has ended."""
        self.gives_back()
        if not self._begun:
            self._begun = True
            self._runner.leaves_queue()


class ShippingTaskRunner(TaskRunner):
    """The base of runners that execute bodies elsewhere. Subclasses say how (`execute`) and in how many places."""

    ships = True
    keeps_time: ClassVar[bool] = True  # the worker counts a body's time
    ends_bodies: ClassVar[bool] = False  # a body that has begun can be ended
    spares: ClassVar[int] = 0  # retries for a worker's death beyond the task's own
    dumps: Callable[[Any], bytes] = staticmethod(pickle.dumps)

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots(())
        self._driver: LoopThread | None = None
        self._facts: bytes | None = None

    # What durable calls.
    # Of that, what subclasses say.

    async def prepare(self, place: Any) -> str:
        """Make a place ready for a body: the name of what will execute it."""
        raise NotImplementedError

    async def execute(self, place: Any, call: Call) -> Reply:
        """Execute a call's body.

        Raises:
            Lost: what executed it died.
        """
        raise NotImplementedError

    # What a flow and its futures call.

    def submit(self, call: Call) -> Future[Any]:
        """As in `TaskRunner`.

        Raises:
            ConfigurationError: a generator task (rule 5).
        """
        if isinstance(call, GeneratorCall):
            raise ConfigurationError(
                f"{call.definition.where}: a generator task cannot be executed by {type(self).__name__}: each value is "
                "recorded before its consumer has it, which a worker cannot do. Call it in the flow, return a list, "
                "or use ThreadPoolTaskRunner"
            )
        return super().submit(call)

    def cancel(self, future: Future[Any]) -> bool:
        """As in `TaskRunner`; a body that has begun is ended only where its worker can be."""
        with self.lock:
            if not (future.done() or self.ends_bodies) and future.call.kind in (RUNNING, RETRYING):
                return False
        return super().cancel(future)

    # What a shipment calls.

    def leaves_queue(self) -> None:
        """A call that waited for a place has ended without one: its result was recorded, or it was called off."""
        with self.lock:
            self._leaves_queue()

    def parcel(self, call: Call) -> Parcel:
        """What is sent away for a call."""
        if self._facts is None:
            self._facts = flow_facts(call, self.dumps)
        return Parcel.of(call, self._facts, keeps_time=self.keeps_time)

    # How it goes on.

    def _start(self, future: Future[Any]) -> None:
        if self._driver is None:
            self._driver = LoopThread()
        future.loop = self._driver.loop
        future.loop.call_soon_threadsafe(self._launch, future)

    def _launch(self, future: Future[Any]) -> None:
        # On Python 3.10 create_task has no context of its own to be given.
        assert future.context is not None  # noqa: S101 - it has one until it ends
        future.loop_task = future.context.run(future.loop.create_task, self._drive(future))

    async def _drive(self, future: Future[Any]) -> None:
        from asyncio import CancelledError, sleep  # the loop is running, so this is a look-up

        call = future.call
        shipment = call.elsewhere = Shipment(self, future)
        try:
            try:
                state = await drive_async(call)
            finally:
                shipment.close()
        except CancelledError as error:
            with suppress(CancelledError):
                await sleep(0)  # what this turn of the loop was to record is recorded
            if self.is_abandoned() or not was_called_off(self, future):
                self.breaks(future, error)
        except BaseException as error:  # noqa: BLE001 - it is raised to whoever asks for the result
            self.breaks(future, error)
        else:
            self.ends(future, state)

    def _end_waiting(self, future: Future[Any]) -> None:
        with self.lock:
            loop = future.loop
        if loop is None:
            self.end_cancelled(future)
        else:  # its driver has asked the journal, or is about to: it ends the call
            loop.call_soon_threadsafe(self._interrupt, future)

    def _interrupt(self, future: Future[Any]) -> None:
        if future.loop_task is not None:
            # After its first step: a task that is cancelled before that never enters its coroutine.
            future.loop.call_soon(future.loop_task.cancel)

    def _give_up(self) -> None:
        super()._give_up()
        with self.lock:
            driver, unfinished = self._driver, list(self._unfinished)
        if driver is not None:
            from asyncio import run_coroutine_threadsafe  # it is imported: there is a loop

            run_coroutine_threadsafe(_cancelled([f.loop_task for f in unfinished]), driver.loop).result()
        self._close_all()

    def _close_all(self) -> None:
        super()._close_all()
        with self.lock:
            driver, self._driver = self._driver, None
        if driver is not None:
            driver.close()


async def _cancelled(tasks: list[Any]) -> None:
    from asyncio import wait  # the loop is running, so this is a look-up

    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    if running:
        with suppress(ValueError):  # all have ended meanwhile
            await wait(running)
