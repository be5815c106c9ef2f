"""durable: an ordinary batch script with ``@flow`` and ``@task`` that continues where it stopped.

Every task state and result is appended to one local SQLite file, the journal. When the script dies, run the same
command again. ``durable inspect runs.db`` shows what happened.
"""

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
from durable.version import __version__

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
