"""The default runner: a bounded pool of threads.

When a task run has ended, its worker takes the next one at once, and the end of the one and the start of the other are
committed together: a worker then waits once a task, and not twice. The next one begins once the commit is done, as
always. Rules:

1. Only what starts plainly is taken in advance: nothing is looked up or waited for before its body begins, and it may
   be executed again if the process dies in between. And only while no worker is idle, and if no hook is told of the end
   of the other.
2. What was taken is nobody else's until its worker might not come to it: before a callback is called, which may wait
   for it, and when the worker ends. Then it goes back to the queue, with the start it has.
"""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from durable.drivers import drive, drive_generator
from durable.errors import ConfigurationError
from durable.futures import Future, executing
from durable.generation import GeneratorCall
from durable.journal import Entry
from durable.runners.base import TaskRunner, collected
from durable.runners.loops import AT_ONCE, was_called_off
from durable.runners.queue import WorkQueue
from durable.settings import setting
from durable.states import State

if TYPE_CHECKING:
    from durable.call import Call


# A task run to be executed; and its start, if that was queued for the journal in advance, or what was raised instead.
# A plain tuple: one of a class of its own is made by a function.
_Work = tuple[Future[Any], Entry | BaseException | None]


class _Worker:
    """One thread.

    Attributes:
        name: what its task runs are recorded with.
        taken: what it does next, in advance.
    """

    __slots__ = ("name", "taken")

    def __init__(self) -> None:
        self.name = threading.current_thread().name.removeprefix("durable-")
        self.taken: _Work | None = None


class ThreadPoolTaskRunner(TaskRunner):
    """Executes task runs in threads of this process. The default; name and argument as in Prefect 3.

    Threads suit tasks that wait (for the network, a disk, a subprocess) or compute in C. A worker that waits for
    another task run gives its place to another thread meanwhile.

    Args:
        max_workers: how many task runs execute at once; by default the setting ``thread_pool_max_workers``, otherwise
            as many as `concurrent.futures` would take, at most 32. Async tasks need no thread: of them so many execute
            at once besides, by default 1,000.

    Raises:
        ConfigurationError: it is no whole number above 0.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        if max_workers is not None and (type(max_workers) is not int or max_workers < 1):
            raise ConfigurationError(
                f"ThreadPoolTaskRunner(max_workers={max_workers!r}): expected a whole number above 0"
            )
        super().__init__(AT_ONCE if max_workers is None else max_workers)
        self._given = max_workers
        self.max_workers = max_workers or min(32, (os.cpu_count() or 1) + 4)
        self._work: WorkQueue[_Work] = WorkQueue()
        self._wanted = threading.Condition(self.lock)
        self._threads = 0
        self._idle = 0
        self._waiting = 0  # workers that wait for another task run
        self._over = False

    def duplicate(self) -> ThreadPoolTaskRunner:
        """Another pool of the same size."""
        return ThreadPoolTaskRunner(self._given or setting("thread_pool_max_workers"))

    def _place_given_up(self, change: int) -> None:
        self._waiting += change
        self._add_worker()

    def _start(self, future: Future[Any], begun: Entry | BaseException | None = None) -> None:
        self._work.put((future, begun), future.depth)
        if self._idle:
            self._wanted.notify()
        self._add_worker()

    def _add_worker(self) -> None:
        """One more thread, if there is work and room for it. The lock is held."""
        if self._work.size <= self._idle or self._threads - self._waiting >= self.max_workers:
            return
        self._over = False
        self._threads += 1
        # A daemon: a task that never returns must not keep the process from ending. A resume runs it again.
        thread = threading.Thread(target=self._worker, name=f"durable-worker-{self._threads}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the machine has no more threads
            self._threads -= 1
            if self._threads == self._waiting:
                raise

    def _worker(self) -> None:
        worker = _Worker()
        try:
            while (work := self._next(worker)) is not None:
                context = work[0].context
                assert context is not None  # noqa: S101 - it has one until it ends
                context.run(self._run, worker, *work)
                del work, context  # or the last one's value lives as long as this thread waits
        finally:
            self._give_back(worker)

    def _next(self, worker: _Worker) -> _Work | None:
        """What this worker does next; None: it is not needed any more."""
        work, worker.taken = worker.taken, None
        if work is not None:
            return work
        with self.lock:
            while True:
                if self._threads - self._waiting > self.max_workers or (self._over and not self._work.size):
                    self._threads -= 1
                    self._wanted.notify()  # what woke this one may be another's
                    return None
                if self._work.size:
                    future, begun = work = self._work.pop()
                    if begun is not None:
                        return work
                    if self.begins(future):
                        future.call.worker = worker.name
                        return work
                else:
                    self._idle += 1
                    self._wanted.wait()
                    self._idle -= 1

    def _take(self, worker: _Worker, ending: Call) -> None:
        """The end of a task run is about to be committed: have the start of the worker's next one go along."""
        if ending.unit is not None or ending.definition.options.hooks.any:
            return
        with self.lock:
            if self._idle or not self._work.size or self._threads - self._waiting > self.max_workers:
                return
            future, begun = work = self._work.pop()
            if begun is not None or not (future.cancelling or _starts_plainly(future.call)):
                self._work.put_back(work)
                return
            if not self.begins(future):
                return  # it was called off meanwhile, and is only taken out of the queue
            call = future.call
            call.worker = worker.name
        assert future.context is not None  # noqa: S101 - as above
        try:
            entry = future.context.run(call.started)
            assert entry is not None  # noqa: S101 - the start of a task is recorded
            call.journal.queue(entry)
            worker.taken = future, entry
        except BaseException as error:  # noqa: BLE001 - it is this run's, and not that of the one that ends
            worker.taken = future, error

    def _give_back(self, worker: _Worker) -> None:
        """Let another worker do what this one has taken."""
        work, worker.taken = worker.taken, None
        if work is not None:
            with self.lock:
                self._start(*work)

    def _run(self, worker: _Worker, future: Future[Any], begun: Entry | BaseException | None) -> None:
        call = future.call
        executing.set(future)
        state: State[Any]
        try:
            if isinstance(begun, BaseException):
                call.close()
                raise begun  # noqa: TRY301 - it ends like what a body raises
            if isinstance(call, GeneratorCall):
                state = collected(call, list(drive_generator(call)))
            else:
                state = drive(call, begun, partial(self._take, worker, call))
        except BaseException as error:  # noqa: BLE001 - it is raised to whoever asks for the result
            self._lets_wait(worker, future)
            if type(error).__name__ != "CancelledError" or not was_called_off(self, future):
                self.breaks(future, error)
        else:
            self._lets_wait(worker, future)
            self.ends(future, state)

    def _lets_wait(self, worker: _Worker, future: Future[Any]) -> None:
        """It is about to end: those who asked to be called back may wait for what this worker has taken (rule 2)."""
        if worker.taken is not None and future.is_watched:
            self._give_back(worker)

    def _close(self) -> None:
        with self.lock:
            self._over = True
            self._wanted.notify_all()

    def _give_up(self) -> None:
        super()._give_up()
        self._close()  # a thread that comes back from an abandoned body ends


def _starts_plainly(call: Call) -> bool:
    """Rule 1."""
    if call.gated or call.unit is not None or call.parent.has_history or isinstance(call, GeneratorCall):
        return False
    return not call.definition.looks_up and call.definition.options.on_interrupt != "fail"
