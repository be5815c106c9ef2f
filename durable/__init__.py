"""durable: an ordinary batch script with ``@flow`` and ``@task`` that continues where it stopped.

Every task state and result is appended to one local SQLite file, the journal. When the script dies, run the same
command again. ``durable inspect runs.db`` shows what happened.
"""

from durable import runtime
from durable.codec import register
from durable.errors import (
    CodecError,
    ConfigurationError,
    CorruptPayload,
    DurableError,
    FlowRunInProgress,
    FlowRunTimeoutError,
    InvalidTransition,
    JournalBusy,
    JournalError,
    JournalFailed,
    JournalNotFound,
    JournalNotWritable,
    MissingContextError,
    NewerJournal,
    NotAJournal,
    NothingToResume,
    NotSerializable,
    ParameterBindError,
    TaskFailed,
    TaskInterrupted,
    TaskRunTimeoutError,
    TerminationSignal,
    Unhashable,
    UnresolvedClass,
    UnsupportedFilesystem,
)
from durable.flows import Flow, flow
from durable.journal import close_journals
from durable.output import get_run_logger
from durable.settings import configure, temporary_settings
from durable.states import State, StateType
from durable.tagging import tags
from durable.tasks import Task, task
from durable.version import __version__

__all__ = [
    "CodecError",
    "ConfigurationError",
    "CorruptPayload",
    "DurableError",
    "Flow",
    "FlowRunInProgress",
    "FlowRunTimeoutError",
    "InvalidTransition",
    "JournalBusy",
    "JournalError",
    "JournalFailed",
    "JournalNotFound",
    "JournalNotWritable",
    "MissingContextError",
    "NewerJournal",
    "NotAJournal",
    "NotSerializable",
    "NothingToResume",
    "ParameterBindError",
    "State",
    "StateType",
    "Task",
    "TaskFailed",
    "TaskInterrupted",
    "TaskRunTimeoutError",
    "TerminationSignal",
    "Unhashable",
    "UnresolvedClass",
    "UnsupportedFilesystem",
    "__version__",
    "close_journals",
    "configure",
    "flow",
    "get_run_logger",
    "register",
    "runtime",
    "tags",
    "task",
    "temporary_settings",
]
