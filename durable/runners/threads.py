"""The default runner: a bounded pool of threads."""

from __future__ import annotations

import os
import threading
from typing import Any

from durable.drivers import drive, drive_generator
from durable.errors import ConfigurationError
from durable.futures import Future, executing
from durable.generation import GeneratorCall
from durable.runners.base import TaskRunner, collected
from durable.runners.loops import AT_ONCE, was_called_off
from durable.runners.queue import WorkQueue
from durable.settings import setting


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
        self._work = WorkQueue()
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

    def _start(self, future: Future[Any]) -> None:
        with self.lock:
            self._work.put(future)
            if self._idle:
                self._wanted.notify()
            self._add_worker()

    def _add_worker(self) -> None:
        """One more thread, if there is work and room for it. The lock is held."""
        if len(self._work) <= self._idle or self._threads - self._waiting >= self.max_workers:
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
        name = threading.current_thread().name.removeprefix("durable-")
        while (future := self._next()) is not None:
            future.call.worker = name
            assert future.context is not None  # noqa: S101 - it has one until it ends
            future.context.run(self._run, future)
            del future  # or the last one's value lives as long as this thread waits

    def _next(self) -> Future[Any] | None:
        """What this worker does next; None: it is not needed any more."""
        with self.lock:
            while True:
                if self._threads - self._waiting > self.max_workers or (self._over and not self._work):
                    self._threads -= 1
                    self._wanted.notify()  # what woke this one may be another's
                    return None
                if self._work:
                    future = self._work.pop()
                    if self.begins(future):
                        return future
                else:
                    self._idle += 1
                    self._wanted.wait()
                    self._idle -= 1

    def _run(self, future: Future[Any]) -> None:
        call = future.call
        executing.set(future)
        try:
            state = collected(call, list(drive_generator(call))) if isinstance(call, GeneratorCall) else drive(call)
        except BaseException as error:  # noqa: BLE001 - it is raised to whoever asks for the result
            if type(error).__name__ != "CancelledError" or not was_called_off(self, future):
                self.breaks(future, error)
        else:
            self.ends(future, state)

    def _close(self) -> None:
        with self.lock:
            self._over = True
            self._wanted.notify_all()

    def _give_up(self) -> None:
        super()._give_up()
        self._close()  # a thread that comes back from an abandoned body ends
