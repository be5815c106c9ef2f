"""The default runner: a bounded pool of threads."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from durable.drivers import drive, drive_generator
from durable.errors import ConfigurationError
from durable.futures import Future
from durable.generation import GeneratorCall
from durable.runners.base import TaskRunner, collected
from durable.settings import setting

_here = threading.local()  # the pool whose worker this thread is


class ThreadPoolTaskRunner(TaskRunner):
    """Executes task runs in threads of this process. The default; name and argument as in Prefect 3.

    Threads suit tasks that wait (for the network, a disk, a subprocess) or compute in C. A worker that waits for
    another task run gives its place to another thread meanwhile.

    Args:
        max_workers: how many task runs execute at once; by default the setting ``thread_pool_max_workers``, otherwise
            as many as `concurrent.futures` would take, at most 32.

    Raises:
        ConfigurationError: it is no whole number above 0.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        if max_workers is not None and (type(max_workers) is not int or max_workers < 1):
            raise ConfigurationError(
                f"ThreadPoolTaskRunner(max_workers={max_workers!r}): expected a whole number above 0"
            )
        super().__init__()
        self._given = max_workers
        self.max_workers = max_workers or min(32, (os.cpu_count() or 1) + 4)
        self._work: deque[Future[Any]] = deque()
        self._wanted = threading.Condition(self.lock)
        self._threads = 0
        self._idle = 0
        self._waiting = 0  # workers that wait for another task run
        self._over = False

    def duplicate(self) -> ThreadPoolTaskRunner:
        """Another pool of the same size."""
        return ThreadPoolTaskRunner(self._given or setting("thread_pool_max_workers"))

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """The thread that calls this waits: if it is a worker, of any pool, another one takes its place."""
        pool: ThreadPoolTaskRunner | None = getattr(_here, "pool", None)
        if pool is None:
            yield
            return
        pool.one_waits(1)
        try:
            yield
        finally:
            pool.one_waits(-1)

    def one_waits(self, change: int) -> None:
        """A worker begins (1) or ends (-1) to wait for another task run."""
        with self.lock:
            self._waiting += change
            self._add_worker()

    def _start(self, future: Future[Any]) -> None:
        with self.lock:
            self._work.append(future)
            self._wanted.notify()
            self._add_worker()

    def _add_worker(self) -> None:
        """One more thread, if there is work and room for it. The lock is held."""
        if len(self._work) > self._idle and self._threads - self._waiting < self.max_workers:
            self._over = False
            self._threads += 1
            # A daemon: a task that never returns must not keep the process from ending. A resume runs it again.
            threading.Thread(target=self._worker, name=f"durable-worker-{self._threads}", daemon=True).start()

    def _worker(self) -> None:
        _here.pool = self
        name = threading.current_thread().name.removeprefix("durable-")
        while True:
            with self.lock:
                while not self._work or self._threads - self._waiting > self.max_workers:
                    if self._over or self._threads - self._waiting > self.max_workers:
                        self._threads -= 1
                        return
                    self._idle += 1
                    self._wanted.wait()
                    self._idle -= 1
                future = self._work.popleft()
            if self.begins(future):
                future.call.worker = name
                future.context.run(self._run, future)
            del future  # or the last one's value lives as long as this thread waits

    def _run(self, future: Future[Any]) -> None:
        call = future.call
        try:
            state = collected(call, list(drive_generator(call))) if isinstance(call, GeneratorCall) else drive(call)
        except BaseException as error:  # noqa: BLE001 - it is raised to whoever asks for the result
            self.breaks(future, error)
        else:
            self.ends(future, state)

    def _close(self) -> None:
        with self.lock:
            self._over = True
            self._wanted.notify_all()
