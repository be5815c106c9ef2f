"""A pool of worker processes, each with a thread of the driver that talks to it.

The standard library's pool breaks as a whole when one worker dies, pebble's does not say which worker has which task
and polls, and neither streams log records; so this one is durable's own. Rules:

1. A worker is a fresh interpreter (``spawn``), executes one body at a time on its main thread, and is used again.
2. A body that must end (its time is up, it is cancelled, it is abandoned) is ended with its process, by SIGKILL. The
   next body finds a new one.
3. A worker ends with the driver, however that ends: a thread watches the pipe, and Linux is asked besides.
4. Ctrl-C in a terminal reaches workers too, and means nothing to them: the driver decides.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from durable.errors import ConfigurationError
from durable.locks import ProcessLock
from durable.logs import root_log
from durable.runners.away import Reply, die_with_parent, emit, execute_packed, unpacked_reply
from durable.runners.shipping import Lost, ShippingTaskRunner, Slots

if TYPE_CHECKING:
    from durable.call import Call

_READY, _REPLY, _LOG, _BROKEN = b"R", b"V", b"L", b"B"
_LOOK: Final = 1.0  # seconds between two looks at whether a silent worker lives: a child of it may hold its pipe open
_PATIENCE: Final = 5.0  # seconds an idle worker has to end
_starting: Final = ProcessLock()


class ProcessPoolTaskRunner(ShippingTaskRunner):
    """Executes task runs in worker processes; the driver journals for them. Name and argument as in Prefect 3.

    Processes suit tasks that compute in Python, or that may crash: a worker that dies fails or retries its own task,
    never another. Functions are found by name in the worker, so the script needs ``if __name__ == "__main__":``;
    arguments and results are pickled.

    Args:
        max_workers: how many processes there are; by default as many as CPUs.
        initializer: called in each worker before its first task.
        initargs: its arguments.

    Raises:
        ConfigurationError: an argument that cannot be meant.
    """

    keeps_time = False  # a worker is killed when its time is up
    ends_bodies = True

    def __init__(
        self,
        max_workers: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        super().__init__()
        if max_workers is not None and (type(max_workers) is not int or max_workers < 1):
            raise ConfigurationError(
                f"ProcessPoolTaskRunner(max_workers={max_workers!r}): expected a whole number above 0"
            )
        if initializer is not None and not callable(initializer):
            raise ConfigurationError(f"ProcessPoolTaskRunner(initializer={initializer!r}): expected a callable")
        self.max_workers = max_workers or os.cpu_count() or 1
        self.initializer = initializer
        self.initargs = initargs
        self._workers = [Worker(initializer, initargs) for _ in range(self.max_workers)]
        self.slots = Slots(reversed(self._workers))

    def duplicate(self) -> ProcessPoolTaskRunner:
        """Another pool of the same size."""
        return ProcessPoolTaskRunner(self.max_workers, self.initializer, self.initargs)

    async def prepare(self, place: Worker) -> str:
        """The worker's process lives: its name."""
        name: str = await place.asked(place.ready)
        return name

    async def execute(self, place: Worker, call: Call) -> Reply:
        """As in `ShippingTaskRunner`."""
        from asyncio import CancelledError  # the loop is running, so this is a look-up

        try:
            reply: Reply = await place.asked(place.exchange, self.parcel(call).packed(self.dumps))
        except CancelledError:
            place.kill()
            raise
        return reply

    def _close(self) -> None:
        for worker in self._workers:
            worker.end()
        for worker in self._workers:
            worker.ended()


class Worker:
    """One worker process after the other, and the thread that talks to them."""

    def __init__(self, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]) -> None:
        self._initializer = initializer
        self._initargs = initargs
        self._jobs: Any = None
        self._thread: threading.Thread | None = None
        self._process: Any = None
        self._connection: Any = None

    # On the event loop.

    def asked(self, job: Callable[..., Any], *args: Any) -> Any:
        """A future of what `job` gives, called in this worker's thread after what was asked for before."""
        from asyncio import get_running_loop  # the loop is running, so this is a look-up
        from queue import SimpleQueue

        loop = get_running_loop()
        future = loop.create_future()
        if self._thread is None:
            self._jobs = SimpleQueue()
            # A daemon: it must not keep the process from ending, and its worker ends with the process.
            self._thread = threading.Thread(target=self._run, name="durable-worker-talk", daemon=True)
            self._thread.start()
        self._jobs.put((loop, future, job, args))
        return future

    def kill(self) -> None:
        """End the process, and the body in it."""
        if self._process is not None:
            self._process.kill()

    # When nothing is asked any more.

    def end(self) -> None:
        """Begin to end."""
        if self._jobs is not None:
            self._jobs.put(None)

    def ended(self) -> None:
        """Wait until it has."""
        if self._thread is not None:
            self._thread.join()
            self._thread = self._jobs = None

    # In the thread. Linux ties a process to the thread that started it, so this one lives as long.

    def _run(self) -> None:
        while (asked := self._jobs.get()) is not None:
            loop, future, job, args = asked
            try:
                found, error = job(*args), None
            except BaseException as raised:  # noqa: BLE001 - it is raised to whoever asked
                found, error = None, raised
            with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
                loop.call_soon_threadsafe(_settle, future, found, error)
            del asked, loop, future, job, args, found, error
        self._stop()

    def ready(self) -> str:
        """Start a process unless there is one; its name.

        Raises:
            ConfigurationError: it cannot begin, or its initializer raised.
        """
        if self._process is None or not self._process.is_alive():
            self._begin()
        return self._name()

    def exchange(self, parcel: bytes) -> Reply:
        """Send a parcel and wait for the reply.

        Raises:
            Lost: the worker died.
        """
        try:
            self._connection.send_bytes(parcel)
            _, reply = self._receive()
        except (OSError, EOFError):
            raise Lost(self._name(), self._how()) from None
        return unpacked_reply(reply)

    def _begin(self) -> None:
        import multiprocessing  # `import durable` does without

        self._stop()
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        given = os.getpid(), logging.root.level, root_log.getEffectiveLevel(), self._initializer, self._initargs
        self._process = context.Process(target=serve, args=(theirs, *given), name="durable-worker")
        try:
            with _starting:
                self._process.start()
        except Exception as error:
            self._process = None
            raise ConfigurationError(
                f"ProcessPoolTaskRunner: no worker process can be started ({type(error).__name__}: {error}). A script "
                'that starts workers calls its flow under `if __name__ == "__main__":`'
            ) from error
        finally:
            theirs.close()
        try:
            kind, message = self._receive()
        except (OSError, EOFError):
            raise ConfigurationError(
                f"ProcessPoolTaskRunner: {self._name()} {self._how()} before it was ready. It imports the script "
                'first: call the flow under `if __name__ == "__main__":` there'
            ) from None
        if kind == _BROKEN:
            self._stop()
            raise ConfigurationError(
                f"ProcessPoolTaskRunner: its initializer raised in the worker process: {message.decode()}"
            )

    def _receive(self) -> tuple[bytes, bytes]:
        """The next message but log records, which are emitted as they come."""
        while True:
            while not self._connection.poll(_LOOK):
                if not self._process.is_alive() and not self._connection.poll(0):
                    raise EOFError
            message = self._connection.recv_bytes()
            if message[:1] != _LOG:
                return message[:1], message[1:]
            emit([pickle.loads(message[1:])])  # noqa: S301 - from a worker of our own

    def _stop(self) -> None:
        """End the process, which is idle or dead. Not closed: at the exit multiprocessing may be looking at it."""
        process, self._process = self._process, None
        if process is None:
            return
        self._connection.close()
        process.join(_PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()

    def _name(self) -> str:
        return f"process {self._process.pid}"

    def _how(self) -> str:
        self._process.join(_PATIENCE)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            return "closed its pipe"
        return f"was killed by {_signal_name(-code)}" if code < 0 else f"exited with code {code}"


def _settle(future: Any, found: Any, error: BaseException | None) -> None:
    if future.done():  # cancelled
        return
    if error is None:
        future.set_result(found)
    else:
        future.set_exception(error)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# In the worker process.


def serve(
    connection: Any, parent: int, root_level: int, level: int, initializer: Callable[..., Any] | None, initargs: Any
) -> None:
    """Execute what comes through the pipe, until it is closed."""
    from queue import SimpleQueue

    die_with_parent(parent)
    signal.signal(signal.SIGINT, _ignored)  # no SIG_IGN: processes that a body starts would inherit that
    logging.root.setLevel(root_level)
    root_log.setLevel(level)
    sending = threading.Lock()

    def send(kind: bytes, message: bytes) -> None:
        with sending:
            connection.send_bytes(kind + message)

    parcels: SimpleQueue[bytes | None] = SimpleQueue()
    busy = threading.Event()
    threading.Thread(target=_read, args=(connection, parcels, busy), name="durable-pipe", daemon=True).start()
    if initializer is not None:
        try:
            initializer(*initargs)
        except Exception as error:  # noqa: BLE001 - whatever it raises is told
            send(_BROKEN, f"{type(error).__name__}: {error}".encode())
            return
    send(_READY, b"")
    while (parcel := parcels.get()) is not None:
        busy.set()
        reply = execute_packed(parcel, pickle.dumps, lambda facts: send(_LOG, pickle.dumps(facts)))
        busy.clear()
        send(_REPLY, reply)


def _read(connection: Any, parcels: Any, busy: threading.Event) -> None:
    with suppress(OSError, EOFError):
        while True:
            parcels.put(connection.recv_bytes())
    if busy.is_set():  # the driver is gone (rule 3)
        os.kill(os.getpid(), signal.SIGKILL)
    parcels.put(None)


def _ignored(number: int, frame: Any) -> None:
    """Rule 4."""
