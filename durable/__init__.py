"""durable: an ordinary batch script with ``@flow`` and ``@task`` that continues where it stopped.

Every task state and result is appended to one local SQLite file, the journal. When the script dies, run the same
command again. ``durable inspect runs.db`` shows what happened.
"""

import importlib as _importlib
import typing as _typing

from durable.version import __version__

# What executes flows is imported when the first of it is asked for: `durable inspect`, a command, does without.
if _typing.TYPE_CHECKING:
    from durable import runtime
    from durable.annotations import allow_failure, quote, unmapped
    from durable.codec import register
    from durable.errors import (
        CancelledRun,
        CodecError,
        ConcurrencyTimeoutError,
        ConfigurationError,
        CorruptPayload,
        DurableError,
        FlowRunCancelled,
        FlowRunInProgress,
        FlowRunTimeoutError,
        GeneratorDiverged,
        InvalidTransition,
        JournalBusy,
        JournalError,
        JournalFailed,
        JournalNotFound,
        JournalNotWritable,
        MappingError,
        MissingContextError,
        NewerJournal,
        NotAJournal,
        NothingToResume,
        NotSerializable,
        ParameterBindError,
        ParameterTypeError,
        RunAbandoned,
        RunFailed,
        SubmittedTaskFailed,
        TaskFailed,
        TaskInterrupted,
        TaskRunTimeoutError,
        TerminationSignal,
        UnfinishedRun,
        Unhashable,
        UnresolvedClass,
        UnsupportedFilesystem,
        WorkerDied,
    )
    from durable.flows import Flow, flow
    from durable.futures import Future
    from durable.journal import close_journals
    from durable.output import get_run_logger
    from durable.settings import configure, temporary_settings
    from durable.states import State, StateType
    from durable.tagging import tags
    from durable.tasks import Task, task


__all__ = [
    "CancelledRun",
    "CodecError",
    "ConcurrencyTimeoutError",
    "ConfigurationError",
    "CorruptPayload",
    "DurableError",
    "Flow",
    "FlowRunCancelled",
    "FlowRunInProgress",
    "FlowRunTimeoutError",
    "Future",
    "GeneratorDiverged",
    "InvalidTransition",
    "JournalBusy",
    "JournalError",
    "JournalFailed",
    "JournalNotFound",
    "JournalNotWritable",
    "MappingError",
    "MissingContextError",
    "NewerJournal",
    "NotAJournal",
    "NotSerializable",
    "NothingToResume",
    "ParameterBindError",
    "ParameterTypeError",
    "RunAbandoned",
    "RunFailed",
    "State",
    "StateType",
    "SubmittedTaskFailed",
    "Task",
    "TaskFailed",
    "TaskInterrupted",
    "TaskRunTimeoutError",
    "TerminationSignal",
    "UnfinishedRun",
    "Unhashable",
    "UnresolvedClass",
    "UnsupportedFilesystem",
    "WorkerDied",
    "__version__",
    "allow_failure",
    "close_journals",
    "configure",
    "flow",
    "get_run_logger",
    "quote",
    "register",
    "runtime",
    "tags",
    "task",
    "temporary_settings",
    "unmapped",
]

# Exports that few programs ask for, and that register no hooks: each is imported by itself.
_APART = {"Future": "durable.futures"}
_SUBMODULES = {"runtime"}

if not _typing.TYPE_CHECKING:  # to a type checker, a module with this function would have any name

    def __getattr__(name: str) -> object:
        """An export, or a submodule; each is asked for once, for it stays."""
        if name in __all__ and name not in _SUBMODULES:
            home = _importlib.import_module(_APART.get(name, "durable.face"))
            value = globals()[name] = getattr(home, name)
            return value
        if name.isidentifier() and not name.startswith("__"):
            try:
                return _importlib.import_module(f"durable.{name}")
            except ModuleNotFoundError as error:
                if error.name != f"durable.{name}":
                    raise
        raise AttributeError(f"module 'durable' has no attribute {name!r}", name=name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
