"""What happens to a body in a worker process: it is executed, and a reply is sent back. Nothing is recorded here.

Rules:

1. A worker process never writes to the journal. What the body may ask about its run (`durable.runtime`, the run's
   logger, its tags) came with it as plain facts.
2. A task called in such a body is its plain function: no record, no retries, no limit; one warning a task says so. A
   flow cannot be called there, and nothing can be submitted.
3. What the body logs goes back with the reply, or at once where there is a way (`sink`), and is emitted by the driver.
   So does what it prints, where prints are logged. Threads that the body starts are not followed.
4. An exception goes back as the journal would keep it, so it is in the driver what a resume would give.
5. In the interpreter of the driver itself (an executor of threads) the body is executed in its call, as usual.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from pathlib import Path
from types import GeneratorType
from typing import Any, Final

from durable.codec import decode_exception, encode_exception
from durable.errors import ConfigurationError, MissingContextError, NotSerializable
from durable.logs import root_log
from durable.outcomes import without_engine
from durable.output import printing
from durable.ownership import locks_beside
from durable.runners.parcels import HERE, Parcel
from durable.runs import Scope, current
from durable.timeouts import Limit

Sink = Callable[[dict[str, Any]], Any]
Dumps = Callable[[Any], bytes]

_sink: ContextVar[Sink | None] = ContextVar("durable_log_sink", default=None)
_PLAIN: Final = (str, int, float, type(None))
_warned: set[str] = set()
inside: Final = threading.local()  # `body`: this thread executes one, in the driver's own interpreter


class Reply:
    """How a body ended.

    Attributes:
        value: what it returned.
        error: what it raised, or None.
        late: its time was up.
        records: what was logged, as plain facts, unless it was sent at once.
        worker: the process that executed it, for messages; empty in the driver's own interpreter.
    """

    __slots__ = ("error", "late", "records", "value", "worker")

    def __init__(self, value: Any, error: BaseException | None, late: bool, worker: str) -> None:  # noqa: FBT001 - internal
        self.value = value
        self.error = error
        self.late = late
        self.worker = worker
        self.records: list[dict[str, Any]] = []

    def packed(self, dumps: Dumps) -> bytes:
        """The reply as bytes. A value that cannot be sent becomes an error that says so."""
        error = None if self.error is None else encode_exception(self.error)
        try:
            return dumps((self.value, error, self.late, self.worker, self.records))
        except Exception as refused:  # noqa: BLE001 - a value's pickling may raise anything
            reason = f"pickle refuses it, so it cannot leave its worker process ({type(refused).__name__}: {refused})"
            self.error = NotSerializable("result", type(self.value).__qualname__, reason)
            self.value = None
            return self.packed(dumps)

    def __reduce__(self) -> Any:
        return unpacked_reply, (self.packed(pickle.dumps),)


def unpacked_reply(data: bytes) -> Reply:
    """The reply, in the driver."""
    try:
        value, error, late, worker, records = pickle.loads(data)  # noqa: S301 - from a worker of our own
    except Exception as refused:  # noqa: BLE001 - a value's unpickling may raise anything
        reason = f"it cannot be rebuilt outside of its worker process ({type(refused).__name__}: {refused})"
        return Reply(None, NotSerializable("result", "?", reason), False, "")
    raised = None if error is None else decode_exception(error)
    if raised is not None:
        _note(raised, worker)
    reply = Reply(value, raised, late, worker)
    reply.records = records
    return reply


def _note(error: BaseException, worker: str) -> None:
    """Show the worker's traceback below the driver's."""
    text = vars(error).get("__durable_traceback__")
    if text:
        notes = vars(error).setdefault("__notes__", [])  # add_note, which Python 3.10 does not have
        notes.append(f"In {worker}:\n{text.rstrip()}")


def execute_packed(data: bytes, dumps: Dumps = pickle.dumps, sink: Sink | None = None) -> bytes:
    """Execute a packed parcel; the packed reply."""
    return execute(data, sink).packed(dumps)


def execute(parcel: Parcel | bytes, sink: Sink | None = None) -> Reply:
    """Execute a body. In another process a parcel arrives as bytes."""
    if isinstance(parcel, bytes):
        try:
            parcel = Parcel.unpacked(parcel)
        except BaseException as error:  # noqa: BLE001 - whatever an import or an argument raises is the reply
            without_engine(error)
            return Reply(None, error, False, _here())
    if parcel.home == (HERE, os.getpid()) and parcel.call is not None:
        return copy_context().run(_executed, parcel, parcel.call)
    _catch_records(parcel.level)
    records: list[dict[str, Any]] = []
    reply: Reply = copy_context().run(_executed, parcel, Away(parcel), sink or records.append)
    reply.records = records
    return reply


def _executed(parcel: Parcel, scope: Scope, sink: Sink | None = None) -> Reply:
    current.set(scope)
    _sink.set(sink)
    beside = Path(parcel.journal)
    if beside.parent.is_dir():  # else it is another machine, which has limits of its own
        locks_beside.set(beside)
    limit = None if parcel.timeout is None else Limit(parcel.timeout, parcel.where)
    worker = "" if sink is None else _here()
    if scope.log_prints:
        printing.begin()
    try:
        if sink is None:
            inside.body = parcel.where
        value = _called_async(parcel, limit) if parcel.is_async else _called(parcel, limit)
    except BaseException as error:  # noqa: BLE001 - the driver decides what it means
        without_engine(error)
        return Reply(None, error, limit is not None and limit.ended(error), worker)
    finally:
        inside.body = None
        if scope.log_prints:
            printing.end()
    return Reply(value, None, False, worker)


def _called(parcel: Parcel, limit: Limit | None) -> Any:
    try:
        if limit is not None:
            limit.start(in_coroutine=False)
        value = parcel.fn(*parcel.args, **parcel.kwargs)
        return list(value) if isinstance(value, GeneratorType) else value
    finally:
        if limit is not None:
            limit.stop()


def _called_async(parcel: Parcel, limit: Limit | None) -> Any:
    from asyncio import run  # only for async tasks

    async def main() -> Any:
        try:
            if limit is not None:
                limit.start(in_coroutine=True)
            return await parcel.fn(*parcel.args, **parcel.kwargs)
        finally:
            if limit is not None:
                limit.stop()

    return run(main())


def _here() -> str:
    return f"process {os.getpid()}"


class Away(Scope):
    """The run whose body is executing in this worker process, as plain facts."""

    __slots__ = ("_name", "_view")

    is_away = True
    is_task_run = True

    def __init__(self, parcel: Parcel) -> None:
        flow = AwayFlow(parcel) if parcel.flow_run is not None else None
        # No journal: whoever would write to one in a worker process must not find it.
        super().__init__(bytes.fromhex(parcel.task_run.id), flow, None)  # type: ignore[arg-type]
        self._view = parcel.task_run
        self._name = parcel.task_run.name
        self.log_prints = parcel.log_prints

    @property
    def name(self) -> str:
        """The task run's name."""
        return self._name

    @property
    def callee(self) -> str | None:
        """The task's name."""
        return self._view.task_name

    def view(self) -> Any:
        """The task run, as users are told of it."""
        return self._view

    def context(self) -> Any:
        """There is no task here, only its function.

        Raises:
            MissingContextError: always.
        """
        raise MissingContextError(
            "get_run_context() cannot be had in a worker process: use durable.runtime, which has the run's facts"
        )

    def transaction(self) -> Any:
        """Nothing can be undone later that is not recorded.

        Raises:
            MissingContextError: always.
        """
        raise MissingContextError("a transaction cannot be had in a worker process: open it in the flow")

    def plainly(self, definition: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a task's function (rule 2).

        Raises:
            ConfigurationError: its state was asked for, or that it waits for something.
        """
        if kwargs.keys() & {"return_state", "wait_for"}:
            raise ConfigurationError(
                f"{definition.where}: return_state and wait_for cannot be had in a worker process: a task called "
                "there is a plain function. Submit it from the flow"
            )
        if definition.where not in _warned:
            _warned.add(definition.where)
            root_log.warning(
                "%s is called in a worker process, in the body of %s: it runs as a plain function there, without a "
                "record, retries or a timeout. Submit it from the flow, or use ThreadPoolTaskRunner",
                definition.where,
                self._view.task_name,
            )
        return definition.fn(*args, **kwargs)


class AwayFlow(Scope):
    """The flow run it belongs to."""

    __slots__ = ("_facts", "_name", "flow_name")

    def __init__(self, parcel: Parcel) -> None:
        super().__init__(bytes.fromhex(parcel.task_run.flow_run_id or ""), self, None)  # type: ignore[arg-type]
        self._facts = parcel.flow_run
        self._name, self.flow_name = parcel.flow_name

    @property
    def name(self) -> str:
        """The flow run's name."""
        return self._name

    def view(self) -> Any:
        """The flow run, as users are told of it."""
        return pickle.loads(self._facts or b"")  # noqa: S301 - from the driver

    def running(self) -> Any:
        """There is no task runner here.

        Raises:
            MissingContextError: always.
        """
        raise MissingContextError(
            "nothing can be submitted in a worker process: the task runner is in the driver. Submit it from the flow"
        )


# What is logged.


class _Catcher(logging.Handler):
    """Hands what a body logs to its sink; leaves everything else to whoever would have shown it."""

    def emit(self, record: logging.LogRecord) -> None:
        sink = _sink.get()
        if sink is not None:
            sink(facts_of(record))
        elif logging.root.handlers == [self] and logging.lastResort is not None:
            logging.lastResort.handle(record)


_catcher: Final = _Catcher()


def _catch_records(level: int) -> None:
    if _catcher not in logging.root.handlers:
        logging.root.addHandler(_catcher)
    root_log.setLevel(level)


def facts_of(record: logging.LogRecord) -> dict[str, Any]:
    """A log record as plain facts: its message formatted, its exception as text."""
    facts = {name: value for name, value in vars(record).items() if isinstance(value, _PLAIN)}
    facts["msg"], facts["args"], facts["exc_info"] = record.getMessage(), None, None
    if record.exc_info and not record.exc_text:
        facts["exc_text"] = logging.Formatter().formatException(record.exc_info)
    return facts


def emit(records: list[dict[str, Any]]) -> None:
    """Log, in the driver, what was logged in a worker."""
    for facts in records:
        record = logging.makeLogRecord(facts)
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)


def is_inside() -> str | None:
    """The body that this thread executes for an executor of threads, or None."""
    return getattr(inside, "body", None)


def die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when the thread that started it is gone, even if a body holds the GIL."""
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it died before
            os.kill(os.getpid(), signal.SIGKILL)
