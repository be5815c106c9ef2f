"""Any executor of `concurrent.futures` as a task runner."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import BrokenExecutor, Executor
from typing import TYPE_CHECKING, Any, Final

from durable.errors import ConfigurationError
from durable.runners.away import Reply, execute, execute_packed, is_inside, unpacked_reply
from durable.runners.byvalue import cloudpickled
from durable.runners.parcels import Parcel
from durable.runners.shipping import Lost, ShippingTaskRunner, Slots

if TYPE_CHECKING:
    from durable.call import Call
    from durable.futures import Future


class ExecutorTaskRunner(ShippingTaskRunner):
    """Executes task runs in an executor of yours: threads, processes, interpreters, loky, mpi4py.

    The executor is never shut down here. Where it is one of processes, functions are found by name there, and arguments
    and results are pickled. A worker that dies breaks the executor of the standard library as a whole, and all it was
    executing: `ProcessPoolTaskRunner` does not break.

    Args:
        executor: a `concurrent.futures.Executor`, or what has its ``submit``.
        max_workers: how many task runs are handed to it at once; by default as many as it says it has workers, or as
            the machine has CPUs.

    Raises:
        ConfigurationError: it has no ``submit``; `max_workers` is no whole number above 0.
    """

    def __init__(self, executor: Executor, max_workers: int | None = None) -> None:
        super().__init__()
        if not callable(getattr(executor, "submit", None)):
            raise ConfigurationError(f"ExecutorTaskRunner({executor!r}): expected a concurrent.futures.Executor")
        if max_workers is not None and (type(max_workers) is not int or max_workers < 1):
            raise ConfigurationError(
                f"ExecutorTaskRunner(max_workers={max_workers!r}): expected a whole number above 0"
            )
        self.executor = executor
        told = getattr(executor, "_max_workers", None)  # the standard library's and loky's own name for it
        self.max_workers = max_workers or (told if type(told) is int and told > 0 else os.cpu_count() or 1)
        # loky's workers do not import the script; it brings cloudpickle along for that.
        self._by_value = type(executor).__module__.partition(".")[0] == "loky"
        self.slots = Slots(range(1, self.max_workers + 1))

    def duplicate(self) -> ExecutorTaskRunner:
        """Another runner on the same executor."""
        return ExecutorTaskRunner(self.executor, self.max_workers)

    def check_may_block(self, future: Future[Any]) -> None:
        """A body that waits in the executor keeps its worker, so it could wait for ever.

        Raises:
            ConfigurationError: this is the thread of one.
        """
        body = is_inside()
        if body is not None:
            raise ConfigurationError(
                f"{body}: it waits for a submitted task run while it occupies a worker of the executor, which may "
                "never come free. Call the task instead, submit it from the flow, or use ThreadPoolTaskRunner"
            )
        super().check_may_block(future)

    async def prepare(self, place: Any) -> str:
        """Nothing to prepare; which of its workers it will be, an executor does not say."""
        del place
        return f"executor {type(self.executor).__name__}"

    async def execute(self, place: Any, call: Call) -> Reply:
        """As in `ShippingTaskRunner`."""
        from asyncio import wrap_future  # the loop is running, so this is a look-up

        del place
        parcel = self.parcel(call)
        try:
            if self._by_value:
                packed = parcel.packed(cloudpickled, by_value=True)
                return unpacked_reply(await wrap_future(self.executor.submit(execute_packed, packed, cloudpickled)))
            reply: Reply = await wrap_future(self.executor.submit(_execute, parcel))
        except BrokenExecutor as broken:
            worker = f"a worker of {type(self.executor).__name__}"
            raise Lost(worker, f"died or could not begin, and broke the executor ({broken})") from None
        return reply


_watching: Final[set[int]] = set()  # processes whose parent is watched: this one, or none


def _execute(parcel: Parcel | bytes) -> Reply:
    """Execute a body, in a worker of the executor."""
    if isinstance(parcel, bytes):
        _end_with_parent()
    return execute(parcel)


def _end_with_parent() -> None:
    """End this process when its parent is gone: a worker of the standard library's pool would wait for ever."""
    process = sys.modules.get("multiprocessing.process")
    parent = None if process is None else process.parent_process()
    if parent is None or os.getpid() in _watching or not hasattr(signal, "SIGKILL"):
        return
    _watching.clear()
    _watching.add(os.getpid())

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="durable-parent", daemon=True).start()
