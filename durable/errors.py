"""Every error `durable` raises, in one tree.

::

    DurableError                     anything durable itself has to say
    ├── ConfigurationError           an option or setting that cannot be meant (also a ValueError)
    ├── ParameterBindError           arguments that do not fit the function (also a TypeError)
    ├── ParameterTypeError           an argument that is not what a flow's annotation says (also a TypeError)
    ├── InvalidTransition            a state that may not follow another: a bug in durable
    ├── CodecError
    │   ├── NotSerializable          a value the journal could not give back exactly (also a TypeError)
    │   ├── Unhashable               an argument that cannot be part of an identity (also a TypeError)
    │   ├── UnresolvedClass          a recorded class this process does not have
    │   └── CorruptPayload           bytes that are not what was written (also a ValueError)
    ├── JournalError                 about one journal file, which it names
    │   ├── JournalNotFound          no such file, or no such folder
    │   ├── JournalNotWritable       a read-only file or folder
    │   ├── NotAJournal              a file of somebody else's
    │   ├── NewerJournal             written by a later version of durable
    │   ├── UnsupportedFilesystem    a network or pass-through file system
    │   ├── JournalBusy              another process kept the write lock too long
    │   └── JournalFailed            a write's outcome is unknown; the journal object is poisoned
    ├── FlowRunInProgress            a live process already executes this flow run
    ├── NothingToResume              resume="require" found no flow run to continue
    ├── TaskInterrupted              on_interrupt="fail": a person must look before it runs again
    ├── MissingContextError          needs a flow run or a task run around it (also a RuntimeError)
    ├── TaskRunTimeoutError          a task ran longer than its timeout_seconds (also a TimeoutError)
    ├── FlowRunTimeoutError          a flow ran longer than its timeout_seconds (also a TimeoutError)
    ├── ConcurrencyTimeoutError      a named limit had no room within timeout_seconds (also a TimeoutError)
    ├── GeneratorDiverged            a restarted generator does not yield what it had yielded before
    ├── MappingError                 ``.map`` was given nothing to map over, or unequal lengths (also a ValueError)
    ├── RunAbandoned                 the flow run was given up while this part of it was still running
    └── RunFailed                    a run of the user's did not complete
        ├── CancelledRun             the run was called off
        ├── TaskFailed               stands in for a recorded exception that cannot be rebuilt
        ├── WorkerDied               the process that executed it is gone, and its retries are used up
        ├── UnfinishedRun            there is no result, because what it needed did not complete
        └── SubmittedTaskFailed      submitted task runs failed and nobody asked for their results

    TerminationSignal                SIGTERM, raised in the flow so that it can record why it stops (a SystemExit)
    FlowRunCancelled                 `durable cancel`, raised where the next task is called (a BaseException)

Messages name the object (task, run, file), say what was expected, what was found and what to do next.
Every error pickles: its arguments are its constructor's.
"""

from __future__ import annotations


class DurableError(Exception):
    """The root: catch this to catch whatever durable itself reports, never a user's exception."""


class ConfigurationError(DurableError, ValueError):
    """An option, argument or setting that cannot be meant. Raised at decoration or call time, before anything runs."""


class ParameterBindError(DurableError, TypeError):
    """Arguments that do not fit the function's signature. Raised when the call is made, before anything is recorded."""


class ParameterTypeError(DurableError, TypeError):
    """A flow's argument that is not what its annotation says, nor can be made so. Raised before a run exists.

    The value is never told, because it may be a secret.

    Args:
        function: the flow's function, with its file and line.
        parameter: the parameter's name, and the place inside the value: ``days[3]``.
        type_name: what was found there, as ``module.QualName``.
        expected: the annotation of that place.
        detail: what else is known of it, as a clause; may be empty.
    """

    def __init__(self, function: str, parameter: str, type_name: str, expected: str, detail: str = "") -> None:
        super().__init__(function, parameter, type_name, expected, detail)
        self.function = function
        self.parameter = parameter
        self.type_name = type_name
        self.expected = expected
        self.detail = detail

    def __str__(self) -> str:
        found = f"{self.type_name} ({self.detail})" if self.detail else self.type_name
        return (
            f"{self.function}: parameter {self.parameter}: expected {self.expected}, found {found}. Nothing was run. "
            "Pass what fits, or change the annotation; validate_parameters=False leaves arguments alone."
        )


class InvalidTransition(DurableError):
    """A state that may not follow another one. Never a user's fault: please report it."""


class CodecError(DurableError):
    """A value and its bytes do not agree. Catch one of the subclasses."""


class _AtPath:
    """What `NotSerializable` and `Unhashable` say. Their ``args`` are set before this is called."""

    def __init__(self, path: str, type_name: str, reason: str) -> None:
        self.path = path
        self.type_name = type_name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.type_name}: {self.reason}"


class NotSerializable(_AtPath, CodecError, TypeError):
    """A value the codec cannot rebuild exactly, refused when it is written.

    Args:
        path: where in the value, as Python would write it: ``result['rows'][3].conn``.
        type_name: what was found there, as ``module.QualName``.
        reason: why it cannot be recorded, and what to do.
    """


class Unhashable(_AtPath, CodecError, TypeError):
    """A value with no canonical form, so no identity can be computed from it. Arguments as in `NotSerializable`."""


class UnresolvedClass(CodecError):
    """A recorded class that is not in this process, or is no longer of a kind that can be rebuilt.

    Args:
        module: the module recorded with the value.
        qualname: the class's qualified name in that module.
        reason: what was found instead, and what to do.
    """

    def __init__(self, module: str, qualname: str, reason: str) -> None:
        super().__init__(module, qualname, reason)
        self.module = module
        self.qualname = qualname
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.module}:{self.qualname}: {self.reason}"


class CorruptPayload(CodecError, ValueError):
    """Bytes that are not what was written: damaged, truncated, or never durable's."""


class JournalError(DurableError):
    """Something about one journal file.

    Args:
        path: the journal's file, as given.
        reason: what was expected, what was found, and what to do next.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class JournalNotFound(JournalError):
    """No such journal, or no such folder to create it in."""


class JournalNotWritable(JournalError):
    """The file or its folder cannot be written. Choose another with ``DURABLE_JOURNAL`` or ``@flow(journal=...)``."""


class NotAJournal(JournalError):
    """The file is somebody else's: not SQLite, or another program's database. It was not touched."""


class NewerJournal(JournalError):
    """The journal was written by a later version of durable. It was not touched; upgrade durable to write to it."""


class UnsupportedFilesystem(JournalError):
    """The folder is on a network or pass-through file system, where SQLite's write-ahead log can be corrupted."""


class JournalBusy(JournalError):
    """Another process held the journal's write lock longer than the busy timeout. Nothing was written; run again."""


class JournalFailed(JournalError):
    """A write failed in a way that leaves its outcome unknown, so this process writes nothing more to the journal.

    Nothing recorded is lost, unless somebody deleted or cut the journal's files. Mend the cause (disk full, I/O error)
    and run the same command again: the journal then tells what was recorded. Never a reason to retry a task.
    """


class FlowRunInProgress(DurableError):
    """A live process already executes this flow run; a flow run has one owner.

    Args:
        flow_name: the flow's name.
        run_id: the flow run's id.
        owner: pid, host and start time of the process that has it.
    """

    def __init__(self, flow_name: str, run_id: str, owner: str) -> None:
        super().__init__(flow_name, run_id, owner)
        self.flow_name = flow_name
        self.run_id = run_id
        self.owner = owner

    def __str__(self) -> str:
        return (
            f"flow run {self.flow_name} {self.run_id[:7]} is being executed by {self.owner}. "
            "Wait for it to end, or stop that process and run again."
        )


class NothingToResume(DurableError):
    """``resume="require"`` (or ``DURABLE_RESUME=RUN_ID``) found no flow run that may be continued."""


class TaskInterrupted(DurableError):
    """A task marked ``on_interrupt="fail"`` had started when its process died, and has no recorded end.

    Args:
        task_name: the task's name.
        run_id: the task run's id.
        started: when its last attempt began, as text.
    """

    def __init__(self, task_name: str, run_id: str, started: str) -> None:
        super().__init__(task_name, run_id, started)
        self.task_name = task_name
        self.run_id = run_id
        self.started = started

    def __str__(self) -> str:
        return (
            f"task {self.task_name} (task run {self.run_id[:7]}) began {self.started} and its process died before it "
            'ended. It is marked on_interrupt="fail", so it was not run again: check whether its effect happened. To '
            "run it again, set DURABLE_ON_INTERRUPT=retry for one run of the script."
        )


class MissingContextError(DurableError, RuntimeError):
    """Called where there is no flow run or task run, and it needs one. Call it inside a flow or a task."""


class TaskRunTimeoutError(DurableError, TimeoutError):
    """A task's body ran longer than its ``timeout_seconds``. Its run is ``TimedOut``; retries go on after it."""


class FlowRunTimeoutError(DurableError, TimeoutError):
    """A flow's body ran longer than its ``timeout_seconds``. Its run is ``TimedOut``; retries go on after it."""


class ConcurrencyTimeoutError(DurableError, TimeoutError):
    """A named limit had no room within ``timeout_seconds``. In a task it is a failure like others: retries go on."""


class GeneratorDiverged(DurableError):
    """A generator task was restarted to continue where it was, and does not yield what is on record.

    Args:
        task_name: the task's name.
        run_id: the task run's id.
        number: which value differs (1 for the first).
        found: what was found instead.
    """

    def __init__(self, task_name: str, run_id: str, number: int, found: str) -> None:
        super().__init__(task_name, run_id, number, found)
        self.task_name = task_name
        self.run_id = run_id
        self.number = number
        self.found = found

    def __str__(self) -> str:
        return (
            f"generator task {self.task_name} (task run {self.run_id[:7]}) was restarted to continue after what its "
            f"consumer already has, and {self.found} where value {self.number} is on record. A generator task must "
            "yield the same values again: yield in a fixed order, and leave what changes to tasks it calls. To begin "
            "anew instead, start a new flow run (DURABLE_RESUME=never)"
        )


class MappingError(DurableError, ValueError):
    """``.map`` was given no iterable to map over, or iterables of unequal length. Wrap constants in `unmapped`."""


class RunAbandoned(DurableError):
    """A body went on after its flow run was given up (a second Ctrl-C, SIGTERM): nothing more is recorded of it."""


class RunFailed(DurableError):
    """A run of the user's own did not complete, as told by durable. Catch one of the subclasses."""


class CancelledRun(RunFailed):
    """The result was asked of a run that was called off. Borrowed from Prefect 3."""


class UnfinishedRun(RunFailed):
    """A run has no result because it did not run to an end: what it needed failed, or it has not ended yet.

    Args:
        name: what did not run.
        reason: why, naming the runs it waited for.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name} has no result: {self.reason}"


class SubmittedTaskFailed(RunFailed):
    """Task runs that were submitted have failed, and the flow ended without asking for their results.

    Ask for them (``future.result()``), or handle their failure (``future.state``,
    ``future.result(raise_on_failure=False)``). The first failure is the ``__cause__``.

    Args:
        count: how many failed.
        first: the name of the first, and its exception as text.
    """

    def __init__(self, count: int, first: str) -> None:
        super().__init__(count, first)
        self.count = count
        self.first = first

    def __str__(self) -> str:
        runs = "a submitted task run" if self.count == 1 else f"{self.count} submitted task runs"
        which = "" if self.count == 1 else "the first: "
        return f"{runs} failed and nobody asked for the result; {which}{self.first}"


class WorkerDied(RunFailed):
    """The worker process that executed a task's body died: killed, crashed in C code, out of memory, or ``os._exit``.

    The message names the task, the worker, and how it ended. With `retries` a task is tried again on another worker.
    """


class TaskFailed(RunFailed):
    """Stands in for a recorded exception whose class this process cannot rebuild.

    Args:
        type_name: the exception's class as recorded, ``module.QualName``.
        message: ``str()`` of the exception.
        traceback_text: its formatted traceback, as text.
    """

    def __init__(self, type_name: str, message: str, traceback_text: str = "") -> None:
        super().__init__(type_name, message, traceback_text)
        self.type_name = type_name
        self.message = message
        self.traceback_text = traceback_text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}"


class TerminationSignal(SystemExit):
    """SIGTERM reached a process that executes a flow run.

    Raised in the flow's body so that ``finally`` blocks run and the journal records why it stopped; the interpreter
    then exits with the code a shell gives a terminated process (128 + 15).
    """

    def __init__(self, code: int = 143) -> None:
        super().__init__(code)


class FlowRunCancelled(BaseException):
    """Somebody asked for the flow run to be cancelled: raised where the run calls its next task.

    Not an Exception, like asyncio's CancelledError, so that ``except Exception`` in a flow does not swallow it;
    ``finally`` blocks run. The run is recorded as Cancelled, and is never continued by itself.

    Args:
        flow_name: the flow's name.
        run_id: the flow run's id.
    """

    def __init__(self, flow_name: str, run_id: str) -> None:
        super().__init__(flow_name, run_id)
        self.flow_name = flow_name
        self.run_id = run_id

    def __str__(self) -> str:
        return (
            f"flow run {self.flow_name} {self.run_id[:7]} was cancelled. It is not continued by itself; to continue it "
            f"after all: DURABLE_RESUME={self.run_id[:7]}"
        )
